"""The incident reports on disk (`[incidents] directory`)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from backout.errors import BackoutError
from backout.model.value import Value
from backout.report.incident.incident import find_opening_time

if TYPE_CHECKING:
    from pathlib import Path

    from backout.cli.support.shell import Shell


_ESCAPED = re.compile(r"\\([\\`*\[\]<|~$_&>#+=:.)-])(?=(?:[^`]*`[^`]*`)*[^`]*$)")
"""Characters with a meaning in Markdown, outside of code."""


class Page(Value, frozen=True):
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


def list_pages(shell: Shell) -> list[Page]:
    """Return the reports, newest first, by when their incidents began, whatever their file names."""
    directory = shell.config().places.reports
    paths = directory.glob("*.md") if directory.is_dir() else ()
    return sorted(map(_read, paths), key=lambda report: (-report.opened_at, report.path.name))


def _read(path: Path) -> Page:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
        at = find_opening_time(text)
        return Page(path, text, path.stat().st_mtime if at is None else at)
    except OSError as error:
        raise BackoutError(f"the report cannot be read: {error.strerror}", where=str(path)) from error
