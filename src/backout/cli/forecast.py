"""`backout guard plan`: what guard would find at today's traffic, and how to deploy so that it finds more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli.options import Command, pass_shell

if TYPE_CHECKING:
    from backout.cli.shell import Shell

_MOST_PER_S = 5.0


@click.command(
    "plan",
    cls=Command,
    short_help="Forecast: how fast would guard find what?",
    epilog="""
Examples:
  backout guard plan -e production             before the next deployment
  backout guard plan -e production --probes 5  with 5 synthetic requests/s
  backout guard plan -e production --json
""",
)
@click.option(
    "--probes",
    type=click.FloatRange(min=0, max=_MOST_PER_S, min_open=True),
    default=1.0,
    show_default=True,
    metavar="N",
    help="Synthetic requests/s of the fourth column, which guard sends itself: guard.synthetic, 5 at most.",
)
@pass_shell
def plan(shell: Shell, *, probes: float) -> int:
    """Say how fast guard would find errors of 1 %, 5 %, 100 % and latency x1.5 at today's traffic, and how to deploy.

    The detector itself is asked: it is fed the counts to be expected of a cut-over, of two splits, and of a cut-over
    with synthetic requests beside the traffic. Exit codes: 0 answered, 7 when no request was counted yet.
    """
    from backout import wiring  # noqa: PLC0415 - only commands that ask the provider pay for it
    from backout.cli.paint import paint_for  # noqa: PLC0415
    from backout.report import forecast as words  # noqa: PLC0415
    from backout.runbook.forecast import foresee  # noqa: PLC0415

    tools = wiring.toolbox(shell.config(), wiring.Hooks(say=shell.output.say))
    found = foresee(tools, synthetic_per_s=probes)
    style = shell.output.style
    human = words.text(tools.environment, found, width=style.width, paint=paint_for(style))
    shell.output.result("guard-plan", words.record(tools.environment, found), human)
    shell.output.next(f"backout guard -e {tools.environment} --next  # then deploy")
    return 0
