"""Statements as the trial tells them apart: by Postgres's fingerprint, which ignores values and spelling."""

from __future__ import annotations

import itertools
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import pglast
from pglast import ast

from backout.analysis.compatibility.parsing import Unreadable, parse, walk
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from backout.analysis.compatibility.parsing import Node

_WRITES: Final = (ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt, ast.MergeStmt)
_LITERAL: Final = re.compile(
    r"""(["'`])(\s*(?:select|insert|update|delete|merge|with)\b(?:\\.|(?!\1)[^\\]){0,20000})\1""",
    re.IGNORECASE | re.DOTALL,
)
_CONSTANT: Final = re.compile(r"""\b(?:const|let|var)\s+(\w+)\s*=\s*(["'`])((?:\\.|(?!\2)[^\\]){0,5000})\2\s*[;\n]""")
_HOLE: Final = re.compile(r"\$\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}")
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "\n": ""}
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)


class Reading(Value, frozen=True):
    """One statement as Postgres's parser reads it: its fingerprint, and the tables it names and writes."""

    fingerprint: str
    tables: frozenset[str]
    written: frozenset[str]


@lru_cache(20_000)
def read_statement(sql: str) -> Reading | None:
    """Return what a statement does; None if it is not one that reads or writes rows.

    >>> read_statement("INSERT INTO a SELECT * FROM b WHERE c = $1").written
    frozenset({'a'})
    """
    try:
        nodes = parse(sql)
        if len(nodes) != 1 or not isinstance(nodes[0], (*_WRITES, ast.SelectStmt)):
            return None
        fingerprint = pglast.fingerprint(sql)
    except (Unreadable, pglast.Error):
        return None
    below = walk(nodes[0])
    own = {str(node.ctename) for node in below if isinstance(node, ast.CommonTableExpr)}
    written = {str(node.relation.relname) for node in below if isinstance(node, _WRITES) and node.relation}
    return Reading(str(fingerprint), _name_tables(below) - own, frozenset(written))


def list_tables(sql: str) -> frozenset[str]:
    """Return the names of tables in any statement, of a migration too; () where it cannot be read."""
    try:
        below = [node for statement in parse(sql) for node in walk(statement)]
    except Unreadable:
        return frozenset()
    return _name_tables(below)


def _name_tables(nodes: Iterable[Node]) -> frozenset[str]:
    return frozenset(str(node.relname) for node in nodes if isinstance(node, ast.RangeVar))


def select_known(statements: Iterable[str], tables: Collection[str]) -> tuple[str, ...]:
    """Return one statement for each fingerprint, of those that name one of these tables."""
    found: dict[str, str] = {}
    for sql in statements:
        read = read_statement(sql)
        if read is not None and read.tables & set(tables):
            found.setdefault(read.fingerprint, sql)
    return tuple(found.values())


def find_in_code(text: str) -> tuple[str, ...]:
    r"""Return the statements that a module of JavaScript holds as literals.

    In a template `${...}` is a constant of the module where it names one, else a parameter.

    >>> find_in_code('const COLUMNS = "a, b";' + "\nq(`SELECT ${COLUMNS} FROM t`)")
    ('SELECT a, b FROM t',)
    >>> find_in_code('q("SELECT a FROM t WHERE b = $1"); q(`DELETE FROM t WHERE b = ${b}`)')
    ('SELECT a FROM t WHERE b = $1', 'DELETE FROM t WHERE b = $1')
    """
    constants = {match[1]: match[3] for match in _CONSTANT.finditer(text) if "${" not in match[3]}
    found = []
    for match in _LITERAL.finditer(text):
        filled = _fill_holes(match[2], constants) if match[1] == "`" else match[2]
        found.append(_ESCAPE.sub(lambda escape: _ESCAPES.get(escape[1], escape[1]), filled))
    return tuple(sql for sql in found if read_statement(sql) is not None)


def _fill_holes(template: str, constants: Mapping[str, str]) -> str:
    numbers = itertools.count(1)
    return _HOLE.sub(lambda hole: constants.get(hole[0][2:-1].strip()) or f"${next(numbers)}", template)
