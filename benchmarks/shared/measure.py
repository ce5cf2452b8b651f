"""CPU, wall time and memory of one command with all its children, and ratios of medians with their 95 % interval.

A process inherits its parent's peak memory at exec, so commands are started by a launcher that is smaller than any
of them, and never by the benchmark itself.
"""

from __future__ import annotations

import json
import os
import platform
import random
import statistics
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

FIGURES = ("cpu", "wall", "rss")
UNITS = {"cpu": "s", "wall": "s", "rss": "MB"}

# Only modules that are in the interpreter anyway: this process must stay small. ru_maxrss is in KiB on Linux.
_LAUNCHER = """
import os, sys, time
null = os.open(os.devnull, os.O_RDONLY)
began = time.monotonic()
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[
    (os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, 2, 1)])
_, status, usage = os.wait4(pid, 0)
wall = time.monotonic() - began
print(os.waitstatus_to_exitcode(status), wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of a command.

    Args:
        cpu: user and system seconds of all its processes.
        wall: seconds.
        rss: peak of its largest process, in MB.
    """

    cpu: float
    wall: float
    rss: float


def settle() -> None:
    """Have everything written, and memory that is this machine's own, before a sample that fills gigabytes of it.

    A virtual machine may give free memory back to its host within seconds; who touches it next pays for having it
    back: of two sides that fill the page cache in turn, now the one and now the other. A child touches some and ends.
    """
    os.sync()
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    touched = min(5 << 30, available // 2)
    subprocess.run([sys.executable, "-I", "-S", "-c", f"b'x' * {touched}"], check=True)


def run(argv: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> Sample:
    """Run a command to its end and measure it; any exit but 0 ends the benchmark with what the command said."""
    launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, *argv]
    done = subprocess.run(launcher, cwd=cwd, env=dict(env), capture_output=True, text=True, timeout=1200, check=False)
    code, wall, cpu, rss_kib = (done.stdout.split() or ["1", "0", "0", "0"])[:4]
    if done.returncode != 0 or code != "0":
        sys.exit(f"{' '.join(argv)}: exit {code}: {done.stderr[-2000:]}")
    return Sample(round(float(cpu), 4), round(float(wall), 4), round(int(rss_kib) / 1024, 1))


def ratio(ours: Sequence[float], peer: Sequence[float]) -> float:
    """Return the ratio of the medians."""
    return statistics.median(ours) / statistics.median(peer)


def ratio_bound(ours: Sequence[float], peer: Sequence[float], draws: int = 4000) -> list[float]:
    """Return the 95 % bootstrap interval of the ratio of the medians."""
    source = random.Random(2)  # noqa: S311 - a bootstrap
    drawn = sorted(ratio(source.choices(ours, k=len(ours)), source.choices(peer, k=len(peer))) for _ in range(draws))
    return [drawn[int(draws * 0.025)], drawn[int(draws * 0.975)]]


def describe_machine() -> str:
    """Return what figures were measured on, in a few words."""
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def record(name: str, ours: Sequence[Sample], peer: Sequence[Sample], peer_name: str) -> dict[str, object]:
    """Return a `backout.benchmark/1`: both sides' raw samples, and the ratios `cpu`, `wall` and `rss`."""
    sides = {"backout": ours, peer_name: peer}
    columns = {f"{side}_{key}": [getattr(s, key) for s in sides[side]] for key in FIGURES for side in sides}
    pairs = {key: (columns[f"backout_{key}"], columns[f"{peer_name}_{key}"]) for key in FIGURES}
    return relative(name, columns, pairs)


def relative(
    name: str, samples: Mapping[str, Sequence[float]], pairs: Mapping[str, tuple[Sequence[float], Sequence[float]]]
) -> dict[str, object]:
    """Return a `backout.benchmark/1`: raw samples, and the ratio of each pair of them, (ours, the peer's)."""
    return {
        "schema": "backout.benchmark/1",
        "name": name,
        "machine": describe_machine(),
        "samples": samples,
        "ratios": {key: ratio(*pair) for key, pair in pairs.items()},
        "n": {key: len(pair[0]) for key, pair in pairs.items()},
        "bound95": {key: ratio_bound(*pair) for key, pair in pairs.items()},
    }


def median_bound(values: Sequence[float], draws: int = 2000) -> list[float]:
    """Return the 95 % bootstrap interval of the median."""
    source = random.Random(2)  # noqa: S311 - a bootstrap
    medians = sorted(statistics.median(source.choices(values, k=len(values))) for _ in range(draws))
    return [medians[int(draws * 0.025)], medians[int(draws * 0.975)]]


def absolute(name: str, samples: Mapping[str, Sequence[float]]) -> dict[str, object]:
    """Return a `backout.benchmark/1` without a peer: its `ratios` are the medians themselves."""
    return {
        "schema": "backout.benchmark/1",
        "name": name,
        "machine": describe_machine(),
        "samples": samples,
        "ratios": {key: statistics.median(values) for key, values in samples.items()},
        "n": {key: len(values) for key, values in samples.items()},
        "bound95": {key: median_bound(values) for key, values in samples.items()},
    }


def as_json(values: Mapping[str, object]) -> str:
    """Return one line."""
    return json.dumps(values, separators=(",", ":"))
