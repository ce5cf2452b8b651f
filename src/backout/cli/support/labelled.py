"""A stream that passes on whole lines: for output of several threads, each of which has its own."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class LabelledStream(io.StringIO):
    """Passes on each line that was written; what has no end yet waits. No terminal, whatever the lines go to.

    Args:
        pass_on: takes a line, without its end.
    """

    def __init__(self, pass_on: Callable[[str], None]) -> None:
        super().__init__()
        self._pass_on = pass_on
        self._begun = ""

    def write(self, text: str) -> int:
        """Write text, of any number of lines."""
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            if line.strip():
                self._pass_on(line.rstrip())
        return len(text)
