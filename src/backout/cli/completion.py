"""`backout completion`: the script that a shell loads once; the candidates come from the command table, offline."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.shell_completion import get_completion_class

from backout.cli.support.options import command, pass_shell
from backout.errors import UsageError

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell

_INSTALL = {
    "bash": "echo 'eval \"$(backout completion bash)\"' >> ~/.bashrc",
    "zsh": "echo 'eval \"$(backout completion zsh)\"' >> ~/.zshrc",
    "fish": "backout completion fish > ~/.config/fish/completions/backout.fish",
}


@command("completion", epilog='Examples:\n  eval "$(backout completion bash)"\n')
@click.argument("name", metavar="SHELL", type=click.Choice(list(_INSTALL)))
@click.pass_context
@pass_shell
def completion(shell: Shell, ctx: click.Context, name: str) -> None:
    """Print the completion script for bash, zsh or fish."""
    kind = get_completion_class(name)
    if kind is None:
        raise UsageError(f"no completion for {name}")
    script = kind(ctx.find_root().command, {}, "backout", "_BACKOUT_COMPLETE").source()
    if shell.output.json:
        shell.output.result("completion", {"shell": name, "script": script, "install": _INSTALL[name]})
        return
    shell.output.raw(script.rstrip())
    if shell.output.stdout.isatty():
        shell.output.next(f"{_INSTALL[name]}  # once; then open a new shell")
