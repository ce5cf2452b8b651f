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
    from backout.cli.support.style import Tone
    from backout.model.drill import DrillEnd
    from backout.report.drills import HEADERS, describe_missed, format_row, make_record
    from backout.report.times import format_time
    from backout.runbook.incident.drills import list_drills

    found = sorted(
        (each for each in list_drills(open_history(shell, read_config(shell), directory)) if name in (None, each.name)),
        key=lambda each: -each.at,
    )[:last]
    style, rows = shell.output.style, []
    for record in found:
        cells = (record.name, *"------") if record.result is None else format_row(record.result)[:-1]
        tone = Tone.GOOD if record.end is DrillEnd.PASSED else Tone.BAD
        why = "" if record.end is DrillEnd.PASSED else "; ".join(describe_missed(record))
        rows.append((format_time(record.at)[:16], *cells, style.badge(record.end, tone), why))
    human = shell.output.table(("AT", *HEADERS, ""), rows, flexible=9) if rows else "no drill was ever run here"
    shell.output.result("drill-history", {"drills": [make_record(each) for each in found]}, human)
    if not found:
        shell.output.next("backout drill run throws")
