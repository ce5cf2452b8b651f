"""The replay of recorded events: contract lines in, one line per tick out."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import pytest

from backout.model.signals import Counts, RouteCounts
from backout.runbook.replay import Second, replay

if TYPE_CHECKING:
    from collections.abc import Iterator

T = 1_760_000_000.25


def line(**what: object) -> bytes:
    return json.dumps(what).encode() + b"\n"


def start(split: float = 1.0) -> bytes:
    return line(type="start", deploy_ts=T, old="v1", new="v2", split=split, watch_s=900)


def request(ts: float, version: str, *, latency_ms: float = 80.0, **what: object) -> bytes:
    fields = {"ts": ts, "version": version, "outcome": "ok", "status": 200, "latency_ms": latency_ms, "route": "/app"}
    return line(**{**fields, **what})


def watch(seconds: int, baseline_s: int = 900, rate: int = 5, **bad: object) -> Iterator[bytes]:
    """Yield the lines of a cut-over in which the new version answers with `bad`."""
    rng = random.Random(7)  # noqa: S311 a simulation
    yield start()
    for t in range(-baseline_s, seconds):
        for i in range(rate):
            what = bad if t >= 0 else {}
            yield request(T + t + i / rate, "v2" if t >= 0 else "v1", latency_ms=rng.lognormvariate(4.4, 0.4), **what)
        if t >= 0:
            yield line(type="tick", ts=T + t + 1)


def answers(lines: Iterator[bytes] | list[bytes]) -> tuple[int, list[dict[str, object]]]:
    written: list[str] = []
    code = replay(lines, written.append)
    assert all(text.endswith("\n") and text.count("\n") == 1 for text in written)
    return code, [json.loads(text) for text in written]


def test_every_tick_is_answered_with_its_own_time() -> None:
    """One line per tick with ts, verdict and reason, and nothing else."""
    code, found = answers(watch(30))
    assert code == 0
    assert [a["ts"] for a in found] == [T + t + 1 for t in range(30)]
    assert all(set(a) == {"ts", "verdict", "reason"} for a in found)
    assert {a["verdict"] for a in found} == {"continue"}


@pytest.mark.parametrize("bad", [{"status": 500}, {"outcome": "exception"}, {"outcome": "exceededCpu", "status": None}])
def test_a_rollback_comes_within_seconds_and_stays(bad: dict[str, object]) -> None:
    """A 5xx and every outcome but ok is an error; after the verdict each tick repeats it."""
    _, found = answers(watch(30, **bad))
    verdicts = [a["verdict"] for a in found]
    first = verdicts.index("rollback")
    assert first < 5
    assert set(verdicts[first:]) == {"rollback"}
    assert len({a["reason"] for a in found[first:]}) == 1


@pytest.mark.parametrize("fine", [{"status": 404}, {"outcome": "canceled"}, {"status": 499}])
def test_client_errors_and_canceled_requests_are_no_errors(fine: dict[str, object]) -> None:
    """4xx says something about the client; canceled counts neither way."""
    _, found = answers(watch(60, **fine))
    assert "rollback" not in {a["verdict"] for a in found}


def test_healthy_comes_late_and_only_with_evidence() -> None:
    """Never in the first ten minutes of fifteen (a leak takes time), then it does."""
    _, found = answers(watch(700))
    verdicts = [a["verdict"] for a in found]
    assert "healthy" not in verdicts[:599]
    assert verdicts[-1] == "healthy"


def test_healthy_is_not_final() -> None:
    """A version that turns bad after "healthy" is rolled back all the same."""
    lines = list(watch(650))
    for t in range(650, 700):
        lines += [request(T + t + i / 5, "v2", status=503) for i in range(5)]
        lines.append(line(type="tick", ts=T + t + 1))
    _, found = answers(lines)
    assert found[649]["verdict"] == "healthy"
    assert found[-1]["verdict"] == "rollback"


def test_a_second_has_its_routes() -> None:
    """Each under its plain name, as a part of the whole; a request without a route is in the whole alone."""
    second = Second()
    second.canceled = 2
    for written, requests, errors in (("/app", 3, 1), ("/app?x=1", 1, 0), (None, 2, 1), ("", 1, 0), ("a\x1bb", 1, 1)):
        part = second.of(written)
        part.requests, part.errors, part.latency = requests, errors, {90: requests}
    routes = {"/app": RouteCounts(4, 1, {90: 4}), "other": RouteCounts(1, 1, {90: 1})}
    assert second.as_model("v", 7) == Counts("v", 7, 8, 3, 2, {90: 8}, routes)


def test_thousands_of_routes_in_a_second_stay_few() -> None:
    """The most used keep their names, nothing is lost of the whole."""
    second = Second()
    for number in range(5000):
        second.of(f"/junk-{number}").requests += 1
        second.of("/app").requests += 1
    row = second.as_model("v", 7)
    assert row.requests == 10_000
    assert len(row.routes) == 33
    assert row.routes["/app"].requests == 5000
    assert sum(route.requests for route in row.routes.values()) == 10_000


@pytest.mark.parametrize("route", [None, "", "x" * 100_000, "/%00\u202e", "/app"])
def test_whatever_the_route_the_request_counts(route: str | None) -> None:
    """A route is a detail: no text of it, and none at all, costs a request."""
    _, found = answers(watch(30, route=route, status=500))
    assert found[-1]["verdict"] == "rollback"


def test_what_cannot_be_read_is_passed_over_and_counted() -> None:
    """Broken JSON, wrong types, missing fields, absurd numbers: no answer changes, one remark at the end."""
    good = list(watch(20, status=500))
    junk = [
        b"{",
        b"[]\n",
        b"\xff\xfe\n",
        b'"text"\n',
        line(ts="soon", version="v2", outcome="ok"),
        line(ts=T + 1),
        line(type="tick"),
        line(type="start", deploy_ts=T, old="v1", new="v2", split=0),
        line(type="unknown", ts=T),
        line(ts=1e300, version="v2", outcome="ok", latency_ms=1e300),
    ]
    remarks: list[str] = []
    mixed = [good[0], *(part for pair in zip(good[1:], junk * 1000, strict=False) for part in pair)]
    written: list[str] = []
    assert replay(mixed, written.append, warn=remarks.append) == 0
    assert [json.loads(text) for text in written] == answers(good)[1]
    assert remarks == [f"{len(good) - 1} lines could not be read and were passed over"]


@pytest.mark.parametrize("lines", [[], [b"\n"], [start()], [start(), line(type="tick", ts=T + 1)], [b"nonsense\n"]])
def test_no_request_at_all_is_exit_7(lines: list[bytes]) -> None:
    """Nothing was read: nothing is claimed; ticks are answered with `continue`."""
    code, found = answers(lines)
    assert code == 7
    assert {a["verdict"] for a in found} <= {"continue"}


def test_odd_latencies_are_counted_not_fatal() -> None:
    """Zero, negative, enormous and missing latencies."""
    lines = [start()]
    for t in range(-100, 0):
        lines += [request(T + t, "v1", latency_ms=value) for value in (0.0, -3.0, 1e18)]
        lines.append(request(T + t, "v1", latency_ms=None))  # type: ignore[arg-type]
    lines += [request(T + 0.5, "v2", latency_ms=1e18), line(type="tick", ts=T + 1)]
    code, found = answers(lines)
    assert code == 0
    assert found[0]["verdict"] == "continue"


def test_a_baseline_without_any_request_falls_back_to_the_slo() -> None:
    """The contract allows an empty baseline; total failure is still found at once."""
    _, found = answers(watch(10, baseline_s=0, status=500))
    assert "rollback" in {a["verdict"] for a in found[:5]}
    assert "SLO" in str(found[-1]["reason"])


def test_a_shared_outage_beside_the_old_version_is_left_alone() -> None:
    """Half of the traffic each, both fail 20 % for two minutes: not the deployment."""
    rng = random.Random(11)  # noqa: S311 a simulation
    lines = [start(split=0.5)]
    for t in range(-900, 300):
        failing = 0.2 if 60 <= t < 180 else 0.0005
        for i in range(5):
            version = "v2" if t >= 0 and rng.random() < 0.5 else "v1"
            status = 500 if rng.random() < failing else 200
            lines.append(request(T + t + i / 5, version, latency_ms=rng.lognormvariate(4.4, 0.4), status=status))
        if t >= 0:
            lines.append(line(type="tick", ts=T + t + 1))
    _, found = answers(lines)
    assert "rollback" not in {a["verdict"] for a in found}
