"""How long an environment is unguarded when its worker is killed, frozen or cut off: fenced leases on one Postgres.

Who holds an environment is decided by a lease of some seconds in the database, in all sides alike. They differ in what
wakes a worker to take a free one: `lease`, each worker asks every second; `deferred`, a periodic task of procrastinate
asks, and defers a job for each free environment; `requeued`, each environment is one job that never ends, and a
periodic task retries the jobs of workers whose heartbeat is old, as procrastinate's pages recommend.

In each round and side, in seeded order, one worker that holds something is killed (`kill`), stopped until its
environments are taken over and then woken (`freeze`), stopped in a transaction that has a lease's row locked (`hold`),
or cut off by a proxy that swallows everything (`cut`); then all are restarted with SIGTERM, one after the other. A gap
is the time between the last beat of the old holder and the first of the new one, by the server's clock. Beats of an old
holder after the first of a new one are `stale_writes`: there must be none.

Of `requeued`, `rows_lost` counts the environments whose job is gone although they are watched: the woken worker ended
it. Nobody would take them over, so they get a new one (`--unrepaired`: they do not).

Ratio keys: deferred_cpu, requeued_cpu (processor time of workers and server for each environment over that of `lease`),
deferred_statements, requeued_statements (statements a second, likewise), and the longest gap of each side and fault.
Goals: 15 s for each fault, 2 s for a restart.

    .venv/bin/python benchmarks/takeover.py [--rounds 3] [--environments 12] [--json]
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from shared import measure
from shared.takeover_bench import FAULTS, PASSWORD, SIDES, Bench

from backout.providers.child import find_free_ports, find_unprivileged_prefix
from backout.providers.postgres.server.binaries import find_binaries
from backout.providers.postgres.server.launcher import PostgresServer
from backout.providers.postgres.server.template import give_away

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.takeover_bench import Samples

GOALS = {**dict.fromkeys(FAULTS, 15.0), "restart": 2.0}


@contextlib.contextmanager
def run_pooler(folder: Path, server_port: int) -> Iterator[int]:
    """Run PgBouncer in transaction mode in front of the server; yield its port."""
    place, (port,) = folder / "pooler", find_free_ports(1)
    place.mkdir()
    (place / "users").write_text(f'"postgres" "{PASSWORD}"\n', encoding="ascii")
    lines = (
        "[databases]",
        f"* = host=127.0.0.1 port={server_port}",
        "[pgbouncer]",
        "listen_addr = 127.0.0.1",
        f"listen_port = {port}",
        "unix_socket_dir =",
        "auth_type = plain",
        f"auth_file = {place / 'users'}",
        "pool_mode = transaction",
        f"logfile = {place / 'log'}",
    )
    (place / "pgbouncer.ini").write_text("\n".join(lines), encoding="ascii")
    give_away(place)
    process = subprocess.Popen(
        [*find_unprivileged_prefix(), "pgbouncer", "-q", str(place / "pgbouncer.ini")], stderr=subprocess.DEVNULL
    )
    try:
        time.sleep(1)
        yield port
    finally:
        process.terminate()
        process.wait()


def measure_imports() -> Samples:
    """Return the processor time of a Python that loads what each side needs, in seconds."""
    sides: Samples = {"psycopg": [], "procrastinate": []}
    for _ in range(5):
        for name, samples in sides.items():
            argv = [sys.executable, "-c", f"import {name}"]
            samples.append(measure.run(argv, cwd=Path(tempfile.gettempdir()), env=os.environ).cpu)
    return {f"import_{name}_cpu_s": samples for name, samples in sides.items()}


def compare(options: argparse.Namespace) -> Samples:
    """Return the samples of all sides; each round measures each of them, in seeded order."""
    worker = {
        "lease_s": options.lease,
        "heartbeat_s": options.heartbeat,
        "stalled_s": options.stalled,
        "sweep_s": options.sweep,
        "polling_s": options.polling,
        "listens": not options.pooler,
    }
    if importlib.util.find_spec("procrastinate") is None:
        sys.exit("takeover: procrastinate is not installed (make bench installs it)")
    samples = measure_imports()
    source = random.Random(options.seed)  # noqa: S311 - an order, no secret
    with tempfile.TemporaryDirectory(prefix="backout-bench-") as name, contextlib.ExitStack() as ends:
        folder = Path(name)
        folder.chmod(0o755)
        preload = {"shared_preload_libraries": "pg_stat_statements"}
        server = PostgresServer(folder / "data", find_binaries(), settings=preload)
        server.create()
        status = server.start(password=PASSWORD)
        ends.callback(server.stop, mode="immediate")
        dsn = f"host={status.socket_directory} port={status.port} user=postgres"
        port = ends.enter_context(run_pooler(folder, status.port)) if options.pooler else status.port
        size = options.environments, options.workers
        benches = [Bench(folder, side, dsn, port, *size, repairs=not options.unrepaired) for side in options.sides]
        for bench in benches:
            bench.prepare(lease_s=options.lease)
        for number in range(options.rounds):
            for bench in source.sample(benches, len(benches)):
                began = time.monotonic()
                try:
                    bench.start(worker)
                    bench.measure_quiet(options.quiet)
                    for fault in source.sample(options.faults, len(options.faults)):
                        bench.do(fault, source)
                    bench.restart()
                finally:
                    bench.stop()
                print(f"round {number + 1}: {bench.side}: {time.monotonic() - began:.0f} s", file=sys.stderr)
        for bench in benches:
            samples |= bench.samples
    return samples


def make_pairs(samples: Samples) -> dict[str, tuple[list[float], list[float]]]:
    """Return the two sides of each ratio."""

    def cost(side: str) -> list[float]:
        parts = (samples[f"{side}_{of}_cpu_share_per_environment"] for of in ("worker", "server"))
        return [sum(each) for each in zip(*parts, strict=True)]

    pairs = {}
    for side in SIDES[1:]:
        if f"{side}_rss_mb" in samples and f"{SIDES[0]}_rss_mb" in samples:
            key = "statements_per_s_per_environment"
            pairs[f"{side}_cpu"] = cost(side), cost(SIDES[0])
            pairs[f"{side}_statements"] = samples[f"{side}_{key}"], samples[f"{SIDES[0]}_{key}"]
    return pairs


def make_record(samples: Samples) -> dict[str, object]:
    """Return a `backout.benchmark/1`."""
    pairs = make_pairs(samples)
    gaps = {key: values for key, values in samples.items() if key.endswith("_gap_s")}
    return {
        "schema": "backout.benchmark/1",
        "name": "takeover",
        "machine": measure.describe_machine(),
        "samples": samples,
        "ratios": {
            **{key: measure.ratio(*pair) for key, pair in pairs.items()},
            **{f"{key}_longest": max(values) for key, values in gaps.items()},
        },
        "n": {**{key: len(pair[0]) for key, pair in pairs.items()}, **{key: len(v) for key, v in gaps.items()}},
        "bound95": {
            **{key: measure.ratio_bound(*pair) for key, pair in pairs.items()},
            **{key: measure.median_bound(values) for key, values in gaps.items()},
        },
    }


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument("--rounds", type=int, default=1, help="each has every fault once, on each side")
    parser.add_argument("--environments", type=int, default=12)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1, help="of the order, and of who is hit")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--faults", nargs="*", choices=FAULTS, default=list(FAULTS))
    parser.add_argument("--quiet", type=float, default=10.0, help="seconds for which costs are measured")
    parser.add_argument("--lease", type=float, default=8.0, help="seconds after the last beat at which it runs out")
    parser.add_argument("--heartbeat", type=float, default=2.0, help="update_heartbeat_interval (its default: 10)")
    parser.add_argument("--stalled", type=float, default=6.0, help="stalled_worker_timeout (its default: 30)")
    parser.add_argument("--polling", type=float, default=1.0, help="fetch_job_polling_interval (its default: 5)")
    parser.add_argument("--sweep", type=int, default=2, help="seconds between two runs of the periodic task")
    parser.add_argument("--pooler", action="store_true", help="through PgBouncer in transaction mode, without LISTEN")
    parser.add_argument("--unrepaired", action="store_true", help="leave the environments of lost jobs as they are")
    return parser.parse_args(arguments)


def main() -> None:
    """Measure, and print a table or one `backout.benchmark/1`."""
    options = parse()
    samples = compare(options)
    if options.json:
        print(measure.as_json(make_record(samples)))
        return
    print(f"takeover: {options.environments} environments, {options.workers} workers, leases of {options.lease:g} s")
    for key, values in sorted(samples.items()):
        goal = next((f"goal {most:g}" for fault, most in GOALS.items() if key.endswith(f"_{fault}_gap_s")), "")
        print(f"  {key:<44} {statistics.median(values):9.4f}  most {max(values):9.4f}  n {len(values):3}  {goal}")
    for key, pair in make_pairs(samples).items():
        low, high = measure.ratio_bound(*pair)
        print(f"  {key:<44} {measure.ratio(*pair):9.2f}  ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
