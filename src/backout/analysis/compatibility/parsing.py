"""Statements as parsed by Postgres's own parser."""

from __future__ import annotations

import re
from typing import Any, Final

import pglast
from pglast import ast
from pglast.stream import RawStream

from backout.analysis.compatibility.splitting import measure_complexity

Node = Any
"""A node of pglast's tree; the library ships no types."""

_BACKQUOTED: Final = re.compile(r"('(?:[^']|'')*'|\"(?:[^\"]|\"\")*\")|`([^`]*)`")
_AUTOINCREMENT: Final = re.compile(r"(?i)\bautoincrement\b|\bwithout\s+rowid\s*$|\bstrict\s*$")
_MOST_CHARACTERS: Final = 4_000_000
_DEEPEST: Final = 400
_LONGEST_CHAIN: Final = 1500
"""The parser's tree is walked by recursion in C: a chain of tens of thousands would end the process."""


class Unreadable(Exception):
    """Raised for text that Postgres cannot parse; the message says why."""


def parse(text: str) -> tuple[Node, ...]:
    """Return the statements in a text, usually one; SQLite's spelling of names (D1) is read as well.

    Raises:
        Unreadable: with the parser's own words.
    """
    try:
        return _parse_text(text)
    except Unreadable:
        respelled = _AUTOINCREMENT.sub("", _BACKQUOTED.sub(lambda m: m[1] or f'"{m[2]}"', text))
        if respelled == text:
            raise
        return _parse_text(respelled)


def _parse_text(text: str) -> tuple[Node, ...]:
    if "\0" in text:
        raise Unreadable("it holds a zero byte")
    deepest, longest = measure_complexity(text)
    if len(text) > _MOST_CHARACTERS or deepest > _DEEPEST or longest > _LONGEST_CHAIN:
        raise Unreadable("it is too large or nested too deeply to be read")
    try:
        return tuple(raw.stmt for raw in pglast.parse_sql(text))
    except (pglast.Error, UnicodeError, ValueError, RecursionError) as error:
        raise Unreadable(" ".join(str(error).split()) or type(error).__name__) from None


def print_node(node: Node) -> str | None:
    """Return the SQL of a node in a normal form, or None where the printer does not know it."""
    try:
        text: str = RawStream()(node)
    except Exception:  # noqa: BLE001 - the printer raises whatever its visitors hit; only a convenience is lost
        return None
    return text


def walk(node: Node) -> list[Node]:
    """Return the node and everything below it."""
    found, waiting = [], [node]
    while waiting:
        current = waiting.pop()
        if isinstance(current, (tuple, list)):
            waiting.extend(current)
        elif isinstance(current, ast.Node):
            found.append(current)
            waiting.extend(getattr(current, name) for name in current)
    return found


def list_name_parts(names: Node) -> tuple[str, ...]:
    """Return the parts of a qualified name."""
    return tuple(str(part.sval) for part in names or () if isinstance(part, ast.String))


def find_referenced_columns(expression: Node) -> frozenset[str]:
    """Return the names of the columns in an expression; `*` for a whole row."""
    found = set()
    for node in walk(expression):
        if isinstance(node, ast.ColumnRef):
            last = (node.fields or (None,))[-1]
            found.add(str(last.sval) if isinstance(last, ast.String) else "*")
    return frozenset(found)
