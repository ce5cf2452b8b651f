"""`backout drill history`: the drills that were run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli.drill.support import directory_option, open_history, read_config
from backout.cli.support.options import Command, pass_shell

if TYPE_CHECKING:
    from pathlib import Path

    from backout.cli.support.shell import Shell


@click.command("history", cls=Command, short_help="Show the drills that were run, newest first.")
@click.argument("name", required=False)
@click.option("--last", type=click.IntRange(min=1), default=30, show_default=True, metavar="N", help="At most so many.")
@directory_option
@pass_shell
def history(shell: Shell, *, name: str | None, last: int, directory: Path) -> None:
    """Show the drills that were run, newest first; of one drill with NAME. A killed one is shown as interrupted."""
    from backout.cli.drill.support import mark_ends
    from backout.report.drill_tables import HISTORY_HEADERS, make_history_row
    from backout.report.drills import make_record
    from backout.runbook.incident.drills import list_drills

    found = sorted(
        (each for each in list_drills(open_history(shell, read_config(shell), directory)) if name in (None, each.name)),
        key=lambda each: -each.at,
    )[:last]
    mark = mark_ends(shell)
    rows = [make_history_row(each, mark) for each in found]
    human = shell.output.table(HISTORY_HEADERS, rows, whole=True) if rows else "no drill was ever run here"
    shell.output.result("drill-history", {"drills": [make_record(each) for each in found]}, human)
    if not found:
        shell.output.next("backout drill run throws")
