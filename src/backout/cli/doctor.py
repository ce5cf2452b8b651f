"""`backout doctor`: one table of what must be in place before an incident, with the command that closes each gap."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli.support.options import command, pass_shell
from backout.model.checkup import CheckState, Level

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell

MOST_LINES = 4


@command(
    "doctor",
    short_help="Check readiness for an incident, and how to close each gap.",
    epilog="""
Examples:
  backout doctor -e production
  backout doctor -e production --send      # a test notice through every channel as well
""",
)
@click.option("--send", is_flag=True, help="Send a test notice through every channel of [notify].")
@pass_shell
def doctor(shell: Shell, send: bool) -> int:
    """Check everything that a rollback, a watch and a restore depend on, and say how to close each gap.

    Nothing is changed. Whatever does not answer within a few seconds is "unmeasured". It works with a damaged journal
    and without the platform's API. What must be there, and what only should be, depends on whether guard acts by
    itself.

    Exit codes: 0 ready; 1 something required is missing; 7 something required did not answer.
    """
    from backout.cli.support.paint import paint_for
    from backout.cli.support.style import Tone
    from backout.config.init.additions import rewrite_for_file
    from backout.report.checkup import format_checkup, make_checkup_record
    from backout.wiring.checkup import run_checkup

    config = shell.config()
    found = run_checkup(config, send=send)
    style = shell.output.style
    text = format_checkup(
        found,
        style.width,
        badge=lambda role, word: style.badge(word, Tone(role)),
        paint=paint_for(style),
        typed=lambda line: rewrite_for_file(shell.output.complete_command(line), config.text, config.path.name),
    )
    shell.output.result("doctor", make_checkup_record(found), text)
    missing = found.of(Level.MUST, CheckState.MISSING)
    lines = dict.fromkeys(line for check in missing for line in check.next.lines if line.startswith("backout "))
    if lines:
        shell.output.next(*list(lines)[:MOST_LINES])
    elif found.ready:
        shell.output.next(f"backout status -e {found.environment}")
    return found.exit_code
