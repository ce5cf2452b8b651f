"""`backout db check`: what can be recovered from here, how exactly, and what each way lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli.support.options import Command, pass_shell

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell


@click.command(
    "check",
    cls=Command,
    short_help="Check what can be recovered from here, and how.",
    epilog="""
Examples:
  backout db check -e production
  backout db check -e production --json
""",
)
@pass_shell
def check(shell: Shell) -> int:
    """Ask the database, the programs, the repositories and the vendor what can be recovered, and choose the path.

    Nothing is changed. What the role may not see is "not readable". Exit codes: 0 something can be recovered; 1 nothing
    can be yet, or the database is UNPROTECTED although WAL is received, or the last proof of the backups is too old:
    the commands to type are shown; 4 or 7 nothing can be, and the database refused the login or did not answer.
    """
    from backout.analysis.recovery.capability import choose
    from backout.cli.support.paint import paint_for
    from backout.report.database import capability as words
    from backout.runbook.recovery.capability import survey
    from backout.wiring.db.managed import make_looks

    around = survey(make_looks(shell.config()))
    choice = choose(around)
    style = shell.output.style
    human = words.format_text(around, choice, width=style.width, paint=paint_for(style))
    shell.output.result("db-check", words.make_record(around, choice), human)
    if choice.path is not None:
        if around.protection is None or around.protection.protected:
            if not around.alarm:
                return 0
            shell.output.next(f"backout db backups prove -e {around.environment}")
            return 1
        shell.output.next(
            f"backout db wal status -e {around.environment}", f"backout db backup -e {around.environment}"
        )
        return 1
    lines = [lack.line for way in choice.ways for lack in way.lacks if lack.line.startswith("backout ")]
    if lines:
        shell.output.next(*dict.fromkeys(lines))
    return around.problem_code or 1
