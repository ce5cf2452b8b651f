"""Two versions of backout on one live database, alternating: whole commands, each with a repository of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

import psycopg
from shared import versions

from backout.providers.postgres.server.binaries import find_binaries
from backout.providers.postgres.server.launcher import PostgresServer
from backout.providers.postgres.server.template import run_tool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Samples = dict[str, list[float]]
PASSWORD = "bench"  # noqa: S105 - of a server on loopback that ends with the run
MEASURED = ("incremental", "side", "rescue", "dump")
TOTAL = "total"


class Version(NamedTuple):
    """One backout with a configuration of its own; its name is its environment's, too."""

    name: str
    program: str
    folder: Path

    def run(self, *arguments: str) -> tuple[float, dict[str, object]]:
        """Run a command; return its seconds and its JSON answer. Any exit but 0 and 1 ends the benchmark."""
        argv = [self.program, *arguments, "-e", self.name, "--json"]
        began = time.monotonic()
        done = subprocess.run(argv, cwd=self.folder, capture_output=True, text=True, timeout=900, check=False)
        took = time.monotonic() - began
        if done.returncode not in (0, 1):  # 1: a finding, such as WAL that was not received yet
            sys.exit(f"{' '.join(argv)}: exit {done.returncode}: {done.stderr[-2000:]}")
        return round(took, 3), json.loads(done.stdout.splitlines()[-1])


def compare(folder: Path, commit: str, rounds: int, scale: int, config: str) -> dict[str, object]:
    """Return a `backout.benchmark/1`; `new_over_old` covers all commands of a round together.

    Args:
        folder: an empty one.
        commit: the old version's.
        scale: of pgbench.
        config: a backout.toml whose environment is "bench", with `{data}` in place of the data directory.
    """
    binaries = find_binaries()
    server = PostgresServer(
        folder / "data", binaries, settings={"summarize_wal": "on", "max_slot_wal_keep_size": "20GB"}
    )
    server.create()
    both: list[Version] = []
    try:
        status = server.start(password=PASSWORD)
        where = ("-h", str(status.socket_directory), "-p", str(status.port), "-U", "postgres")

        def run_pgbench(*options: str) -> None:
            run_tool(binaries, "pgbench", *where, *options, "postgres", timeout_s=900)

        run_pgbench("-i", "-q", "-s", str(scale))
        url = f"postgresql://postgres:{PASSWORD}@127.0.0.1:{status.port}/postgres"
        programs = {versions.NEW: versions.TODAY, versions.OLD: versions.program_at(commit, folder / "before")}
        for name, program in programs.items():
            both.append(_prepare(name, program, folder / name, config.format(data=folder / "data"), url))
        with psycopg.connect(status.socket_dsn, autocommit=True) as connection:
            pairs = _measure((both[0], both[1]), connection, lambda: run_pgbench("-c", "2", "-t", "500", "-n"), rounds)
    finally:
        for version in both:
            version.run("db", "wal", "stop")
        server.stop(mode="immediate")
    return versions.compared("database", pairs, TOTAL)


def _prepare(name: str, program: str, folder: Path, config: str, url: str) -> Version:
    """Return a version that receives the database's WAL and has a full backup of it."""
    folder.mkdir(mode=0o700)
    secret = folder / "url"
    secret.touch(0o600)
    secret.write_text(url, encoding="utf-8")
    (folder / "backout.toml").write_text(config.replace("environments.bench", f"environments.{name}"), encoding="utf-8")
    version = Version(name, program, folder)
    version.run("db", "wal", "start")
    version.run("db", "backup", "--full")
    return version


def _measure(
    both: tuple[Version, Version],
    connection: psycopg.Connection[tuple[object, ...]],
    load: Callable[[], None],
    rounds: int,
) -> dict[str, tuple[list[float], list[float]]]:
    """Return (new samples, old samples) of each command, and of all of a round together.

    Args:
        both: the new and the old one.
        load: makes some WAL of other transactions.
    """
    connection.execute("CREATE TABLE orders (id int PRIMARY KEY, status text NOT NULL, n int NOT NULL)")
    connection.execute("INSERT INTO orders SELECT n, 'new', n FROM generate_series(1, 60000) n")
    found: dict[str, Samples] = {what: {each.name: [] for each in both} for what in (*MEASURED, TOTAL)}
    for each in both:
        each.run("db", "backup", "--full")
    for number in range(rounds + 1):
        for version in both if number % 2 else both[::-1]:
            load()
            took = _round(version, connection, number)
            for what in MEASURED if number else ():  # the first round fills caches
                found[what][version.name].append(took[what])
            if number:
                found[TOTAL][version.name].append(round(sum(took.values()), 3))
    return {what: (found[what][both[0].name], found[what][both[1].name]) for what in found}


def _round(version: Version, connection: psycopg.Connection[tuple[object, ...]], number: int) -> dict[str, float]:
    """Return the seconds of each command, on damage made for this round."""
    took: dict[str, float] = {}
    took["incremental"], _ = version.run("db", "backup", "--incremental")
    column = f"{version.name}_{number}"
    connection.execute(f"ALTER TABLE orders ADD COLUMN {column} text")
    with connection.transaction():
        connection.execute("UPDATE orders SET status = 'lost' WHERE id % 3 = 0")
        connection.execute(f"ALTER TABLE orders DROP COLUMN {column}")
    connection.execute("SELECT pg_switch_wal()")
    target = f"before drop of orders.{column}"
    took["side"], answer = version.run("db", "restore", target, "--side", "-m", "the benchmark", "--yes")
    version.run("db", "restore", "--drop-side", _side_of(answer))
    took["rescue"], _ = version.run("db", "restore", target, "--rescue", "-m", "the benchmark", "--yes")
    row = connection.execute("SELECT count(*) FROM orders WHERE status = 'lost'").fetchone()
    if row is None or row[0]:
        sys.exit(f"database: {version.name}: {row} rows are still damaged after the rescue")
    took["dump"], _ = version.run("db", "dump")
    return took


def _side_of(answer: dict[str, object]) -> str:
    side = answer.get("side")
    if not isinstance(side, dict):
        sys.exit(f"database: no side instance in {answer}")
    return str(side["name"])
