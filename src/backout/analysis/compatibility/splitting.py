"""Splits a migration into statements as psql does: quotes, dollar quotes, comments, `BEGIN ATOMIC`, COPY data.

Source: PostgreSQL 18, "SQL Syntax, Lexical Structure"; psqlscan.l for what ends a statement (a semicolon outside
parentheses and outside the body of a routine written as `BEGIN ATOMIC ... END`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterator

_TOKEN: Final = re.compile(
    r"""
      (?P<comment> --[^\n]* )
    | (?P<block> /\* )
    | (?P<quoted> [eE]'(?:[^'\\]|\\.|'')*+' | '(?:[^']|'')*+' | "(?:[^"]|"")*+" | `[^`]*+` )
    | (?P<dollar> \$(?:[A-Za-z_\x80-\U0010ffff][0-9A-Za-z_\x80-\U0010ffff]*)?\$ )
    | (?P<word> [A-Za-z_\x80-\U0010ffff][0-9A-Za-z_$\x80-\U0010ffff]* )
    | (?P<number> [0-9][0-9A-Za-z_.]* )
    | (?P<meta> \\[^\n]* )
    | (?P<space> \s+ )
    | (?P<sign> . )
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT: Final = re.compile(r"/\*|\*/")
_COPY_DATA: Final = re.compile(r"(?is)\s*copy\b.*\bfrom\s+stdin\b")
_COPY_END: Final = re.compile(r"^\\\.[ \t]*\r?$\n?", re.MULTILINE)
_ROUTINE: Final = re.compile(r"create (or replace )?(function|procedure)\b")
_FIRST_WORDS: Final = 4
_OPERATORS: Final = frozenset("+-*/<>=~!@#%^&|?:")
_CHAINING: Final = frozenset({"union", "intersect", "except", "join", "is", "not", "like", "collate", "at"})
"""What makes a tree of a parser deeper by one each time."""


class Piece(Value, frozen=True):
    r"""One statement without the comments before it; `meta`: a command of psql itself, such as `\i other.sql`."""

    text: str
    meta: bool = False


def split(sql: str) -> tuple[Piece, ...]:
    """Return the statements of a file in order; never raises: what is cut off in the middle is the last piece."""
    return tuple(_Splitter(sql.removeprefix("\ufeff")).pieces())


def measure_complexity(text: str) -> tuple[int, int]:
    """Return how deep the parentheses of a statement go, and how long its longest chain of operators is."""
    depth = deepest = chain = longest = 0
    for found in _TOKEN.finditer(text):
        sign = found[0]
        if found.lastgroup == "sign":
            depth += (sign in "([") - (sign in ")]")
            chain = 0 if sign == "," else chain + (sign in _OPERATORS)
        elif found.lastgroup == "word":
            chain += sign.lower() in _CHAINING
        deepest, longest = max(deepest, depth), max(longest, chain)
    return deepest, longest


class _Splitter:
    def __init__(self, sql: str) -> None:
        self._sql = sql
        self._at = 0
        self._start = -1  # where the statement begins, -1 between two
        self._parentheses = 0
        self._atomic = 0
        self._words: list[str] = []

    def pieces(self) -> Iterator[Piece]:
        while self._at < len(self._sql):
            found = _TOKEN.match(self._sql, self._at)
            if found is None:  # pragma: no cover - `sign` takes every character
                break
            begin, self._at = self._at, found.end()
            kind = str(found.lastgroup)
            if kind == "block":
                self._skip_comment()
            elif kind == "meta":
                yield from self._finish_piece(begin)
                yield Piece(found[0].strip(), meta=True)
            elif kind == "sign" and found[0] == ";" and self._parentheses <= 0 and not self._atomic:
                yield from self._finish_piece(begin)
            elif kind not in {"comment", "space"}:
                self._take(kind, found[0], begin)
        yield from self._finish_piece(len(self._sql))

    def _take(self, kind: str, piece: str, begin: int) -> None:
        if self._start < 0:
            self._start = begin
        if kind == "dollar":
            end = self._sql.find(piece, self._at)
            self._at = len(self._sql) if end < 0 else end + len(piece)
        elif kind == "sign" and piece in "'\"`":  # a quote without its end
            self._at = len(self._sql)
        elif kind == "sign":
            self._parentheses += (piece == "(") - (piece == ")")
        elif kind == "word":
            self._take_word(piece.lower())

    def _take_word(self, word: str) -> None:
        if len(self._words) < _FIRST_WORDS:
            self._words.append(word)
        if self._parentheses == 0 and _ROUTINE.match(" ".join(self._words)):
            if word == "begin" or (word == "case" and self._atomic):
                self._atomic += 1
            elif word == "end" and self._atomic:
                self._atomic -= 1

    def _skip_comment(self) -> None:
        depth = 1
        while depth and (found := _COMMENT.search(self._sql, self._at)):
            depth += 1 if found[0] == "/*" else -1
            self._at = found.end()
        if depth:
            self._at = len(self._sql)

    def _finish_piece(self, end: int) -> Iterator[Piece]:
        if self._start >= 0:
            text = self._sql[self._start : end].rstrip()
            yield Piece(text)
            if _COPY_DATA.match(text):
                stop = _COPY_END.search(self._sql, self._at)
                self._at = stop.end() if stop else len(self._sql)
        self._start, self._parentheses, self._atomic, self._words = -1, 0, 0, []
