"""`backout drill list`: the drills that there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli.drill.support import directory_option, drills_option, open_history, read_config, read_drills
from backout.cli.support.options import Command, pass_shell

if TYPE_CHECKING:
    from pathlib import Path

    from backout.cli.support.shell import Shell


@click.command(
    "list",
    cls=Command,
    short_help="List the drills that there are, and how each last ended.",
    epilog="""
Examples:
  backout drill list
  backout drill list --drills ops/drills     # a folder of your own, see docs/drills.md
""",
)
@drills_option
@directory_option
@pass_shell
def list_(shell: Shell, *, own: Path | None, directory: Path) -> None:
    """List the drills that there are: ours, and your own. A wrong file is told with every mistake and its line."""
    from backout.analysis.drills import summarize_drills
    from backout.cli.support.style import Tone
    from backout.model.drill import DrillEnd
    from backout.report.drills import make_summary_record
    from backout.runbook.incident.drills import list_drills

    config = read_config(shell)
    drills = read_drills(shell, config, own)
    known = {each.name: each for each in summarize_drills(list_drills(open_history(shell, config, directory)))}
    style, rows, records = shell.output.style, [], []
    tones = {DrillEnd.PASSED: Tone.GOOD, DrillEnd.MISSED: Tone.BAD, DrillEnd.INTERRUPTED: Tone.WARN}
    for drill in drills:
        summary, file = known.get(drill.name), drill.file
        last = "never run" if summary is None else style.badge(summary.last.end, tones[summary.last.end])
        rows.append((drill.name, file.group, file.expect.action, last, file.title))
        record = None if summary is None else make_summary_record(summary)
        records.append(
            {
                "name": drill.name,
                "title": file.title,
                "group": file.group,
                "environment": file.environment,
                "expected_scenario": file.expect.scenario,
                "expected_action": file.expect.action,
                "file": str(drill.path),
                "history": record,
            }
        )
    human = shell.output.table(("DRILL", "GROUP", "EXPECTED", "LAST", "WHAT HAPPENS"), rows, whole=True)
    shell.output.result("drill-list", {"drills": records}, human)
    if drills:
        shell.output.next(f"backout drill run {drills[0].name}", "backout drill run --all")
