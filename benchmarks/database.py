"""Backups and restores of a Postgres compared with pgBackRest and pg_dump: one database, one run, alternating sides.

A pgbench database of about 1 GB on the server of the wheel, its WAL kept by both sides. Measured are whole commands
(`backout db backup`) and, of restores, the work that the plans' steps do, start of the server and replay included.
Before each restore the machine is settled (`shared.measure.settle`), for both sides alike.

- restore: laying the base out, replay to a position, waiting there; pgBackRest's restore and the same replay.
- side_instance: a side instance over a base that lies unpacked already, beside one that is copied.
- incremental_time, incremental_size: after 2,000 changed rows.
- lsn_s_per_100mb: finding the commit that dropped a column. rescue_s: 75,000 damaged rows copied back and compared
  by the second check, in seconds (the check alone: rescue_second_check_s; the statement that damaged them: damage_s).
- rescue_58_over_1: one rescue of 58 mixed transactions beside one of a single one of them, as whole commands
  (`--several`: that alone).

Goals: at most 0.6, 0.25, 0.6, 2.0, 1 s, 2 s, 2.0. pg_restore of the same database stands in the samples.

With `--against COMMIT` the peer is backout itself at that commit: whole commands (incremental backup, side instance,
rescue, proven dump), each version with a repository of its own; `new_over_old` is the time of all four.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from shared import database_several, database_versions, versions
from shared import measure as shared
from shared.database_bench import CONFIG, Bench

from backout.model.database.recovery import SideOrder
from backout.model.database.wal import parse_lsn
from backout.providers.postgres.restore.side import PostgresSides
from backout.providers.postgres.server.launcher import PostgresServer
from backout.providers.postgres.server.template import run_tool
from backout.runbook.recovery.target import find
from backout.wiring.db.backups import make_repository
from backout.wiring.db.restore import make_restore_tools

if TYPE_CHECKING:
    from backout.analysis.recovery.recovery import Route
    from backout.runbook.recovery.target import Found

GOALS = {
    "restore": 0.6,
    "side_instance": 0.25,
    "incremental_time": 0.6,
    "incremental_size": 2.0,
    "lsn_s_per_100mb": 1.0,
    "rescue_s": 2.0,
    "rescue_58_over_1": 2.0,
}


Samples = dict[str, list[float]]
DAMAGED = 75_000


def way(bench: Bench, target: str, place: Path | None = None) -> tuple[Found, Route]:
    """Return a target with the way to it; the search is part of a restore."""
    found = find(make_restore_tools(bench.config()), target, place=place)
    if found.route is None:
        sys.exit(f"database: no way to {target}")
    return found, found.route


def backups(bench: Bench, rounds: int, samples: Samples) -> None:
    """Measure full backups once, and incremental ones in turn."""
    samples["backout_full_s"] = [bench.backout("db", "backup", "--full")[0]]
    samples["pgbackrest_full_s"] = [bench.peer.backup("full")[0]]
    for number in range(rounds):
        with bench.connected() as connection:
            connection.execute(
                "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid IN "
                "(SELECT 1 + (random() * %s)::int FROM generate_series(1, 2000))",
                [bench.scale * 100_000 - 1],
            )
        for side in ("backout", "pgbackrest") if number % 2 else ("pgbackrest", "backout"):
            if side == "backout":
                took, answer = bench.backout("db", "backup", "--incremental")
                size = float(answer["backup"]["stored_bytes"])  # type: ignore[index]
            else:
                took, size = bench.peer.backup("incr")
            samples.setdefault(f"{side}_incremental_s", []).append(round(took, 3))
            samples.setdefault(f"{side}_incremental_bytes", []).append(size)


def restores(bench: Bench, rounds: int, samples: Samples) -> None:
    """Measure restores to a position behind some hundred MB of WAL."""
    bench.backout("db", "backup", "--full")
    bench.peer.backup("full")
    bench.pgbench("-c", "4", "-j", "2", "-t", "8000", "-n")
    lsn = bench.lsn()
    bench.pass_on(lsn)
    samples["replayed_bytes"] = [float(parse_lsn(lsn) - way(bench, lsn)[1].base.begin_lsn)]
    for number in range(rounds):
        for side in ("backout", "pgbackrest") if number % 2 else ("pgbackrest", "backout"):
            took = ours_restored(bench, lsn, number) if side == "backout" else peer_restored(bench, lsn, number)
            samples.setdefault(f"{side}_restore_s", []).append(round(took, 3))


def ours_restored(bench: Bench, lsn: str, number: int) -> float:
    """Lay a whole data directory out, replay, and wait there; return the seconds."""
    place = bench.folder / f"ours-{number}"
    shared.settle()
    began = time.monotonic()
    found, route = way(bench, lsn, place)
    sides, target = _sides(bench, overlay=True, place=str(place)), found.target
    order = SideOrder(f"swap-{number}", route.base.id, target.lsn, target.timeline, route.names, place=str(place))
    sides.start(order, lambda _what, _done, _of: None)
    took = time.monotonic() - began
    sides.drop(order.name)
    shutil.rmtree(place, ignore_errors=True)
    return took


def peer_restored(bench: Bench, lsn: str, number: int) -> float:
    """Let pgBackRest do the same; return the seconds."""
    place = bench.folder / f"peer-{number}"
    shared.settle()
    took = bench.peer.restore(place, lsn)
    server = PostgresServer(place, bench.binaries, settings={"shared_buffers": "128MB", "archive_mode": "off"})
    began = time.monotonic()
    status = server.start(timeout_s=600)
    while True:
        with psycopg.connect(status.socket_dsn, autocommit=True) as connection:
            row = connection.execute("SELECT pg_get_wal_replay_pause_state()").fetchone()
        if row is not None and row[0] == "paused":
            break
        time.sleep(0.02)
    took += time.monotonic() - began
    server.stop(mode="immediate")
    shutil.rmtree(place)
    return took


def side_instances(bench: Bench, rounds: int, samples: Samples) -> None:
    """Measure a side instance over the unpacked base and a copied one, to a position soon after the base."""
    bench.backout("db", "backup", "--full")
    lsn = bench.lsn()
    bench.pass_on(lsn)
    found, route = way(bench, lsn)
    target = found.target
    for number in range(rounds + 1):
        for how, overlay in (("over", True), ("copied", False)) if number % 2 else (("copied", False), ("over", True)):
            sides = _sides(bench, overlay=overlay)
            order = SideOrder(f"{how}-{number}", route.base.id, target.lsn, target.timeline, route.names)
            shared.settle()
            began = time.monotonic()
            made = sides.start(order, lambda _what, _done, _of: None)
            took = time.monotonic() - began
            if overlay and made.how != "overlay":
                sys.exit(f"database: this system allows no overlay (the side instance is a {made.how})")
            sides.drop(order.name)
            if number:  # the first one unpacks the base
                samples.setdefault(f"side_{how}_s", []).append(round(took, 3))


def _sides(bench: Bench, *, overlay: bool, place: str = "") -> PostgresSides:
    root, backups = bench.folder / ("sides" if overlay else "copies"), make_repository(bench.config())
    places = (lambda _name: place) if place else None
    return PostgresSides(root, bench.binaries, backups, lambda: "postgres", overlay=overlay, places=places)


def damage(bench: Bench, rounds: int, samples: Samples) -> None:
    """Measure the search for a bad migration, and the rescue of what it damaged."""
    with bench.connected() as connection:
        connection.execute("CREATE TABLE users (id int PRIMARY KEY, email text NOT NULL)")
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY, status text NOT NULL, n int NOT NULL)")
        connection.execute("INSERT INTO users SELECT n, n || '@example.com' FROM generate_series(1, 100000) n")
        connection.execute("INSERT INTO orders SELECT n, 'new', n FROM generate_series(1, 225000) n")
    bench.backout("db", "backup", "--full")
    for number in range(rounds):
        bench.pgbench("-c", "4", "-j", "2", "-t", "2500", "-n")
        with bench.connected() as connection:
            connection.execute("VACUUM ANALYZE orders")  # a real table is not rescued again each minute
            connection.execute(f"ALTER TABLE users ADD COLUMN plan{number} text")
        with bench.connected() as connection, connection.transaction():
            began = time.monotonic()
            connection.execute("UPDATE orders SET status = 'lost' WHERE id % 3 = 0")
            samples.setdefault("damage_s", []).append(round(time.monotonic() - began, 3))
            connection.execute(f"ALTER TABLE users DROP COLUMN plan{number}")
        bench.pgbench("-c", "4", "-j", "2", "-t", "500", "-n")
        with bench.connected() as connection:
            connection.execute("UPDATE orders SET n = n + 1 WHERE id % 1000 = 0")
        bench.pass_on(bench.lsn())
        began = time.monotonic()
        found, route = way(bench, f"before drop of users.plan{number}")
        took = time.monotonic() - began
        scanned = route.end_lsn - route.base.begin_lsn
        samples.setdefault("lsn_s_per_100mb", []).append(round(took * 1e8 / scanned, 3))
        _, answer = bench.backout("db", "restore", str(found.target.xid), "--rescue", "-m", "the benchmark", "--yes")
        tables = {each["table"]: each for each in answer["rescue"]["tables"]}  # type: ignore[index]
        if tables["public.orders"]["updated"] != DAMAGED:
            sys.exit(f"database: rescued {tables['public.orders']['updated']} rows of {DAMAGED:,}")
        steps = (
            "db_note_newer",
            "db_rescue",
            "db_compare",
        )  # the second check, and what it needs before, are part of it
        took = {step: _step_seconds(bench, str(answer["run_id"]), step) for step in steps}
        samples.setdefault("rescue_s", []).append(round(sum(took.values()), 3))
        samples.setdefault("rescue_second_check_s", []).append(round(took["db_note_newer"] + took["db_compare"], 3))


def _step_seconds(bench: Bench, run: str, action: str) -> float:
    began = 0.0
    for event in make_restore_tools(bench.config()).journal.events(run=run):
        if event.kind == "step.start" and event.data.get("action") == action:
            began = event.at
        if event.kind == "step.ok" and began:
            return round(event.at - began, 3)
    sys.exit(f"database: step {action} of run {run} did not end")


def dumps(bench: Bench, samples: Samples) -> None:
    """Measure pg_dump and pg_restore of the same database, two jobs each."""
    where = ("-h", str(bench.socket), "-p", str(bench.port), "-U", "postgres")
    folder = bench.folder / "dump"
    began = time.monotonic()
    run_tool(bench.binaries, "pg_dump", *where, "-Fd", "-j2", f"--file={folder}", "postgres", timeout_s=900)
    samples["pg_dump_s"] = [round(time.monotonic() - began, 3)]
    run_tool(bench.binaries, "createdb", *where, "again")
    began = time.monotonic()
    run_tool(bench.binaries, "pg_restore", *where, "-j2", "--dbname=again", str(folder), timeout_s=900)
    samples["pg_restore_s"] = [round(time.monotonic() - began, 3)]
    run_tool(bench.binaries, "dropdb", *where, "again")
    shutil.rmtree(folder)


def _several(samples: Samples) -> dict[str, object]:
    pair = samples[f"rescue_of_{database_several.MANY}_s"], samples["rescue_of_1_s"]
    return {"rescue_58_over_1": shared.ratio(*pair), "bound95": shared.ratio_bound(*pair)}


def record(samples: Samples) -> dict[str, object]:
    """Return a `backout.benchmark/1`."""
    pairs = {
        "restore": (samples["backout_restore_s"], samples["pgbackrest_restore_s"]),
        "side_instance": (samples["side_over_s"], samples["side_copied_s"]),
        "incremental_time": (samples["backout_incremental_s"], samples["pgbackrest_incremental_s"]),
        "incremental_size": (samples["backout_incremental_bytes"], samples["pgbackrest_incremental_bytes"]),
        "rescue_58_over_1": (samples[f"rescue_of_{database_several.MANY}_s"], samples["rescue_of_1_s"]),
    }
    alone = {key: samples[key] for key in ("lsn_s_per_100mb", "rescue_s")}
    return {
        "schema": "backout.benchmark/1",
        "name": "database",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "samples": samples,
        "ratios": {
            **{key: shared.ratio(*pair) for key, pair in pairs.items()},
            **{key: statistics.median(values) for key, values in alone.items()},
        },
        "n": {**{key: len(pair[0]) for key, pair in pairs.items()}, **{key: len(v) for key, v in alone.items()}},
        "bound95": {
            **{key: shared.ratio_bound(*pair) for key, pair in pairs.items()},
            **{key: shared.median_bound(values) for key, values in alone.items()},
        },
    }


def main() -> None:
    """Measure, and print a table or one `backout.benchmark/1`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument("--rounds", type=int, default=5, help="samples of each side")
    parser.add_argument("--scale", type=int, default=66, help="of pgbench: 66 is about 1 GB")
    parser.add_argument("--several", action="store_true", help="only the rescue of 58 transactions beside that of one")
    parser.add_argument("--against", metavar="COMMIT", default="", help="measure beside backout at a commit")
    options = parser.parse_args()
    if options.against:
        with tempfile.TemporaryDirectory(prefix="bench-db-") as folder:
            found = database_versions.compare(Path(folder), options.against, options.rounds, options.scale, CONFIG)
        print(shared.as_json(found) if options.json else f"database beside {options.against}\n{versions.table(found)}")
        return
    samples: Samples = {}
    with tempfile.TemporaryDirectory(prefix="bench-db-") as folder:
        bench = Bench(Path(folder), options.scale, has_peer=not options.several)
        try:
            bench.start()
            if options.several:
                database_several.measure(bench, options.rounds, samples)
                print(shared.as_json({"samples": samples, **_several(samples)}))
                return
            backups(bench, options.rounds, samples)
            restores(bench, options.rounds, samples)
            side_instances(bench, options.rounds, samples)
            damage(bench, options.rounds, samples)
            database_several.measure(bench, options.rounds, samples)
            dumps(bench, samples)
        finally:
            bench.stop()
    found = record(samples)
    if options.json:
        print(shared.as_json(found))
        return
    print(f"database: medians of {options.rounds} ({found['machine']})")
    for key, values in samples.items():
        print(f"  {key:<28} {statistics.median(values):14,.2f}")
    for key, goal in GOALS.items():
        low, high = found["bound95"][key]  # type: ignore[index]
        print(f"  {key:<28} {found['ratios'][key]:14.2f}  (95 %: {low:.2f} to {high:.2f}; goal {goal:g})")  # type: ignore[index]


if __name__ == "__main__":
    main()
