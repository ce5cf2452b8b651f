"""`backout guard report`: what past watches say about arming guard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli.support.options import Command, pass_shell

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell


@click.command("report", cls=Command, short_help="Results of past watches: is guard ready to act by itself?")
@click.option("--last", type=click.IntRange(min=1), metavar="N", help="Only the newest N watches; default: all.")
@pass_shell
def report(shell: Shell, *, last: int | None) -> None:
    """Show what guard would have done, what people did, and whether it is time to arm it (mode = act)."""
    from backout.cli.support.paint import paint_for
    from backout.report.guard import track_record
    from backout.runbook.hindsight.track_record import look_back
    from backout.wiring.toolbox import make_toolbox

    found = look_back(make_toolbox(shell.config()), last)
    style = shell.output.style
    human = track_record.format_text(found, width=style.width, paint=paint_for(style))
    shell.output.result("guard-report", track_record.make_record(found), human)
