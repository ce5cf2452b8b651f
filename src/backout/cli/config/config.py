"""`backout config`: the effective settings and where each was set, or everything that is wrong with the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli.support.options import group, pass_shell
from backout.cli.support.style import Tone
from backout.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from backout.cli.support.shell import Shell


@group("config")
def config() -> None:
    """Show the effective settings, or check the file."""


@config.command("show", epilog="Examples:\n  backout config show -e staging --origin\n")
@click.option("--origin", is_flag=True, help="Show where each value was set.")
@pass_shell
def show(shell: Shell, origin: bool) -> None:
    """Show every effective setting; secrets are not settings: only where they come from is shown."""
    loaded = shell.config()
    values = tuple(loaded.values())
    out = shell.output
    lines = [f"{v.key} = {v.written}{out.style.dim(f'  # {v.origin}') if origin else ''}" for v in values]
    payload = {
        "path": loaded.path,
        "environment": loaded.chosen,
        "settings": {value.key: value.value for value in values},
        "origins": {value.key: value.origin for value in values},
    }
    out.result("config", payload, "\n".join(lines))


@config.command("check", epilog="Examples:\n  backout config check\n  backout config check --online -e production\n")
@click.option("--online", is_flag=True, help="Also check the identity of the environment, the tokens and the clock.")
@pass_shell
def check(shell: Shell, online: bool) -> int:
    """List every mistake of backout.toml (exit 78), or say that it is valid, and what is not set up.

    With --online: exit 3 when another identity is pinned or a token expires too soon, 4 when a token is refused.
    """
    from backout import config as configuration

    loaded = shell.config()
    if unprovable := tuple(configuration.list_unprovable(loaded)):
        raise ConfigError(unprovable, hint="docs/config.md#approvals")
    warnings = tuple(configuration.list_warnings(loaded))
    names = tuple(loaded.settings.environments)
    out = shell.output
    file = _shorten(loaded.path, shell.folder)
    counted = f", with {len(warnings)} warning{'s' if len(warnings) != 1 else ''}" if warnings else ""
    lines = [
        out.style.badge(f"{file} is valid{counted}", Tone.WARN if warnings else Tone.GOOD),
        f"  environments: {', '.join(names)}",
    ]
    lines += [out.style.badge(warning, Tone.WARN) for warning in warnings]
    payload = {"path": loaded.path, "ok": True, "environments": names, "mistakes": [], "warnings": warnings}
    code = 0
    if online:
        from backout.cli.config import online as online_check

        found = online_check.ask_online(loaded)
        payload |= {"ok": not found.findings, "online": online_check.make_record(found)}
        lines += online_check.format_lines(found, shell)
        code = found.exit_code
    out.result("config-check", payload, "\n".join(lines))
    return code


@config.command("example")
@pass_shell
def example(shell: Shell) -> None:
    """Print the commented example: every key, its default, its meaning."""
    from importlib import resources

    text = (resources.files("backout") / "catalogue" / "backout.toml").read_text(encoding="utf-8")
    shell.output.result("config-example", {"text": text}, text.rstrip())


def _shorten(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
