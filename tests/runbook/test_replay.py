"""The replay of recorded events: contract lines in, one line per tick out."""

from __future__ import annotations

import json
import random
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backout.model.guard.policy import Policy
from backout.model.guard.signals import Counts, RouteCounts, find_bucket
from backout.runbook.hindsight.replay import Kind, Second, replay

from extent import by_extent, examples, long

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

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


def answers(blocks: Iterable[bytes], remarks: list[str] | None = None) -> tuple[int, list[dict[str, object]]]:
    written: list[str] = []
    code = replay(blocks, written.append, warn=None if remarks is None else remarks.append)
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


def test_visitors_who_leave_are_no_slower_version() -> None:
    """Recorded: pages ten times a second before; since then an order and a file twice a second, slow as ever."""
    rng = random.Random(9)  # noqa: S311 a simulation
    usual = {"GET /": 4.0, "POST /api/orders": 6.0, "POST /api/files": 8.0}

    def recorded(slower: float) -> Iterator[bytes]:
        yield start()
        for t in range(-600, 120):
            version = "v2" if t >= 0 else "v1"
            names = ["GET /"] * 10 * (t < 0) + ["POST /api/orders", "POST /api/files"] * (t >= 0 or t % 5 == 0)
            for name in names * (1 if t < 0 else 2):
                latency_ms = rng.lognormvariate(usual[name], 0.3) * (slower if t >= 0 else 1)
                yield request(T + t + rng.random() * 0.7, version, route=name, latency_ms=latency_ms)
            if t >= 0:
                yield line(type="tick", ts=T + t + 1)

    assert {each["verdict"] for each in answers(recorded(1.0))[1]} == {"continue"}
    assert "rollback" in {each["verdict"] for each in answers(recorded(2.0))[1]}


def test_latency_counts_from_the_first_second_on_without_a_configuration() -> None:
    """What is recorded can be read again: no slow start is forgiven, as by a guard that is armed."""

    def slow(lines: Iterable[bytes]) -> Iterator[bytes]:
        for text in lines:
            told = json.loads(text)
            yield line(**{**told, "latency_ms": 2 * told["latency_ms"]}) if told.get("version") == "v2" else text

    _, found = answers(slow(watch(30)))
    verdicts = [a["verdict"] for a in found]
    assert "rollback" in verdicts[:10]
    patient: list[str] = []
    replay(slow(watch(30)), patient.append, Policy())
    assert all(json.loads(text)["verdict"] == "continue" for text in patient)


@pytest.mark.parametrize("fine", [{"status": 404}, {"outcome": "canceled"}, {"status": 499}])
def test_client_errors_and_canceled_requests_are_no_errors(fine: dict[str, object]) -> None:
    """4xx says something about the client; canceled counts neither way."""

    def some(lines: Iterable[bytes]) -> Iterator[bytes]:
        for number, text in enumerate(lines):
            yield line(**{**json.loads(text), **fine}) if b'"v2", "outcome"' in text and number % 4 == 0 else text

    _, found = answers(some(watch(60)))
    assert "rollback" not in {a["verdict"] for a in found}


SHOP = {"GET /": 6, "GET /app": 8, "GET /api/items": 5, "POST /login": 1}
"""Requests a second by route; an order comes every tenth second."""


def shop(seconds: int, split: float = 1.0, baseline_s: int = 600, **bad: dict[str, object]) -> Iterator[bytes]:
    """Yield the lines of a watch in which the new version answers a route (or `all`) with something else."""
    yield start(split)
    for t in range(-baseline_s, seconds):
        routes = [name for name, rate in SHOP.items() for _ in range(rate)] + ["POST /api/orders"] * (t % 10 == 0)
        for index, route in enumerate(routes):
            version = "v2" if t >= 0 and (split == 1 or (index + t) % 2) else "v1"
            what = bad.get(route, bad.get("all", {})) if version == "v2" else {}
            yield request(T + t + index / 40, version, route=route, **what)
        if t >= 0:
            yield line(type="tick", ts=T + t + 1)


def verdicts(lines: Iterable[bytes]) -> list[tuple[object, object]]:
    return [(a["verdict"], a["reason"]) for a in answers(lines)[1]]


