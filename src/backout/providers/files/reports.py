"""Port Reports on a folder: one Markdown file for each run, written atomically.

The run's id is in an HTML comment on a line of its own; by it the file is found again, whatever its name.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from backout.errors import BackoutError
from backout.private import make_private_folder, write_new, write_over
from backout.providers.files.changing import change_page
from backout.providers.files.naming import list_file_names

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class FileReports:
    """Port Reports.

    Args:
        directory: made when the first report is written.
        redact: takes every secret out of what is written.
        check: returns the folder; raises BackoutError for one that others could have put there.
    """

    def __init__(
        self, directory: Path, redact: Callable[[str], str] = str, check: Callable[[Path], Path] | None = None
    ) -> None:
        self._directory = directory
        self._redact = redact
        self._check = check or (lambda path: path)

    def write(self, run: str, name: str, text: str) -> Path:
        """Write the report and return its absolute path; a name that another run took gets -2, -3, ...

        Raises:
            BackoutError: the folder cannot be written, or is not trusted.
        """
        self._check(self._directory)
        content = f"{self._redact(text).rstrip()}\n\n{_make_mark(run)}\n".encode()
        try:
            make_private_folder(self._directory)
            temporary = self._directory / f".{os.getpid()}-{os.urandom(4).hex()}.tmp"
            try:
                write_new(temporary, content)
                return self._put(temporary, run, name)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            what = f"the report cannot be written: {error.strerror or type(error).__name__}"
            raise BackoutError(what, where=str(self._directory), hint="make the folder writable") from error

    def amend(self, run: str, change: Callable[[str], str]) -> Path | None:
        """Replace a run's report by what `change` makes of it, atomically; None: there is no report.

        What people wrote is not masked: what `change` adds has to be without secrets. It is given the page again where
        somebody saved it meanwhile.

        Raises:
            BackoutError: it cannot be read or written, or its folder is not trusted.
        """
        self._check(self._directory)
        path = self.of_run(run)
        if path is None:
            return None
        return change_page(path, change, "the report")

    def write_picture(self, report: Path, picture: str) -> Path:
        """Write an SVG beside a report, with the same name. Raises BackoutError: it cannot be written."""
        self._check(self._directory)
        path = report.with_suffix(".svg")
        try:
            write_over(path, self._redact(picture).encode())
        except OSError as error:
            what = f"the picture cannot be written: {error.strerror or type(error).__name__}"
            raise BackoutError(what, where=str(path), hint="make the folder writable") from error
        return path.absolute()

    def of_run(self, run: str) -> Path | None:
        """Return the absolute path of a run's report, or None."""
        mark = _make_mark(run).encode()
        for path in sorted(self._directory.glob("*.md")):
            if mark in _read_lines(path):
                return path.absolute()
        return None

    def _put(self, temporary: Path, run: str, name: str) -> Path:
        """Move the file to its place: over this run's own file, else to a name that is free."""
        own = self.of_run(run)
        if own is not None:
            temporary.replace(own)
            return own
        for file_name in list_file_names(name):
            path = (self._directory / file_name).absolute()
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)  # unlike a rename, a link never replaces what is there
                return path
        raise AssertionError("file_names never ends")  # pragma: no cover


def _make_mark(run: str) -> str:
    return f"<!-- backout run {run.replace('--', '- -')} -->"


def _read_lines(path: Path) -> frozenset[bytes]:
    try:
        return frozenset(line.rstrip() for line in path.read_bytes().split(b"\n"))
    except OSError:
        return frozenset()  # a file that we cannot read is not ours
