"""Measure on the twin how soon guard finds a bad version by Workers Logs' telemetry, beside the router's own counts.

Run it as `.venv/bin/python tools/measure_telemetry.py [ROUNDS]`, on a machine that does nothing else: six minutes a
round. In each round every source in turn sees a good version become `throws-on-one-route` (25 requests/s, a third of
them fail); the telemetry is exact and late by the seconds of its row. It prints the table of
docs/research/telemetry.md.
"""

from __future__ import annotations

import json
import re
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from recorded_shell import type_line

from backout.config import Environment, load
from backout.model.guard.signals import sum_counts
from backout.model.steps.guard import WatchStep
from backout.model.steps.rollback import ActivateStep
from backout.ports import find_result
from backout.twin import remote
from backout.twin.stage import ENVIRONMENT, Pace, Stage
from backout.wiring.toolbox import make_toolbox

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.incident.incident import Run
    from backout.runbook.toolbox import Toolbox

RATE_PER_S, BASELINE_S, WATCH_S = 25.0, 80, 150
LISTED = 10
LATE_S = (None, 5, 20, 60)
"""None: the router."""
ROUTER = re.compile(r"^traffic = .*$", re.MULTILINE)


@dataclass
class Found:
    """What one watch came to: seconds from the deployment, and the bad version's failed answers until its end."""

    detected_s: float | None
    rolled_back_s: float | None
    failed: int


def open_tools(config: Path) -> Toolbox:
    """Return the tools of a configuration."""
    return make_toolbox(load(Environment({}), start=config.parent, path=config, environment=ENVIRONMENT))


def write_config(stage: Stage, late_s: int | None) -> Path:
    """Write the configuration of one source, with a copy of the journal in which the good version alone is known."""
    text = stage.config_file.read_text(encoding="utf-8")
    if late_s is not None:
        text = ROUTER.sub('traffic = { provider = "telemetry" }', text)
    guard = f'probe_every = "1s"\nwarm_up = "1h"\nat_most = "1 per 1s"\nbaseline = "{BASELINE_S}s"'
    name = f"journal-{time.time_ns()}"
    for file in stage.directory.glob("journal.sqlite*"):
        shutil.copy(file, stage.directory / file.name.replace("journal", name, 1))
    text = text.replace('probe_every = "1s"', guard).replace("below = 0.01", "below = 0.05")
    config = stage.directory / f"{name}.toml"
    config.write_text(text.replace("journal.sqlite", f"{name}.sqlite"), encoding="utf-8")
    return config


def call_guard(config: Path, *words: str) -> dict[str, object]:
    """Run guard to its end, and return what it says."""
    line = f"backout guard -e {ENVIRONMENT} --config {config} --json {' '.join(words)} 2>/dev/null"
    done = type_line(line, config.parent, columns=100)
    found: dict[str, object] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def watch_bad_version(stage: Stage, good: str, bad: str, late_s: int | None) -> Found:
    """Have the good version live for a while, then the bad one, and return what guard makes of it."""
    config, router = write_config(stage, late_s), open_tools(stage.config_file)
    for _ in range(LISTED):  # so that no remark on the bad version is listed
        router.deployments.activate(good, message="pushed", force=True)
    if late_s is not None:
        remote.set_fault(stage.twin, {"kind": "telemetry-lag", "target": None, "latency_ms": late_s * 1000})
    time.sleep(BASELINE_S + (late_s or 0) + 10)
    router.deployments.activate(bad, message="pushed", force=True)
    deployed_at = router.deployments.history()[0].created_at
    call_guard(config)
    ended_at = time.time()
    tools = open_tools(config)
    runs = [run for run in tools.runs.runs(ENVIRONMENT) if run.started_at >= deployed_at]
    time.sleep(3)  # the router's counts are final after a second
    page = router.traffic.read(int(deployed_at), int(ended_at) + 1) if router.traffic else None
    _, failed = sum_counts(row for row in (page.counts if page else ()) if row.version == bad)
    return Found(_find_detection(tools, runs, deployed_at), _find_switch(tools, runs, deployed_at), failed)


def _find_detection(tools: Toolbox, runs: list[Run], since: float) -> float | None:
    found = (find_result(tools.runs, run.id, WatchStep) for run in runs)
    return next((watch.decision.at - since for watch in found if watch is not None and watch.decision), None)


def _find_switch(tools: Toolbox, runs: list[Run], since: float) -> float | None:
    found = (find_result(tools.runs, run.id, ActivateStep) for run in runs)
    return next((switch.at - since for switch in found if switch is not None), None)


def format_row(late_s: int | None, found: list[Found]) -> str:
    """Return a row of the table: medians, with the least and the most."""
    name = "the router's counts, 1 s late" if late_s is None else f"telemetry, exact, {late_s} s late"
    columns = (
        _format_values([each.detected_s for each in found]),
        _format_values([each.rolled_back_s for each in found]),
        _format_values([each.failed for each in found]),
    )
    return f"| {name} | {len(found)} | {' | '.join(columns)} |"


def _format_values(values: Sequence[float | None]) -> str:
    known = sorted(value for value in values if value is not None)
    if not known:
        return "never: advice"
    missing = f", {len(values) - len(known)} never" if len(known) < len(values) else ""
    return f"{statistics.median(known):.0f} ({known[0]:.0f} to {known[-1]:.0f}){missing}"


def main() -> None:
    """Measure, and print the table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    found: dict[int | None, list[Found]] = {late_s: [] for late_s in LATE_S}
    with tempfile.TemporaryDirectory(prefix="telemetry-") as folder:
        stage = Stage(Path(folder), Pace(watch_s=WATCH_S, error_rate_for_s=8, quiet_s=2), tied=True)
        try:
            stage.set_up()
            bad, good = stage.deploy("throws-on-one-route"), stage.deploy("good")
            with stage.visitors(RATE_PER_S):
                call_guard(stage.config_file, "--early")
                for late_s in LATE_S * rounds:
                    found[late_s].append(watch_bad_version(stage, good, bad, late_s))
                    remote.clear_faults(stage.twin, "telemetry-lag", None)
                    print(late_s, found[late_s][-1], file=sys.stderr)
        finally:
            stage.tear_down()
    load_1, load_5, _ = Path("/proc/loadavg").read_text(encoding="ascii").split()[:3]
    print(f"load average {load_1} and {load_5} at the end\n")
    print("| counts | n | found after, s | rolled back after, s | failed answers |\n|---|---|---|---|---|")
    print("\n".join(format_row(late_s, each) for late_s, each in found.items()))


if __name__ == "__main__":
    main()
