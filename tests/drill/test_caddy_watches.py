"""Healthy releases behind a real Caddy: none is rolled back under visitors, nor when its access log is replayed."""

from __future__ import annotations

import json
import random
from operator import itemgetter
from typing import TYPE_CHECKING

import pytest
from caddy_home import caddy_home, get_last, wait_for_visits

from backout.model.guard.policy import Policy
from backout.runbook.hindsight.replay import replay

from extent import by_extent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from caddy_home import CaddyShop

    from conftest import Record

BEFORE_S, WATCHED_S = 60, 30
"""How much of the log a replay takes before a moment at which it has a release begin, and after."""
AROUND_S = 10
"""There is so much of both at least."""


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[CaddyShop]:
    """A shop with no release yet."""
    with caddy_home(tmp_path) as running:
        yield running


def read_log(shop: CaddyShop) -> list[dict[str, object]]:
    return [json.loads(line) for line in (shop.host.folder / "access.log").read_text().splitlines()]


def record(log: list[dict[str, object]], moment: float) -> Iterator[bytes]:
    """Yield what visitors got around a moment as a recording of a release that began there."""
    start = {"type": "start", "deploy_ts": moment, "old": "v1", "new": "v2", "split": 1.0, "watch_s": WATCHED_S}
    yield json.dumps(start).encode() + b"\n"
    ended_at = [(float(line["ts"]), line) for line in log if "status" in line]  # type: ignore[arg-type]
    lines = sorted(ended_at, key=itemgetter(0))
    tick = moment + 1
    for ended, line in lines:
        if not moment - BEFORE_S <= ended < moment + WATCHED_S:
            continue
        while ended >= tick:
            yield json.dumps({"type": "tick", "ts": tick}).encode() + b"\n"
            tick += 1
        status = int(line["status"])  # type: ignore[call-overload]
        request = {
            "ts": ended,
            "version": "v2" if ended >= moment else "v1",
            "outcome": "ok" if status < 500 else "exception",
            "status": status,
            "latency_ms": 1000 * float(line["duration"]),  # type: ignore[arg-type]
            "route": "/page",
        }
        yield json.dumps(request).encode() + b"\n"
    yield json.dumps({"type": "tick", "ts": moment + WATCHED_S}).encode() + b"\n"


@pytest.mark.long
@pytest.mark.proof
@pytest.mark.timeout(2400)
@pytest.mark.rotating("kills behind Caddy", 2)
def test_healthy_releases_stay(shop: CaddyShop, proof: Record) -> None:
    """Watched for 15 s each, with visitors all the time; then so do moments of the log, replayed by the same policy."""
    rounds = by_extent(1, 1, proof=100)
    chance = random.Random(f"watches {rounds}")  # noqa: S311 - moments, no secret
    shop.push("good")
    with shop.visited() as answers:
        wait_for_visits(answers, 1000)  # something to compare with
        for number in range(rounds):
            shop.run("release", "prune", "--keep", "2")  # each release has a port, and there are twenty
            release = str(shop.push(f"good {number}").json["live"])
            found = get_last(shop.run("guard", "--for", "15s", "--json", code=None))
            assert (found["verdict"] == "regressed", found["live_version"]) == (False, release), found["reason"]
    assert {status for status, _ in answers} == {200}
    log = read_log(shop)
    first, last = (float(log[place]["ts"]) for place in (0, -1))  # type: ignore[arg-type]
    for _ in range(4 * rounds):
        said: list[str] = []
        assert replay(record(log, chance.uniform(first + AROUND_S, last - AROUND_S)), said.append, Policy()) == 0
        assert '"rollback"' not in "".join(said)
    for claim, trials in (("live, 15 s each", rounds), ("replayed from its access log", 4 * rounds)):
        text = f"healthy releases behind Caddy are not rolled back: {claim}"
        proof(text, trials=trials, failures=0, note="tests/drill/test_caddy_watches.py")