@pytest.mark.parametrize("status", [404, 401, 302, 429])
def test_another_class_of_answers_in_a_split_is_rolled_back(status: int) -> None:
    """Nothing but the label tells the two apart, so it is the version: everything, or one route."""
    for bad in ({"all": {"status": status}}, {"GET /app": {"status": status}}):
        found = verdicts(shop(30, 0.5, **bad))
        assert found[-1][0] == "rollback"
        assert [verdict for verdict, _ in found].index("rollback") <= 8


@pytest.mark.parametrize("status", [404, 401, 302])
def test_nothing_that_works_any_more_is_rolled_back(status: int) -> None:
    """Twenty requests in a cut-over, none of which is answered well."""
    found = verdicts(shop(10, all={"status": status}))
    assert [verdict for verdict, _ in found].index("rollback") <= 2
    assert "were answered well" in str(found[-1][1])


def test_one_route_that_is_answered_otherwise_in_a_cut_over_is_neither_rolled_back_nor_healthy() -> None:
    """A replay can ask nobody, so it goes on, and says what it saw."""
    found = verdicts(shop(700, **{"GET /api/items": {"status": 404}}))
    assert {verdict for verdict, _ in found} == {"continue"}
    assert "GET /api/items: 3,500 of 3,500 requests were answered 404 (not found)" in str(found[-1][1])


@pytest.mark.long
def test_a_login_that_is_wanted_on_all_of_the_api_is_neither_rolled_back_nor_healthy() -> None:
    """A quarter of the traffic, all routes below /api; the pages and what logs in are as they were."""
    denied = {"status": 401}
    found = verdicts(shop(700, **{"GET /api/items": denied, "POST /api/orders": denied}))
    assert {verdict for verdict, _ in found} == {"continue"}
    assert "GET /api/items: 3,500 of 3,500 requests were answered 401 or 403 (denied)" in str(found[-1][1])


def test_a_small_route_that_fails_is_named() -> None:
    """Every order fails, half a percent of the traffic: rolled back after nine of them, in words about it."""
    found = verdicts(shop(90, **{"POST /api/orders": {"status": 500}}))
    first = [verdict for verdict, _ in found].index("rollback")
    assert str(found[first][1]).startswith(f"POST /api/orders: {first // 10 + 1} of {first // 10 + 1} requests failed")


@pytest.mark.long
def test_requests_that_begin_and_do_not_end_are_never_healthy() -> None:
    """Lines of requests that began, with and without an id; a replay without them is as before."""

    def begun(lines: Iterable[bytes], left_open: int) -> Iterator[bytes]:
        for number, text in enumerate(lines):
            what = json.loads(text)
            if "type" not in what:
                began = {"type": "started", "ts": what["ts"], "version": what["version"], "route": what["route"]}
                yield line(**began, id=number)
                if left_open and what["version"] == "v2" and number % left_open == 0:
                    continue
                yield line(**what, id=str(number), bytes=100)
            else:
                yield text

    verdict, reason = verdicts(begun(shop(700), 0))[-1]
    blind = "which content type an answer is, schedules and queues that fail, which requests chose their version"
    assert (verdict, str(reason).partition("not seen by ")[2]) == ("healthy", f"the recording: {blind}")
    verdict, reason = verdicts(begun(shop(700), 50))[-1]
    assert verdict == "continue"
    assert "began and have not ended" in str(reason)


def test_empty_answers_are_never_healthy() -> None:
    """Where the recording has the length of bodies."""
    whole = ({"bytes": 5000}, {"bytes": 3})
    lines = [shop(30, all=each) for each in whole]
    found = [
        verdicts(line(**{"bytes": 5000, **json.loads(text)}) if b"status" in text else text for text in each)
        for each in lines
    ]
    assert "are shorter than a tenth" not in str(found[0][-1][1])
    assert "are shorter than a tenth" in str(found[1][-1][1])


WELL, FAILS, SLOW, PART = {}, {"all": {"status": 500}}, {"all": {"latency_ms": 200.0}}, {"GET /": {"status": 503}}  # type: ignore[var-annotated]


