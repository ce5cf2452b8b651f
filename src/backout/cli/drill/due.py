"""`backout drill due`: the drills that should be run again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli.drill.support import directory_option, drills_option, open_history, read_config, read_drills
from backout.cli.support.options import Command, pass_shell

if TYPE_CHECKING:
    from pathlib import Path

    from backout.cli.support.shell import Shell


@click.command("due", cls=Command, short_help="Name the drills that should be run again.")
@drills_option
@directory_option
@pass_shell
def due(shell: Shell, *, own: Path | None, directory: Path) -> int:
    """Name the drills that were never run, did not pass, or passed too long ago. Exit code 1 when there is one."""
    from backout.analysis.drills import list_due
    from backout.report.drills import make_due_record
    from backout.runbook.incident.drills import list_drills
    from backout.wiring.drills.records import read_clock

    config = read_config(shell)
    wanted = {drill.name: float(drill.file.due_after) for drill in read_drills(shell, config, own)}
    found = list_due(wanted, list_drills(open_history(shell, config, directory)), read_clock())
    rows = [(each.name, each.why) for each in found]
    human = shell.output.table(("DRILL", "WHY"), rows, whole=True) if rows else "no drill is due"
    shell.output.result("drill-due", {"due": [make_due_record(each) for each in found]}, human)
    if found:
        shell.output.next(f"backout drill run {' '.join(each.name for each in found[:3])}")
    return 1 if found else 0
