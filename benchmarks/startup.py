"""The CPU time of `backout --help` and `backout --version`: milliseconds, user and system time of the whole process.

The floor, an interpreter that does nothing, is measured in the same run and reported beside them.
Goals: --help below 100 ms, --version below 40 ms.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys

from shared import measure as shared

COMMANDS = {
    "help_cpu_ms": ["-m", "backout", "--help"],
    "version_cpu_ms": ["-m", "backout", "--version"],
    "rollback_help_cpu_ms": ["-m", "backout", "rollback", "--help"],
    "floor_cpu_ms": ["-c", "pass"],
}
GOALS_MS = {"help_cpu_ms": 100.0, "version_cpu_ms": 40.0}


def cpu_ms(arguments: list[str]) -> float:
    """Run the interpreter once and return the CPU time of that process."""
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.stderr is not None  # noqa: S101 - PIPE above
    with process.stderr:
        if process.returncode != 0:
            sys.exit(f"{' '.join(arguments)}: exit {process.returncode}: {process.stderr.read().decode()}")
    return (usage.ru_utime + usage.ru_stime) * 1000.0


def measure(runs: int) -> dict[str, list[float]]:
    """Return `runs` samples of each command, interleaved in random order after one warm-up."""
    samples: dict[str, list[float]] = {key: [] for key in COMMANDS}
    order = random.Random(1)  # noqa: S311 - an order, no secret
    for number in range(runs + 1):
        for key in order.sample(list(COMMANDS), len(COMMANDS)):
            taken = cpu_ms(COMMANDS[key])
            if number:
                samples[key].append(round(taken, 3))
    return samples


def main() -> None:
    """Measure, and print a table or one `backout.benchmark/1`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument("--runs", type=int, default=25, help="samples of each command")
    options = parser.parse_args()
    samples = measure(options.runs)
    record = shared.absolute("startup", samples)
    if options.json:
        print(shared.as_json(record))
        return
    print(f"startup: CPU of the whole process, medians of {options.runs} ({record['machine']})")
    for key, values in samples.items():
        median, (low, high) = statistics.median(values), shared.median_bound(values)
        goal = f"  goal < {GOALS_MS[key]:.0f} ms" if key in GOALS_MS else ""
        print(f"  {key.removesuffix('_cpu_ms'):<14} {median:6.1f} ms  (95 %: {low:.1f} to {high:.1f}){goal}")


if __name__ == "__main__":
    main()
