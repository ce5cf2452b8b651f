"""The speed of reading events and counting templates, compared with DuckDB and jq counting exceptions by message.

Every sample is a separate process with one thread; its CPU time is that of the reading, without the start (jq: with its
5 ms). DuckDB reads four typed columns and masks numbers by a regular expression; jq prints the messages.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from shared import events
from shared import measure as shared

if TYPE_CHECKING:
    from collections.abc import Mapping

    Samples = dict[str, list[float]]

GOALS = {
    "events_per_cpu_s": "at least 500,000",
    "pretty_events_per_cpu_s": "at least 250,000",
    "decoded_events_per_cpu_s": "at least 300,000",
    "duckdb": "at least 1.4",
    "jq": "at least 5",
    "rss_mb": "at most 150",
    "two_processes": "about 2",
    "two_cores": "none: what two readers of half the events each get out of this machine",
    "first_20000_s": "at most 0.3",
}
_MEASURED = """
import json, resource, sys, time
def spent(who=resource.RUSAGE_SELF):
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime
def report(began, cpu, rows):
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"cpu": spent() - cpu, "wall": time.monotonic() - began, "rss": peak, "rows": rows}))
"""
_OURS = f"""{_MEASURED}
from pathlib import Path
from backout.providers.events import fast
from backout.wiring.diagnosis import events_of
if sys.argv[2] == "decoded":
    fast.stringzilla = None
began, cpu = time.monotonic(), spent()
found = events_of([Path(sys.argv[1])] * int(sys.argv[4]), jobs=int(sys.argv[3]))
report(began, cpu, [found.invocations, found.errors, len(found.templates)])
"""
_DUCKDB = f"""{_MEASURED}
import duckdb
connection = duckdb.connect()
connection.execute("SET threads = 1")
began, cpu = time.monotonic(), spent()
rows = connection.execute('''
    SELECT scriptVersion.id, regexp_replace(exceptions[1].message, '[0-9]+', '#', 'g') AS message, count(*)
    FROM read_json(?, format = 'newline_delimited', columns = {{
        outcome: 'VARCHAR', scriptVersion: 'STRUCT(id VARCHAR)', eventTimestamp: 'BIGINT',
        exceptions: 'STRUCT(name VARCHAR, message VARCHAR)[]'}})
    WHERE len(exceptions) > 0 GROUP BY ALL''', [sys.argv[1]]).fetchall()
