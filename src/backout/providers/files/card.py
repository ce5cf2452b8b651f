"""Port Cards on files: one page for each environment, written atomically."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from backout.errors import BackoutError
from backout.private import make_private_folder, write_over

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class FileCard:
    """Port Cards.

    Args:
        path: where the environment's card is; its folder is made when the first one is written.
        redact: takes every secret out of what is written.
        check: returns the path; raises BackoutError for a file that others could have put there.
        check_folder: the same for its folder, before the card is replaced by a new one.
    """

    def __init__(
        self,
        path: Path,
        redact: Callable[[str], str] = str,
        *,
        check: Callable[[Path], Path] | None = None,
        check_folder: Callable[[Path], Path] | None = None,
    ) -> None:
        self._path = path
        self._redact = redact
        self._check = check or (lambda path: path)
        self._check_folder = check_folder or (lambda path: path)

    def write(self, text: str) -> Path:
        """Write the card and return its absolute path. Raises BackoutError when that cannot be done, or not there."""
        self._check_folder(self._path.parent)
        try:
            make_private_folder(self._path.parent)
            write_over(self._path, self._redact(text).encode())
        except OSError as error:
            what = f"the card cannot be written: {error.strerror or type(error).__name__}"
            raise BackoutError(what, where=str(self._path), hint="make the folder writable") from error
        return self._path.absolute()

    def path(self) -> Path | None:
        """Return the path of the newest card, or None when there is none that was written here."""
        with contextlib.suppress(BackoutError):
            self._check(self._path)
            return self._path.absolute() if os.path.isfile(self._path) else None  # noqa: PTH113 never raises
        return None