@pytest.mark.parametrize(
    ("split", "bad", "recorded"),
    [
        (1.0, WELL, [("continue", 599), ("healthy", 41)]),
        (1.0, FAILS, [("rollback", 640)]),
        # All answers slower than any before looked more like an outage than like a bad version, and nothing came of it.
        (1.0, SLOW, [("rollback", 640)]),
        (1.0, PART, [("rollback", 640)]),
        (0.5, WELL, [("continue", 640)]),
        (0.5, FAILS, [("continue", 1), ("rollback", 639)]),
        (0.5, SLOW, [("continue", 1), ("rollback", 639)]),
        # Ten minutes of baseline give the route no stream of its own: without its own few requests it took two more.
        (0.5, PART, [("continue", 2), ("rollback", 638)]),
    ],
)
def test_recordings_without_other_classes_are_judged_as_before(
    split: float, bad: dict[str, dict[str, object]], recorded: list[tuple[str, int]]
) -> None:
    """Statuses 200 and 5xx alone: each verdict is the recorded one of the streams of errors and latency."""
    found = groupby(verdict for verdict, _ in verdicts(list(shop(640, split, **bad))))
    assert [(verdict, len(list(ticks))) for verdict, ticks in found] == recorded


def test_healthy_comes_late_and_only_with_evidence() -> None:
    """Never in the first ten minutes of fifteen (a leak takes time), then it does."""
    _, found = answers(watch(700))
    verdicts = [a["verdict"] for a in found]
    assert "healthy" not in verdicts[:599]
    assert verdicts[-1] == "healthy"


def test_healthy_says_what_the_recording_does_not_show() -> None:
    """As a watch does of its source: what no line has told."""
    _, found = answers(watch(620))
    assert found[-1]["verdict"] == "healthy"
    blind = "methods, requests that never end, lengths of answers, schedules and queues that fail"
    blind += ", which requests chose their version"
    assert str(found[-1]["reason"]).endswith(f"; not seen by the recording: {blind}")


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
    second.add(Kind("v", "canceled", None, "/app"), [80.0, None])
    for written, well, failed in (("/app", 2, 1), ("/app?x=1", 1, 0), (None, 1, 1), ("", 1, 0), ("a\x1bb", 0, 1)):
        second.add(Kind("v", "ok", 200, written), [50.0] * well)
        second.add(Kind("v", "ok", 503, written), [50.0] * failed)
    bucket = find_bucket(50.0)
    routes = {"/app": RouteCounts(4, 1, {bucket: 4}), "other": RouteCounts(1, 1, {bucket: 1})}
    assert second.as_counts("v", 7) == Counts("v", 7, 8, 3, 2, {bucket: 8}, routes)


def test_thousands_of_routes_in_a_second_stay_few() -> None:
    """The most used keep their names, nothing is lost of the whole."""
    second = Second()
    for number in range(5000):
        second.add(Kind("v", "ok", 200, f"/junk-{number}"), [None])
        second.add(Kind("v", "ok", 200, "/app"), [None])
    row = second.as_counts("v", 7)
    assert row.requests == 10_000
    assert len(row.routes) == 129
    assert row.routes["/app"].requests == 5000
    assert sum(route.requests for route in row.routes.values()) == 10_000


def test_routes_made_up_by_the_thousand_cost_no_request() -> None:
    """More kinds than are kept apart at a time: all of them count."""
    lines = [start(), *(request(T + 0.1, "v2", route=f"/{number}", status=500) for number in range(10_000))]
    _, found = answers([*lines, line(type="tick", ts=T + 1)])
    assert "10,000 of 10,000 requests failed" in str(found[0]["reason"])


@pytest.mark.parametrize("route", [None, "", "x" * 100_000, "/%00\u202e", "/app"])
def test_whatever_the_route_the_request_counts(route: str | None) -> None:
    """A route is a detail: no text of it, and none at all, costs a request."""
    _, found = answers(watch(30, route=route, status=500))
    assert found[-1]["verdict"] == "rollback"


