"""`backout recover`: the moments to which everything can go back at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli.support.options import command, pass_shell
from backout.errors import UsageError

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell


@command(
    "recover",
    short_help="The moments to which everything can go back at once.",
    epilog="""
Examples:
  backout recover --list -e production
  backout recover --mark before-import -e production
""",
)
@click.option("--list", "lists", is_flag=True, help="List the recovery points: what each has, what it would lose.")
@click.option("--mark", metavar="NAME", help="Record a recovery point now.")
@pass_shell
def recover(shell: Shell, *, lists: bool, mark: str | None) -> int:
    """List or record recovery points: where code, database, objects and secrets were at one moment.

    One is recorded at each deployment that is watched, or made by this program, and with --mark.
    """
    from backout.cli.support.recovery_points import mark_point, show_points

    if lists == (mark is not None):
        raise UsageError("type --list or --mark NAME", hint="backout recover --help")
    return show_points(shell) if mark is None else mark_point(shell, mark)
