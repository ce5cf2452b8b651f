"""What guarding costs: one environment quiet and busy, and many of them in one, two and four workers.

The platform is a scripted account of Cloudflare on loopback, the journal is on an embedded Postgres, and the workers
are the program. A quiet environment is followed: nothing was deployed, and nobody visits it. A busy one is watched
after a deployment, with visitors.

The cost of an environment is the processor time of all workers, over their number and the time. One, two and four
workers, each with an account, a journal and environments of their own, run beside each other and are measured in the
same minutes: on a noisy machine a minute differs from the next by a quarter. Ratio keys:
two_workers, four_workers (the processor time of all workers over that of one worker with the same environments; goal:
at most 1.1), half (that of an environment in one worker with half as many, over that with all; 0.9 to 1.1).

    .venv/bin/python benchmarks/worker.py [--environments 200] [--rounds 6] [--json]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
from shared import measure

from backout.providers.child import find_free_ports, tie_to_parent
from backout.providers.postgres.server.binaries import find_binaries
from backout.providers.postgres.server.launcher import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    Samples = dict[str, list[float]]

_PASSWORD = "benchmark"  # noqa: S105 - of a server that lives for a minute
_HERTZ = os.sysconf("SC_CLK_TCK")
_SETTLES_S = 600.0
_CONFIG = """
[environments.{name}]
protected = false
criteria = {{ watch = "{watch}", latency = {{ p99_at_most = 1000.0 }} }}
health = {{ url = "http://127.0.1.{number}:{port}/{name}/health" }}
traffic = {{ provider = "logs", logs = {{ path = "logs/{name}.jsonl" }} }}
guard = {{ mode = "observe" }}
[environments.{name}.platform]
provider = "cloudflare"
script = "{name}"
account_id = "0123456789abcdef0123456789abcdef"
api_base_url = "http://127.0.0.1:{port}/client/v4"
"""


class Reading(NamedTuple):
    """What the workers of a bench have used since they began.

    Args:
        at: when, in seconds.
        cpu_s: processor time.
        calls: of the account's API.
        rows: in the journal.
    """

    at: float
    cpu_s: float
    calls: int
    rows: int


@dataclass
class Bench:
    """The account, and the workers that guard it."""

    folder: Path
    count: int
    server: str
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    port: int = 0
    _database: int = 0

    def write_config(self, count: int, watch: str) -> None:
        """Have so many environments, and a journal that is empty."""
        self._database += 1
        with psycopg.connect(self.server, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE journal_{self._database}".encode())
        parts = ['[app]\nname = "bench"\n[journal]\nurl_env = "BACKOUT_JOURNAL_URL"\n']
        parts += [
            _CONFIG.format(name=f"app-{number}", number=number, port=self.port, watch=watch) for number in range(count)
        ]
        (self.folder / "backout.toml").write_text("".join(parts), encoding="utf-8")

    @property
    def url(self) -> str:
        """The connection string of the journal."""
        return f"{self.server.rpartition('/')[0]}/journal_{self._database}"

    def start(self, count: int) -> None:
        """Start so many workers."""
        environment = {
            **os.environ,
            "BACKOUT_JOURNAL_URL": self.url,
            "CLOUDFLARE_API_TOKEN": "a-token-of-the-benchmark",
        }
        argv = tie_to_parent((str(Path(sys.executable).parent / "backout"), "worker"), signal.SIGKILL)
        with (self.folder / "workers.log").open("ab") as log:
            self.workers = [
                subprocess.Popen(argv, cwd=self.folder, env=environment, stdout=log, stderr=log) for _ in range(count)
            ]

    def stop(self) -> None:
        """End the workers."""
        for each in self.workers:
            each.terminate()
        for each in self.workers:
            each.wait()
        self.workers = []

    def wait(self, query: str, wanted: int, what: str) -> None:
        """Wait until a query of the journal finds so many."""
        until = time.monotonic() + _SETTLES_S
        found = -1
        while found < wanted:
            if time.monotonic() > until:
                sys.exit(f"worker: {what}: {found} of {wanted}, see {self.folder / 'workers.log'}")
            time.sleep(1)
            with contextlib.suppress(psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
                found = self.ask(query)

    def ask(self, query: str) -> int:
        """Return the one number that a query of the journal finds."""
        with psycopg.connect(self.url) as connection:
            row = connection.execute(query.encode()).fetchone()
        return 0 if row is None else int(row[0])

    def call(self, path: str, *, post: bool = False) -> Any:
        """Return what the account answers."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", b"" if post else None)
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def read_cpu_s(self) -> float:
        """Return the processor time of all workers so far."""
        return sum(_read_cpu_s(each.pid) for each in self.workers)

    def read_rss_mb(self) -> float:
        """Return the memory of the largest worker."""
        return max(_read_rss_mb(each.pid) for each in self.workers)

    def read(self) -> Reading:
        """Return what was used so far."""
        rows = "SELECT (SELECT count(*) FROM backout.event) + (SELECT count(*) FROM backout.counts)"
        calls, events = sum(self.call("/calls").values()), self.ask(rows)
        return Reading(time.monotonic(), self.read_cpu_s(), calls, events)

    def measure(self, since: Reading, environments: int) -> dict[str, float]:
        """Return what guarding has cost since then, each for an environment and a second."""
        now = self.read()
        took = (now.at - since.at) * environments
        return {
            "cpu_s": (now.cpu_s - since.cpu_s) / took,
            "calls": (now.calls - since.calls) / took,
            "rows": (now.rows - since.rows) / took,
            "rss_mb": self.read_rss_mb(),
        }


