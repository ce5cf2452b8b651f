"""How words look on a terminal: a symbol and a word carry the meaning, colour only repeats it."""

from __future__ import annotations

import os
import re
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from backout.escaping import make_printable

if TYPE_CHECKING:
    from collections.abc import Sequence

_ROOM = 32
"""Columns that a cell needs to be readable beside the others."""


class Tone(StrEnum):
    """What a word means; the same roles as in `backout.report.text`."""

    GOOD = "good"
    BAD = "bad"
    WARN = "warn"
    NOTE = "note"
    DIM = "dim"
    STRONG = "strong"


_COLORS = {"good": "32", "bad": "31", "warn": "33", "note": "36", "dim": "2", "strong": "1", "": "0"}
_FIRST = 0xF0000 + int.from_bytes(os.urandom(3), "big") % 65_000
_MARKS = {role: chr(_FIRST + place) for place, role in enumerate(_COLORS)}
"""What stands for a colour until it is written, "" for its end: text from outside cannot know these characters, and a
terminal obeys none of its colours."""
_CODES = {mark: f"\x1b[{_COLORS[role]}m" for role, mark in _MARKS.items()}
_OWN = re.compile(f"([{min(_CODES)}-{max(_CODES)}])")


_SYMBOLS = {
    Tone.GOOD: ("✓", "+"),
    Tone.BAD: ("✗", "x"),
    Tone.WARN: ("!", "!"),
    Tone.NOTE: ("•", "*"),
    Tone.DIM: ("-", "-"),
}


class Style(NamedTuple):
    """What the stream at the other end can show.

    Args:
        lines: another program reads it, so that each row of a table is one line, however long.
    """

    color: bool = False
    unicode: bool = False
    width: int = 80
    lines: bool = False

    def paint(self, role: str, text: str) -> str:
        """Return the text in the role's colour, or as it is; this is the `Paint` that `backout.report` asks for."""
        return f"{_MARKS[role]}{text}{_MARKS['']}" if self.color and text else text

    def badge(self, word: str, tone: Tone) -> str:
        """Return symbol and word: `✓ healthy`."""
        symbol = _SYMBOLS.get(tone, ("", ""))[0 if self.unicode else 1]
        return self.paint(tone, f"{symbol} {word}".strip())

    def strong(self, text: str) -> str:
        """Return the text bold."""
        return self.paint(Tone.STRONG, text)

    def dim(self, text: str) -> str:
        """Return the text faint, for what may be skipped."""
        return self.paint(Tone.DIM, text)

    def plain(self, text: str) -> str:
        """Return the text without control sequences but our own colours, in ASCII if the stream takes nothing else."""
        shown = _OWN.sub(lambda mark: _CODES[mark[1]], make_printable(text))
        return shown if self.unicode else shown.translate(_ASCII)

    def table(
        self, headers: Sequence[str], rows: Sequence[Sequence[str]], *, flexible: int = -1, whole: bool = False
    ) -> str:
        """Return columns two spaces apart; the column `flexible` gives way when the lines would not fit the width.

        Args:
            whole: the last column is never cut: it continues on the lines below, as wide as the whole table if little
                room is left for it.
        """
        if not rows:
            return ""
        lines = [[self.dim(header) for header in headers], *([_join_lines(cell) for cell in row] for row in rows)]
        widths = [max(measure_width(line[column]) for line in lines) for column in range(len(headers))]
        flexible %= len(headers)
        spare = self.width - sum(widths) - 2 * (len(widths) - 1)
        if spare < 0 and not self.lines:
            widths[flexible] = max(widths[flexible] + spare, 8)
        if not whole or spare >= 0 or self.lines:
            return "\n".join(self._row(line, widths) for line in lines)
        head, *others = lines
        return "\n".join([self._row(head, widths), *(part for line in others for part in self._whole(line, widths))])

    def _whole(self, cells: Sequence[str], widths: Sequence[int]) -> list[str]:
        """Return the lines of a row whose last cell continues below."""
        from backout.report.text import wrap_text

        *fixed, last = cells
        start = sum(widths[:-1]) + 2 * len(fixed)
        if widths[-1] >= _ROOM:
            first, *more = wrap_text(last, widths[-1])
            return [self._row([*fixed, first], widths), *(f"{' ' * start}{line}" for line in more)]
        below = wrap_text(last, self.width, indent="    ") if last else []
        return [self._row(fixed, widths[:-1]), *below]

    def _row(self, cells: Sequence[str], widths: Sequence[int]) -> str:
        parts = []
        for cell, width in zip(cells, widths, strict=True):
            shown = cell if measure_width(cell) <= width or not width else self.shorten(cell, width)
            parts.append(shown + " " * (width - measure_width(shown)))
        return "  ".join(parts).rstrip()

    def shorten(self, text: str, width: int) -> str:
        """Return the text without colours, cut to the width with an ellipsis, behind a word if that costs little."""
        bare = _OWN.sub("", text)
        if len(bare) <= width:
            return bare
        dots = "…" if self.unicode else "..."
        cut = bare[: max(width - len(dots), 0)]
        words = cut.rpartition(" ")[0] if bare[len(cut) : len(cut) + 1] not in ("", " ") else cut
        return (words if len(words) * 2 > len(cut) else cut).rstrip() + dots


_ASCII = str.maketrans({"✓": "+", "✗": "x", "•": "*", "…": "...", "→": "->", "·": "-", "×": "x", "≤": "<=", "≥": ">="})  # noqa: RUF001


def _join_lines(text: str) -> str:
    return make_printable(" ".join(text.splitlines()))


def measure_width(text: str) -> int:
    """Return how many columns a text takes, colours not counted."""
    return len(_OWN.sub("", text))


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
