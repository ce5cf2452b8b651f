"""`backout dora`: the DORA metrics of an environment, and guard's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli.support.options import command, pass_shell
from backout.errors import UsageError

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell


@command(
    "dora",
    short_help="Deployment frequency, lead time, failures, recovery.",
    epilog="""
Examples:
  backout dora -e production
  backout dora --since 90d -e production --json
""",
)
@click.option("--since", metavar="DURATION", default="30d", show_default=True, help="The window, which ends now.")
@pass_shell
def dora(shell: Shell, *, since: str) -> None:
    """Show the five DORA metrics and guard's own, each with its formula, its n and what was left out.

    A deployment is new code that reached all of the traffic. It reads the journal and what the provider lists, and
    changes nothing. With fewer than ten a share is said as "3 of 8".
    """
    from backout.analysis.history.dora import compute_dora
    from backout.cli.support.paint import paint_for
    from backout.config.scalars import parse_seconds
    from backout.report.incident.dora import format_text, make_record
    from backout.runbook.hindsight.dora import read_history
    from backout.wiring.incidents import make_commit_clock

    config = shell.config()
    window_s = parse_seconds(since, "--since")
    if window_s <= 0:
        raise UsageError("the window must be longer than 0", where="--since", hint="--since 30d")
    tools = shell.toolbox(config)
    history, notes = read_history(tools, tools.clock.now() - window_s, make_commit_clock(config))
    found, style = compute_dora(history), shell.output.style
    human = format_text(found, width=style.width, paint=paint_for(style))
    shell.output.result("dora", {**make_record(found), "notes": list(notes)}, human)
    for note in notes:
        shell.output.warn(note)