def _read_cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _HERTZ  # proc(5): 14 and 15, of itself alone


def _read_rss_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


@contextlib.contextmanager
def make_bench(count: int) -> Iterator[Bench]:
    """Run the account and the journal's server."""
    with tempfile.TemporaryDirectory(prefix="backout-bench-") as name, contextlib.ExitStack() as ends:
        folder = Path(name)
        (folder / "logs").mkdir()
        for number in range(count):
            (folder / "logs" / f"app-{number}.jsonl").touch()
        (port,) = find_free_ports(1)
        account = Path(__file__).parent / "shared" / "worker_account.py"
        argv = (sys.executable, "-I", "-S", str(account), str(folder), str(port), str(count))
        process = subprocess.Popen(tie_to_parent(argv, signal.SIGKILL))
        ends.callback(process.kill)
        with tempfile.TemporaryDirectory(prefix="backout-bench-journal-") as data:
            server = PostgresServer(Path(data, "data"), find_binaries())
            server.create()
            there = server.start(password=_PASSWORD).port
            ends.callback(server.stop, mode="immediate")
            bench = Bench(folder, count, f"postgresql://postgres:{_PASSWORD}@127.0.0.1:{there}/postgres", port=port)
            try:
                yield bench
            finally:
                bench.stop()
                ends.close()


def measure_one(bench: Bench, seconds: float) -> Samples:
    """Return what one environment costs: busy, in its watch, and quiet, followed."""
    bench.write_config(1, f"{seconds + 30:.0f}s")
    bench.call("/busy/1/50", post=True)
    bench.start(1)
    bench.wait("SELECT count(*) FROM backout.event WHERE kind = 'step.start'", 1, "the watch")
    time.sleep(5)
    since = bench.read()
    time.sleep(seconds)
    busy = bench.measure(since, 1)
    bench.call("/busy/0/0", post=True)
    bench.wait("SELECT count(*) FROM backout.event WHERE kind = 'run.ok'", 1, "the end of the watch")
    time.sleep(5)
    since = bench.read()
    time.sleep(seconds)
    quiet = bench.measure(since, 1)
    bench.stop()
    return {
        f"{name}_{key}": [value] for name, found in (("busy", busy), ("quiet", quiet)) for key, value in found.items()
    }


def begin_many(bench: Bench, environments: int, workers: int) -> None:
    """Have so many workers guard many environments, all of them quiet by now."""
    bench.write_config(environments, "5s")
    bench.start(workers)
    bench.wait("SELECT count(*) FROM backout.event WHERE kind = 'run.ok'", environments, "the ends of the watches")


def compare(options: argparse.Namespace) -> Samples:
    """Return the samples of all rounds."""
    total = options.environments
    with make_bench(1) as bench:
        samples = measure_one(bench, options.seconds)
    parts = {"one": (total, 1), "two": (total, 2), "four": (total, 4), "half": (total // 2, 1)}
    with contextlib.ExitStack() as ends:
        benches = {}
        for name, (environments, workers) in parts.items():
            benches[name] = ends.enter_context(make_bench(environments))
            begin_many(benches[name], environments, workers)
            print(f"{name}: begun", file=sys.stderr)
        time.sleep(10)
        for number in range(options.rounds):
            since = {name: bench.read() for name, bench in benches.items()}
            time.sleep(options.seconds)
            for name, bench in benches.items():
                found = bench.measure(since[name], parts[name][0])
                print(f"round {number + 1}: {name}: {found}", file=sys.stderr)
                for key, value in found.items():
                    samples.setdefault(f"{name}_{key}", []).append(value)
    return samples


def make_pairs(samples: Samples) -> dict[str, tuple[list[float], list[float]]]:
    """Return the two sides of each ratio."""
    one = samples["one_cpu_s"]
    names = {"two_workers": "two", "four_workers": "four", "half": "half"}
    return {key: (samples[f"{name}_cpu_s"], one) for key, name in names.items()}


def main() -> None:
    """Measure, and print a table or one `backout.benchmark/1`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument("--rounds", type=int, default=6, help="how many times the cost of many is measured")
    parser.add_argument("--environments", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0, help="for which each cost is measured")
    options = parser.parse_args()
    samples = compare(options)
    pairs = make_pairs(samples)
    ratios = {key: measure.ratio(*pair) for key, pair in pairs.items()}
    if options.json:
        print(measure.as_json(measure.relative("worker", samples, pairs)))
        return
    print(f"worker: {options.environments} environments, {measure.describe_machine()}")
    for key, values in samples.items():
        print(f"  {key:<16} {statistics.median(values):10.5f}  (n = {len(values)})")
    for key, value in ratios.items():
        low, high = measure.ratio_bound(*pairs[key])
        print(f"  {key:<16} {value:10.3f}  ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
