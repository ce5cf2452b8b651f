"""`backout db migrations status`: how each migration stands, worked out from the rows and the files themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli.options import Command, pass_shell

if TYPE_CHECKING:
    from backout.cli.shell import Shell


@click.command(
    "status",
    cls=Command,
    short_help="What is applied, pending, failed, edited.",
    epilog="""
Examples:
  backout db migrations status -e production                    beside all others
  backout db migrations status -e production --against staging
  backout db migrations status -e staging --json
""",
)
@click.option("--against", metavar="ENV", help="Compare with this environment alone; it must be readable.")
@pass_shell
def status(shell: Shell, *, against: str | None) -> int:
    """Show what is applied, pending, failed, rolled back, edited since, out of order, or without a file here.

    The answer comes from the tool's table and from the files, never from the tool. Other environments with a database
    are compared: what production has and staging never ran is a finding. Exit codes: 0 in order (what is pending is),
    1 a finding, 7 a database does not answer.
    """
    from backout.cli.paint import paint_for  # noqa: PLC0415 - only when it runs
    from backout.report import migration_history as words  # noqa: PLC0415
    from backout.runbook.migrations import standing  # noqa: PLC0415
    from backout.wiring import history  # noqa: PLC0415

    config = shell.config()
    tool, known = history.tool_of(config), history.known_of(config)
    others, left_out = history.sides_beside(config, against)
    found = standing(history.side_of(config), others, known)
    style = shell.output.style
    human = words.standing_text(found, width=style.width, paint=paint_for(style))
    shell.output.result("db-migrations-status", words.standing_record(tool, found, tuple(left_out)), human)
    for sentence in left_out:
        shell.output.say(sentence)
    return found.exit_code
