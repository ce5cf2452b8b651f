"""How words look on a terminal: a symbol and a word carry the meaning, colour only repeats it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_ANSI = re.compile(r"\x1b\[[0-9;]*m")


class Tone(StrEnum):
    """What a word means; the value is its colour."""

    GOOD = "32"
    BAD = "31"
    WARN = "33"
    NOTE = "36"
    DIM = "2"
    STRONG = "1"


_SYMBOLS = {
    Tone.GOOD: ("✓", "+"),
    Tone.BAD: ("✗", "x"),
    Tone.WARN: ("!", "!"),
    Tone.NOTE: ("•", "*"),
    Tone.DIM: ("-", "-"),
}


@dataclass(frozen=True, slots=True)
class Style:
    """What the stream at the other end can show."""

    color: bool = False
    unicode: bool = False
    width: int = 80

    def paint(self, text: str, tone: Tone) -> str:
        """Return the text in the tone's colour, or as it is."""
        return f"\x1b[{tone}m{text}\x1b[0m" if self.color and text else text

    def badge(self, word: str, tone: Tone) -> str:
        """Return symbol and word: `✓ healthy`."""
        symbol = _SYMBOLS.get(tone, ("", ""))[0 if self.unicode else 1]
        return self.paint(f"{symbol} {word}".strip(), tone)

    def strong(self, text: str) -> str:
        """Return the text bold."""
        return self.paint(text, Tone.STRONG)

    def dim(self, text: str) -> str:
        """Return the text faint: what may be skipped."""
        return self.paint(text, Tone.DIM)

    def plain(self, text: str) -> str:
        """Return the text in ASCII where the stream knows no more."""
        return text if self.unicode else text.translate(_ASCII)

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[str]], *, flexible: int = -1) -> str:
        """Return columns two spaces apart; the column `flexible` gives way when the lines would not fit the width."""
        if not rows:
            return ""
        lines = [[self.dim(header) for header in headers], *([str(cell) for cell in row] for row in rows)]
        widths = [max(visible(line[column]) for line in lines) for column in range(len(headers))]
        flexible %= len(headers)
        spare = self.width - sum(widths) - 2 * (len(widths) - 1)
        if spare < 0:
            widths[flexible] = max(widths[flexible] + spare, 8)
        return "\n".join(self._row(line, widths) for line in lines)

    def _row(self, cells: Sequence[str], widths: Sequence[int]) -> str:
        parts = []
        for cell, width in zip(cells, widths, strict=True):
            shown = cell if visible(cell) <= width else self.shorten(cell, width)
            parts.append(shown + " " * (width - visible(shown)))
        return "  ".join(parts).rstrip()

    def shorten(self, text: str, width: int) -> str:
        """Return the text without colours, cut to the width with an ellipsis."""
        bare = _ANSI.sub("", text)
        dots = "…" if self.unicode else "..."
        return bare if len(bare) <= width else bare[: max(width - len(dots), 0)] + dots


_ASCII = str.maketrans({"✓": "+", "✗": "x", "•": "*", "…": "...", "→": "->", "·": "-", "×": "x", "≤": "<=", "≥": ">="})  # noqa: RUF001


def visible(text: str) -> int:
    """Return how many columns a text takes, colours not counted."""
    return len(_ANSI.sub("", text))


def wants_color(when: str, *, is_terminal: bool, no_color: bool, force_color: bool, term: str | None) -> bool:
    """Return whether to colour: the flag, then NO_COLOR, then FORCE_COLOR, then whether a person reads a real terminal.

    >>> wants_color("auto", is_terminal=True, no_color=False, force_color=False, term="dumb")
    False
    """
    if when != "auto":
        return when == "always"
    if no_color:
        return False
    return force_color or (is_terminal and term != "dumb")
