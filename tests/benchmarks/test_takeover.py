"""The benchmark of takeovers: what it measures with is fenced, and each of its parts runs."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
import takeover
from kept import template
from shared.cut_proxy import CutProxy
from shared.takeover_bench import PASSWORD, SIDES
from shared.takeover_lease import SCHEMA, Guard, Unreachable

from backout.providers.postgres.server.binaries import find_binaries
from backout.providers.postgres.server.launcher import PostgresServer

from polling import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.providers.postgres.server.launcher import ServerStatus

LEASE_S = 0.3
"""Shorter than the time to the next beat: a worker that was away for longer than its lease."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerStatus]:
    made = PostgresServer(tmp_path_factory.mktemp("takeover") / "data", find_binaries(), settings={"fsync": "off"})
    made.create(cache_directory=template())
    status = made.start(password=PASSWORD)
    with psycopg.connect(status.socket_dsn, autocommit=True) as connection:
        connection.execute(SCHEMA.encode())
    yield status
    made.stop(mode="immediate")


def test_who_was_away_for_longer_than_its_lease_writes_nothing(server: ServerStatus) -> None:
    """Whether somebody else took the environment or nobody did."""
    said: list[tuple[str, str]] = []

    async def hold() -> None:
        old = Guard(server.socket_dsn, "old", LEASE_S, lambda event, name, _: said.append((event, name)))
        new = Guard(server.socket_dsn, "new", PATIENCE_S, lambda *_: None)
        held = await old.take(2)
        assert await new.take(2) == []
        watches = [asyncio.ensure_future(old.watch(name, fence)) for name, fence in held]
        while not (taken := await new.take(1, "a")):
            await new.wait(0.02)  # a lease runs out by the server's clock
        assert taken == [("a", dict(held)["a"] + 1)]
        await asyncio.gather(*watches)
        await old.close()
        await new.close()

    with psycopg.connect(server.socket_dsn, autocommit=True) as connection:
        connection.execute("INSERT INTO lease (environment) VALUES ('a'), ('b')")
        asyncio.run(hold())
        rows = connection.execute("SELECT environment, holder FROM beat ORDER BY environment, fence").fetchall()
    assert rows == [("a", "old"), ("a", "new"), ("b", "old")]
    assert sorted(said) == [("refused", "a"), ("refused", "b"), ("took", "a"), ("took", "b")]


def test_a_black_hole_is_noticed_and_healed(server: ServerStatus) -> None:
    """A cut connection sends no error: who asks gives up by its own clock, and asks anew by a new connection."""
    proxy = CutProxy(server.port)
    url = f"postgresql://postgres:{PASSWORD}@127.0.0.1:{proxy.port}/postgres"

    async def ask() -> None:
        guard = Guard(url, "cut", LEASE_S, lambda *_: None, answer_within_s=0.5)
        await guard.list_free()
        proxy.cut()
        with pytest.raises(Unreachable):
            await guard.list_free()
        proxy.heal()
        await guard.list_free()
        await guard.close()

    try:
        asyncio.run(ask())
    finally:
        proxy.close()


def test_the_record_has_both_sides_of_each_ratio() -> None:
    """Costs are those of the workers and of the server; of gaps the longest counts."""
    keys = ("worker_cpu_share_per_environment", "server_cpu_share_per_environment", "statements_per_s_per_environment")
    samples = {f"{side}_{key}": [cost, cost] for side, cost in (("lease", 1.0), ("deferred", 3.0)) for key in keys}
    samples |= {"lease_rss_mb": [40.0], "deferred_rss_mb": [42.0], "lease_kill_gap_s": [8.0, 9.5]}
    record = takeover.make_record(samples)
    assert record["ratios"] == {"deferred_cpu": 3.0, "deferred_statements": 3.0, "lease_kill_gap_s_longest": 9.5}


@pytest.mark.long
@pytest.mark.rotating("takeover", 3)
@pytest.mark.parametrize("side", SIDES)
def test_a_short_run(side: str) -> None:
    """A worker is killed and another one frozen; no environment stays alone, and nothing stale is written."""
    script, faults = str(Path(takeover.__file__)), ("--faults", "kill", "freeze")
    size = (
        "--environments",
        "2",
        "--workers",
        "2",
        "--lease",
        "3",
        "--stalled",
        "3",
        "--heartbeat",
        "1",
        "--quiet",
        "1",
    )
    done = subprocess.run(
        [sys.executable, script, "--json", "--sides", side, *faults, *size],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    samples = json.loads(done.stdout)["samples"]
    assert set(samples[f"{side}_stale_writes"]) == {0.0}
    assert samples[f"{side}_freeze_refused"][0] > 0
    assert samples[f"{side}_kill_gap_s"]
