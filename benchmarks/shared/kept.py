"""Earlier measurements, line by line in a file, from which interrupted work is resumed; see `measured_code`."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

from shared.measured_code import compute_digest

if TYPE_CHECKING:
    from pathlib import Path


@cache
def _compute_digest_here() -> str:
    return compute_digest()


class Kept:
    """Values by key, of one seed and of the code as it is.

    Args:
        path: the file, None for none.
        code: what tells the measured code, None for that of this tree.
    """

    def __init__(self, path: Path | None, seed: int, code: str | None = None) -> None:
        self._path = path
        self._of = [seed, code or _compute_digest_here()] if path is not None else []
        self._known: dict[str, Any] = {}
        for text in path.read_text(encoding="utf-8").splitlines() if path is not None and path.exists() else ():
            try:
                of, key, value = json.loads(text)
            except ValueError:
                continue  # the last line, cut off
            if of == self._of:
                self._known[key] = value

    def get(self, key: str) -> Any | None:
        """Return what was measured before, None for nothing."""
        return self._known.get(key)

    def put(self, key: str, value: Any) -> None:
        """Keep what was measured."""
        self._known[key] = value
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps([self._of, key, value]) + "\n")
