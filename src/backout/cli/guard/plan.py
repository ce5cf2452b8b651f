"""`backout guard plan`: what guard would find at today's traffic, and how to deploy so that it finds more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli.support.options import Amount, Command, pass_shell

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell

_MOST_PER_S = 5.0


@click.command(
    "plan",
    cls=Command,
    short_help="Forecast how fast guard would find a regression.",
    epilog="""
Examples:
  backout guard plan -e production             # before the next deployment
  backout guard plan -e production --probes 5  # with 5 synthetic requests/s
  backout guard plan -e production --json
""",
)
@click.option(
    "--probes",
    type=Amount(min=0, max=_MOST_PER_S, min_open=True),
    default=1.0,
    show_default=True,
    metavar="N",
    help="Synthetic requests/s in the fourth column, sent by guard itself: guard.synthetic, at most 5.",
)
@pass_shell
def plan(shell: Shell, *, probes: float) -> int:
    """Show how fast guard would find errors of 1 %, 5 %, 100 % and latency x1.5 at today's traffic, and how to deploy.

    It runs the detector on the counts expected of a cut-over, of two splits, and of a cut-over with synthetic requests
    beside the traffic. Exit codes: 0 answered, 7 when no request has been counted yet.
    """
    from backout.cli.support.paint import paint_for
    from backout.report.guard import forecast as words
    from backout.runbook.hindsight.forecast import foresee
    from backout.wiring.hooks import Hooks
    from backout.wiring.toolbox import make_toolbox

    tools = make_toolbox(shell.config(), Hooks(say=shell.output.say))
    found = foresee(tools, synthetic_per_s=probes)
    style = shell.output.style
    human = words.format_text(tools.environment, found, tools.policy.guard, width=style.width, paint=paint_for(style))
    shell.output.result("guard-plan", words.make_record(tools.environment, found, tools.policy.guard), human)
    shell.output.next(f"backout guard -e {tools.environment} --next  # then deploy")
    return 0