JUNK = {
    b"{\n": "Input data was truncated",
    b"[]\n": "Expected `object`, got `array`",
    b'{"ts":1760000001.0,"version":"v2","outcome":"ok" "status":200}\n': "JSON is malformed: expected ',' or '}'",
    b'{"ts":1760000001.0,"version":"v\xff","outcome":"ok"}\n': "not UTF-8",
    b'"text"\n': "Expected `object`, got `str`",
    b'{"ts":NaN,"version":"v2","outcome":"ok"}\n': "JSON is malformed: invalid character",
    b"\x00" * 100 + b"\n": "JSON is malformed: invalid character",
    b"[" * 200_000 + b"\n": "Expected `object`, got `array`",
    b'{"x":' + b"[" * 200_000 + b"\n": "nested too deeply",
    line(ts="soon", version="v2", outcome="ok"): "Expected `float`, got `str` - at `$.ts`",
    line(ts=T + 1, version="v2", outcome="ok", status="200"): "Expected `int | null`, got `str` - at `$.status`",
    line(ts=T + 1, version="v2", outcome="ok", status=True): "Expected `int | null`, got `bool` - at `$.status`",
    line(ts=T + 1, version="v2", outcome=None): "Expected `str`, got `null` - at `$.outcome`",
    line(ts=T + 1, version="v2", outcome="ok", latency_ms=-3): "Expected `float` >= 0.0 - at `$.latency_ms`",
    line(version="v2", outcome="ok"): "no ts",
    line(ts=T + 1, outcome="ok"): "no version",
    line(ts=T + 1, version="", outcome="ok"): "no version",
    line(ts=T + 1, version="v2"): "no outcome",
    line(type="tick"): "no ts",
    line(type="start", deploy_ts=T, old="v1", new="v2", split=0): "Expected `float` > 0.0 - at `$.split`",
    line(type="start", deploy_ts=T, old="v1", new="v1"): "a start without a time, or without two versions",
    line(type="start", old="v1", new="v2"): "a start without a time, or without two versions",
    line(type="unknown", ts=T): "its type is neither start, started nor tick",
    line(ts=1e300, version="v2", outcome="ok", latency_ms=1e300): "Expected `float` < 1000000000000.0 - at `$.ts`",
    line(ts=T * 1000, version="v2", outcome="ok"): "Expected `float` < 1000000000000.0 - at `$.ts`",
    line(ts=T + 90_000, version="v2", outcome="ok"): "its ts is more than a day away",
    line(ts=0, version="v1", outcome="exception"): "its ts is more than a day away",
    b'{"ts":1760000001.0,"version":"v2","outcome":"ok","route":"'
    + b"a" * by_extent(1_500_000, 10_000_000)
    + b'"}\n': "longer than a megabyte",
}
"""Lines that cannot count, and what is said of them."""


@pytest.mark.parametrize(("junk", "why"), JUNK.items(), ids=JUNK.values())
@pytest.mark.parametrize("block", [65_536, long(262_144)])
def test_a_line_that_cannot_count_changes_nothing_and_is_named(junk: bytes, why: str, block: int) -> None:
    """No answer is another one; the kind is said once, with the first line of it and how many there were."""
    good = list(watch(20, status=500))
    mixed = b"".join([good[0], junk, *good[1:5], junk, *good[5:-1], junk, good[-1]])
    remarks: list[str] = []
    code, found = answers([mixed[at : at + block] for at in range(0, len(mixed), block)], remarks)
    assert (code, found) == answers(good)
    assert remarks == [f"passed over 3 lines: {why} (3, first in line 2)"]


def test_every_kind_of_bad_line_is_named_with_its_own_number() -> None:
    """Several kinds in one sentence, in the order in which they came."""
    remarks: list[str] = []
    lines = [start(), b"{\n", request(T - 1, "v1"), line(ts=T - 1, outcome="ok"), b"\n", b"{\n", b"{"]
    assert answers(lines, remarks)[0] == 0
    assert remarks == [
        "passed over 4 lines: Input data was truncated (3, first in line 2); no version (1, first in line 4)"
    ]


def test_lines_before_the_start_are_named() -> None:
    """Without a start nobody knows what is new."""
    remarks: list[str] = []
    assert answers([request(T, "v2"), line(type="tick", ts=T + 1)], remarks) == (7, [])
    assert remarks == ["passed over 2 lines: before the start line (2, first in line 1)"]


def test_requests_out_of_order_count_in_their_own_second_and_are_named() -> None:
    """Late lines of a busy server are evidence too; those from before the deployment come too late to be normal."""
    remarks: list[str] = []
    lines = list(watch(10))
    late = [request(T + 3.1, "v2", status=500) for _ in range(40)]
    code, found = answers([*lines, *late, request(T - 3, "v1"), line(type="tick", ts=T + 11)], remarks)
    assert code == 0
    assert found[-1]["verdict"] == "rollback"
    assert "40 of 90 requests failed" in str(found[-1]["reason"])
    late_from, too_late = f"first in line {len(lines) + 1:,}", f"first in line {len(lines) + 41:,}"
    assert remarks == [
        f"passed over 1 line: out of order: older than the deployment, which is over (1, {too_late})",
        f"counted all the same 40 lines: out of order, each in its own second (40, {late_from})",
    ]


