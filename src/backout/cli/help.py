"""`backout help`: the help of a command, and the topics that belong to no command."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli.support.options import command, pass_shell
from backout.errors import EXIT_CODES, UsageError

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell


@command("help", epilog="Examples:\n  backout help exit-codes\n  backout help rollback\n")
@click.argument("topic", nargs=-1, metavar="[COMMAND... | exit-codes]")
@click.pass_context
@pass_shell
def help_(shell: Shell, ctx: click.Context, topic: tuple[str, ...]) -> None:
    """Show help on a command, or on exit-codes."""
    if topic == ("exit-codes",):
        _show_exit_codes(shell)
        return
    shown, found = _find(ctx.find_root(), topic)
    shell.output.result("help", {"topic": " ".join(topic), "text": found.get_help(shown)}, found.get_help(shown))


def _find(ctx: click.Context, topic: tuple[str, ...]) -> tuple[click.Context, click.Command]:
    found: click.Command = ctx.command
    for word in topic:
        inner = found.get_command(ctx, word) if isinstance(found, click.Group) else None
        if inner is None:
            known = ", ".join(found.list_commands(ctx)) if isinstance(found, click.Group) else ""
            raise UsageError(f"no help on {' '.join(topic)!r}", hint=f"backout help, or one of: {known}, exit-codes")
        found, ctx = inner, click.Context(inner, info_name=word, parent=ctx)
    return ctx, found


def _show_exit_codes(shell: Shell) -> None:
    codes = [{"code": code, "meaning": meaning} for code, meaning in EXIT_CODES.items()]
    rows = "\n".join(f"{code:>3}  {meaning}" for code, meaning in EXIT_CODES.items())
    shell.output.result("exit-codes", {"exit_codes": codes}, rows)
