"""Earlier measurements, line by line in a file, from which interrupted work is resumed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


class Kept:
    """Values by key, of one seed.

    Args:
        path: the file, None for none.
    """

    def __init__(self, path: Path | None, seed: int) -> None:
        self._path = path
        self._seed = seed
        self._known: dict[str, Any] = {}
        for text in path.read_text(encoding="utf-8").splitlines() if path is not None and path.exists() else ():
            try:
                of, key, value = json.loads(text)
            except ValueError:
                continue  # the last line, cut off
            if of == seed:
                self._known[key] = value

    def get(self, key: str) -> Any | None:
        """Return what was measured before, None for nothing."""
        return self._known.get(key)

    def put(self, key: str, value: Any) -> None:
        """Keep what was measured."""
        self._known[key] = value
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps([self._seed, key, value]) + "\n")
