"""`backout db check`: what can be recovered from here, how exactly, and what each way lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli.options import Command, pass_shell

if TYPE_CHECKING:
    from backout.cli.shell import Shell


@click.command(
    "check",
    cls=Command,
    short_help="What can be recovered from here, and how.",
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
    can, yet, or WAL is received and the database is UNPROTECTED all the same, or the last proof of the backups is too
    old: the lines to type are shown; 4 or 7 nothing can, and the database refused the login or did not answer.
    """
    from backout.analysis.capability import choose  # noqa: PLC0415 - only this command pays for it
    from backout.cli.paint import paint_for  # noqa: PLC0415
    from backout.report import capability as words  # noqa: PLC0415
    from backout.runbook.capability import survey  # noqa: PLC0415
    from backout.wiring.managed import looks  # noqa: PLC0415

    around = survey(looks(shell.config()))
    choice = choose(around)
    style = shell.output.style
    human = words.text(around, choice, width=style.width, paint=paint_for(style))
    shell.output.result("db-check", words.record(around, choice), human)
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