def test_an_unknown_outcome_is_an_error() -> None:
    """The contract's list is open: whatever is not ok and not canceled failed."""
    _, found = answers(watch(30, outcome="somethingNew"))
    assert found[-1]["verdict"] == "rollback"


RECORDING = b"".join([*watch(12, baseline_s=100, status=500), b"nonsense\n", request(T + 12, "v2")])


@examples(40)
@given(cuts=st.lists(st.integers(0, len(RECORDING)), max_size=40))
def test_where_the_pieces_end_changes_nothing(cuts: list[int]) -> None:
    """A pipe cuts anywhere, within a line and within a character."""
    remarks: list[str] = []
    whole: list[str] = []
    edges = [0, *sorted(cuts), len(RECORDING)]
    pieces = [RECORDING[a:b] for a, b in pairwise(edges)]
    assert answers(pieces, remarks) == answers([RECORDING], whole)
    assert remarks == whole


def test_a_tick_is_answered_before_more_is_read() -> None:
    """Guard may stand at the end of a pipe whose next line depends on the answer."""
    written: list[str] = []

    def pipe() -> Iterator[bytes]:
        yield start() + request(T - 1, "v1")
        for t in range(5):
            yield request(T + t, "v2") + line(type="tick", ts=T + t + 1)[:-5]
            assert len(written) == t
            yield line(type="tick", ts=T + t + 1)[-5:] + request(T + t + 1, "v2")[:10]
            assert len(written) == t + 1
            yield request(T + t + 1, "v2")[10:]

    assert replay(pipe(), written.append) == 0


@pytest.mark.parametrize("lines", [[], [b"\n"], [start()], [start(), line(type="tick", ts=T + 1)], [b"nonsense\n"]])
def test_no_request_at_all_is_exit_7(lines: list[bytes]) -> None:
    """Nothing was read: nothing is claimed; ticks are answered with `continue`."""
    code, found = answers(lines)
    assert code == 7
    assert {a["verdict"] for a in found} <= {"continue"}


def test_odd_latencies_are_counted_not_fatal() -> None:
    """Zero, enormous and missing latencies."""
    lines = [start()]
    for t in range(-100, 0):
        lines += [request(T + t, "v1", latency_ms=value) for value in (0.0, 1e-300, 1e18)]
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


@pytest.mark.parametrize(
    "odd", [{"id": 1.5}, {"id": {"a": 1}}, {"bytes": -1}, {"bytes": "12"}, {"bytes": 1.5}], ids=str
)
@pytest.mark.parametrize("status", [200, 500])
def test_what_is_optional_costs_no_request(odd: dict[str, object], status: int) -> None:
    """A log that writes -1 for an unknown length tells of failures all the same."""
    remarks: list[str] = []
    found = answers(watch(20, status=status, **odd), remarks)[1]
    expected = answers(watch(20, status=status))[1]
    assert found == expected
    said = ["counted all the same 100 lines: its bytes are no number of bytes (100, first in line 4,502)"]
    assert remarks == (said if status == 200 and "bytes" in odd else [])


def test_a_request_that_began_at_no_time_is_named() -> None:
    """Also where the recording's clock begins at zero."""
    remarks: list[str] = []
    lines = [line(type="start", deploy_ts=60.0, old="v1", new="v2"), line(type="started", version="v1")]
    answers([*lines, request(61, "v2")], remarks)
    assert remarks == ["passed over 1 line: no ts (1, first in line 2)"]


@pytest.mark.parametrize("before", [0, 5])
def test_requests_on_their_way_do_not_hang(before: int) -> None:
    """Without a past nobody knows how many are open at a time; eight times as many visitors have so many more."""
    began, ended = [], []
    for t in range(-60 if before else 0, 90):
        for i in range(40 if t >= 0 else before):
            at, version = T + t + i / 40, "v2" if t >= 0 else "v1"
            began.append((at, line(type="started", ts=at, version=version, route="/app")))
            ended.append((at + 0.9, request(at + 0.9, version)))
    lines = [text for at, text in sorted(began + ended) if at < T + 89]
    last = answers([start(), *lines, line(type="tick", ts=T + 89)])[1][-1]
    assert "have not ended" not in str(last["reason"])
