"""A person's yes during a watch: asked once, looked for at each tick, never waited for."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO


class Consent:
    """See `Toolbox.consent`. An empty line is no answer: people press Enter to separate output.

    Args:
        stdin: a terminal, which delivers whole lines.
        say: says something on a line of its own.
    """

    def __init__(self, stdin: TextIO, say: Callable[[str], None]) -> None:
        self._stdin = stdin
        self._say = say
        self._asked: set[str] = set()

    def __call__(self, question: str, word: str) -> bool | None:
        """Return whether that word was typed, None while nothing was."""
        if question not in self._asked:
            self._asked.add(question)
            self._say(f"{question} Type {word} and Enter for yes; anything else is no; the watch goes on meanwhile.")
        if not select.select([self._stdin], [], [], 0)[0]:
            return None
        line = self._stdin.readline()
        typed = line.strip().lower()
        return typed == word if typed or not line else None
