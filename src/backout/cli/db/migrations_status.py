"""`backout db migrations status`: the state of each migration, worked out from the rows and the files themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli.support.options import Command, pass_shell

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell


@click.command(
    "status",
    cls=Command,
    short_help="Show what is applied, pending, failed or edited.",
    epilog="""
Examples:
  backout db migrations status -e production                    # beside all others
  backout db migrations status -e production --against staging
  backout db migrations status -e staging --json
""",
)
@click.option("--against", metavar="ENV", help="Compare with this environment only; it must be readable.")
@pass_shell
def status(shell: Shell, *, against: str | None) -> int:
    """Show what is applied, pending, failed, rolled back, edited since, out of order, or without a file here.

    It reads the tool's table and the files, and never asks the tool. Other environments with a database are compared: a
    migration that production has and staging never ran is a finding. Exit codes: 0 in order (pending migrations are), 1
    a finding, 7 a database does not answer.
    """
    from backout.cli.support.paint import paint_for
    from backout.report.database import migration_history as words
    from backout.runbook.rollback.migrations import read_standing
    from backout.wiring.db import history

    config = shell.config()
    tool, known = history.get_tool(config), history.list_known_migrations(config)
    others, left_out = history.make_other_sides(config, against)
    found = read_standing(history.make_side(config), others, known)
    style = shell.output.style
    human = words.format_standing(found, width=style.width, paint=paint_for(style))
    shell.output.result("db-migrations-status", words.make_standing_record(tool, found, tuple(left_out)), human)
    for sentence in left_out:
        shell.output.say(sentence)
    return found.exit_code
