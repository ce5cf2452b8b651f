"""`backout incident`: the incident reports on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli.options import group, pass_shell
from backout.errors import UsageError
from backout.report.text import reflowed

if TYPE_CHECKING:
    from pathlib import Path

    from backout.cli.shell import Shell


@group("incident", short_help="List and show incident reports.")
def incident() -> None:
    """List and show incident reports (`[incidents] directory` of backout.toml)."""


def _reports(shell: Shell) -> list[Path]:
    directory = shell.config().settings.incidents.directory
    return sorted(directory.glob("*.md"), reverse=True) if directory.is_dir() else []


def _title(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as lines:
        return next(lines, "").strip().removeprefix("# ").removeprefix("Incident Report: ")


@incident.command("list", short_help="All reports, newest first.")
@pass_shell
def list_(shell: Shell) -> None:
    """List the reports, newest first."""
    found = [(path, _title(path)) for path in _reports(shell)]
    records = [{"name": path.stem, "title": title, "path": str(path)} for path, title in found]
    rows = [(path.stem, title) for path, title in found]
    shell.output.result("incidents", {"incidents": records}, shell.output.table(("NAME", "TITLE"), rows) or "none yet")
    if found:
        shell.output.next(f"backout incident show {found[0][0].stem}")


@incident.command("show", short_help="One report, as it stands on disk.")
@click.argument("name", required=False)
@pass_shell
def show(shell: Shell, *, name: str | None) -> None:
    """Show the report NAME (or a part of its name), or the newest one."""
    found = [path for path in _reports(shell) if name is None or name in path.stem]
    exact = [path for path in found if path.stem == name]
    if not found:
        raise UsageError(f"no report matches '{name}'" if name else "no report yet", hint="backout incident list")
    if name is not None and not exact and len(found) > 1:
        names = ", ".join(path.stem for path in found)
        raise UsageError(f"'{name}' fits several reports: {names}", hint="type more of the name")
    path = (exact or found)[0]
    text = path.read_text(encoding="utf-8", errors="replace")
    shell.output.result(
        "incident", {"name": path.stem, "path": str(path), "markdown": text}, reflowed(text, shell.output.style.width)
    )
