"""`backout incident`: the incident reports on disk."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from backout.cli.support.options import group, pass_shell
from backout.errors import BackoutError, UsageError
from backout.model.value import Value
from backout.report.incident.incident import find_opening_time
from backout.report.text import reflow_markdown
from backout.report.times import format_clock, format_day, format_time

if TYPE_CHECKING:
    from pathlib import Path

    from backout.cli.support.shell import Shell


_ESCAPED = re.compile(r"\\([\\`*\[\]<|~$_&>#+=:.)-])(?=(?:[^`]*`[^`]*`)*[^`]*$)")
"""Characters with a meaning in Markdown, outside of code."""


@group("incident", short_help="List and show incident reports.")
def incident() -> None:
    """List and show incident reports (`[incidents] directory` of backout.toml)."""


class _Report(Value, frozen=True):
    """One report on disk; `opened_at` (Unix seconds) is the file's time if its page does not say it."""

    path: Path
    text: str
    opened_at: float

    @property
    def title(self) -> str:
        """Its heading, without the part that all have in common."""
        first = next(iter(self.text.splitlines()), "")
        return first.strip().removeprefix("# ").removeprefix("Incident Report: ")

    @property
    def what(self) -> str:
        """The end of its heading: the day and the environment are in its name."""
        return self.title.partition(": ")[2] or self.title

    @property
    def shown(self) -> str:
        """The page without what only programs read, its escapes among it: a terminal makes no picture of a bracket."""
        kept = (_ESCAPED.sub(r"\1", line) for line in self.text.splitlines() if not line.startswith("<!--"))
        return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip()


def _list_reports(shell: Shell) -> list[_Report]:
    """Return the reports, newest first, by when their incidents began, whatever their file names."""
    directory = shell.config().places.reports
    paths = directory.glob("*.md") if directory.is_dir() else ()
    return sorted(map(_read, paths), key=lambda report: (-report.opened_at, report.path.name))


def _read(path: Path) -> _Report:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
        at = find_opening_time(text)
        return _Report(path, text, path.stat().st_mtime if at is None else at)
    except OSError as error:
        raise BackoutError(f"the report cannot be read: {error.strerror}", where=str(path)) from error


@incident.command("list", short_help="List the reports, newest first.")
@pass_shell
def list_(shell: Shell) -> None:
    """List the reports, newest first, by when each incident began."""
    found = _list_reports(shell)
    records = [
        {"name": each.path.stem, "title": each.title, "path": str(each.path), "opened_at": format_time(each.opened_at)}
        for each in found
    ]
    rows = [(f"{format_day(r.opened_at)} {format_clock(r.opened_at)[:5]}", r.what, r.path.stem) for r in found]
    human = shell.output.table(("OPENED (UTC)", "TITLE", "NAME"), rows, whole=True) or "no incident reports yet"
    shell.output.result("incidents", {"incidents": records}, human)
    if found:
        shell.output.next(f"backout incident show {found[0].path.stem}")


@incident.command("show", short_help="Show one report, as it is on disk.")
@click.argument("name", required=False)
@pass_shell
def show(shell: Shell, *, name: str | None) -> None:
    """Show the report NAME (or a part of its name), or the newest one."""
    found = [report for report in _list_reports(shell) if name is None or name in report.path.stem]
    exact = [report for report in found if report.path.stem == name]
    if not found:
        raise UsageError(f"no report matches '{name}'" if name else "no report yet", hint="backout incident list")
    if name is not None and not exact and len(found) > 1:
        names = ", ".join(report.path.stem for report in found)
        raise UsageError(f"'{name}' fits several reports: {names}", hint="type more of the name")
    report = (exact or found)[0]
    payload = {
        "name": report.path.stem,
        "path": str(report.path),
        "opened_at": format_time(report.opened_at),
        "markdown": report.text,
    }
    shell.output.result("incident", payload, reflow_markdown(report.shown, shell.output.style.width))
