"""`backout db migrations check`: a verdict on each migration for the code that ran before it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from backout.cli.support.options import Command, pass_shell

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell


@click.command(
    "check",
    cls=Command,
    short_help="Check whether the code before each migration still runs after it.",
    epilog="""
Examples:
  backout db migrations check prisma/migrations
  backout db migrations check migrations/0007_rename.sql
  backout db migrations check prisma/migrations --json
""",
)
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--app-checks-head", is_flag=True, help="The application refuses to start on a migration it does not know."
)
@pass_shell
def check(shell: Shell, *, path: Path, app_checks_head: bool) -> int:
    """Judge each migration in PATH (a folder or one file) for the code that ran before it. No connection is made.

    safe: that code runs as before. safe-if: it depends on the data or on what the code writes; where a query can tell,
    it is shown. breaking: statements that the code may send fail, or what they name is gone or has other values.

    Exit codes: 0 everything was read, whatever the verdicts; 1 a part could not be read, and counts as at least
    safe-if; 2 no such path, or a file that is not UTF-8.
    """
    from backout.analysis.compatibility import judge, list_unread
    from backout.cli.support.paint import paint_for
    from backout.report.database import migrations as words
    from backout.wiring.db.files import SqlMigrations

    files = SqlMigrations(shell.folder / path).read()
    verdicts = judge(files, app_checks_head=app_checks_head)
    style = shell.output.style
    human = words.format_text(verdicts, width=style.width, paint=paint_for(style))
    shell.output.result("migrations", words.make_record(verdicts), human)
    missed = [(verdict.name, statement) for verdict in verdicts for statement in list_unread(verdict)]
    for name, statement in missed:
        shell.output.warn(f"{name}: {statement.reason}: {' '.join(statement.sql.split())[:80]}")
    if not files:
        shell.output.warn(f"no migrations in {path}")
    return 1 if missed else 0
