"""Port Cards on files: one page for each environment, written atomically."""

from __future__ import annotations

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
    """

    def __init__(self, path: Path, redact: Callable[[str], str] = str) -> None:
        self._path = path
        self._redact = redact

    def write(self, text: str) -> Path:
        """Write the card and return its absolute path. Raises BackoutError when that cannot be done."""
        try:
            make_private_folder(self._path.parent)
            write_over(self._path, self._redact(text).encode())
        except OSError as error:
            what = f"the card cannot be written: {error.strerror or type(error).__name__}"
            raise BackoutError(what, where=str(self._path), hint="make the folder writable") from error
        return self._path.absolute()

    def path(self) -> Path | None:
        """Return the path of the newest card, or None when there is none."""
        return self._path.absolute() if os.path.isfile(self._path) else None  # noqa: PTH113 never raises