report(began, cpu, [len(rows)])
"""  # noqa: S608 - the path is a parameter
_OFTEN = 6
"""How often the file is read where processes share it: each takes 0.15 s to start."""
_JQ = ".exceptions[].message"


def child(code: str, *arguments: str) -> dict[str, float]:
    """Run a script in an interpreter of its own and return what it measured."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=600, check=False
    )
    if done.returncode != 0:
        sys.exit(f"diagnose: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def jq(path: Path) -> float:
    """Return the CPU seconds that jq takes."""
    with Path(os.devnull).open("wb") as nowhere:
        process = subprocess.Popen(["jq", "-r", _JQ, str(path)], stdout=nowhere)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"diagnose: jq: exit {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def ours_on(path: Path, mode: str = "fast", jobs: int = 1, times: int = 1) -> dict[str, float]:
    """Return the cost of reading a file a number of times: `decoded` without the optional wheel."""
    return child(_OURS, str(path), mode, str(jobs), str(times))


def beside_itself(path: Path) -> float:
    """Return the seconds of two independent readers: what this machine's two cores can achieve."""
    with ThreadPoolExecutor(2) as pool:
        return max(found["wall"] for found in pool.map(lambda _: ours_on(path, "decoded", times=_OFTEN // 2), range(2)))


def measure(folder: Path, rounds: int, number: int) -> Samples:
    """Return samples of all sides, interleaved in random order after one warm-up."""
    compact, pretty, few = folder / "compact.json", folder / "pretty.json", folder / "few.json"
    events.write(compact, number)
    events.write(pretty, number // 2, in_lines=True)
    events.write(few, 20_000)
    draw = random.Random(1)  # noqa: S311 - an order, no secret
    samples: Samples = {}

    def keep(key: str, value: float) -> None:
        samples.setdefault(key, []).append(round(value, 4))

    def ours() -> None:
        found = ours_on(compact)
        keep("backout_s", found["cpu"])
        keep("backout_wall_s", found["wall"])
        keep("events_per_cpu_s", number / found["cpu"])
        keep("rss_mb", found["rss"])

    def spread() -> None:
        keep("pretty_events_per_cpu_s", number // 2 / ours_on(pretty)["cpu"])

    sides = (
        ours,
        spread,
        lambda: keep("decoded_events_per_cpu_s", number / ours_on(compact, "decoded")["cpu"]),
        lambda: keep("two_processes_wall_s", ours_on(compact, "decoded", 2, _OFTEN)["wall"]),
        lambda: keep("one_process_wall_s", ours_on(compact, "decoded", 1, _OFTEN)["wall"]),
        lambda: keep("two_readers_wall_s", beside_itself(compact)),
        lambda: keep("first_20000_s", ours_on(few)["wall"]),
        lambda: keep("duckdb_s", child(_DUCKDB, str(compact))["cpu"]),
        lambda: keep("jq_s", jq(compact)),
    )
    for taken in range(rounds + 1):
        for side in draw.sample(sides, len(sides)):
            side()
        if not taken:
            samples.clear()
    return samples


def record(samples: Mapping[str, list[float]]) -> dict[str, object]:
    """Return a `backout.benchmark/1`."""
    pairs = {
        "duckdb": (samples["duckdb_s"], samples["backout_s"]),
        "jq": (samples["jq_s"], samples["backout_s"]),
        "two_processes": (samples["one_process_wall_s"], samples["two_processes_wall_s"]),
        "two_cores": (samples["one_process_wall_s"], samples["two_readers_wall_s"]),
    }
    alone = {key: samples[key] for key in GOALS if key not in pairs}
    return {
        "schema": "backout.benchmark/1",
        "name": "diagnose",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "samples": samples,
        "ratios": {
            **{key: statistics.median(values) for key, values in alone.items()},
            **{key: shared.ratio(*pair) for key, pair in pairs.items()},
        },
        "n": {
            **{key: len(values) for key, values in alone.items()},
            **{key: len(pair[0]) for key, pair in pairs.items()},
        },
        "bound95": {
            **{key: shared.median_bound(values) for key, values in alone.items()},
            **{key: shared.ratio_bound(*pair) for key, pair in pairs.items()},
        },
    }


def main() -> None:
    """Measure, and print a table or one `backout.benchmark/1`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument("--rounds", type=int, default=7, help="samples of each side")
    parser.add_argument("--events", type=int, default=200_000, help="events of 1.2 kB in each sample")
    options = parser.parse_args()
    if shutil.which("jq") is None:
        sys.exit("diagnose: jq is missing; Debian has it: apt-get install jq")
    for module in ("duckdb", "stringzilla"):
        if importlib.util.find_spec(module) is None:
            sys.exit(f"diagnose: {module} is missing; type: make bench")
    with tempfile.TemporaryDirectory(prefix="bench-events-") as folder:
        found = record(measure(Path(folder), options.rounds, options.events))
    if options.json:
        print(shared.as_json(found))
        return
    print(f"diagnose: medians of {options.rounds} ({found['machine']})")
    for key, goal in GOALS.items():
        low, high = found["bound95"][key]  # type: ignore[index]
        print(f"  {key:<26} {found['ratios'][key]:12,.2f}  (95 %: {low:,.2f} to {high:,.2f}; goal {goal})")  # type: ignore[index]


if __name__ == "__main__":
    main()
