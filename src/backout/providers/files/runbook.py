"""The runbook's page on disk: read whole, and written around what people have in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.errors import BackoutError
from backout.private import make_private_folder, write_over
from backout.providers.files.changing import change_page

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class RunbookPage:
    """One file.

    Args:
        path: absolute; its folder is made when it is first written.
        redact: takes every secret out of a new page. What `change` of `write` adds has to be without.
    """

    def __init__(self, path: Path, redact: Callable[[str], str] = str) -> None:
        self.path = path
        self._redact = redact

    def read(self) -> str | None:
        """Return the page, None where there is none. Raises BackoutError: it cannot be read."""
        try:
            return self.path.read_bytes().decode("utf-8", "surrogateescape")
        except FileNotFoundError:
            return None
        except OSError as error:
            what = f"the runbook cannot be read: {error.strerror or type(error).__name__}"
            raise BackoutError(what, where=str(self.path), hint="make the file readable") from error

    def write(self, new: str, change: Callable[[str], str]) -> Path:
        """Write `new` where there is no page, else what `change` makes of it. Raises BackoutError: it cannot be."""
        if self.path.exists():
            return change_page(self.path, change, "the runbook")
        try:
            make_private_folder(self.path.parent)
            write_over(self.path, self._redact(new).encode())
        except OSError as error:
            what = f"the runbook cannot be written: {error.strerror or type(error).__name__}"
            raise BackoutError(what, where=str(self.path), hint="make the folder writable") from error
        return self.path
