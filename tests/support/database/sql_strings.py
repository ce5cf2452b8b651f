"""The SQL in a module of ours, as its source has it, and what of it another schema could stand for."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pglast
from pglast import ast as sql
from pglast.parser import ParseError
from pglast.visitors import Visitor
from source_trees import tree_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BEGINS = re.compile(
    r"\s*(SELECT|WITH|INSERT INTO|UPDATE|DELETE FROM|COPY|LOCK|CREATE|ALTER|DROP|GRANT|REVOKE|EXECUTE|MERGE|CALL|DO)\s"
)
_HOLE = "backout_hole"
"""In place of what is put into a string when it is used."""
_OURS = "pg_catalog"


@dataclass(frozen=True)
class Text:
    """A string of a module, with holes, and the line it begins on."""

    line: int
    text: str


def texts_of(path: Path) -> Iterator[Text]:
    """Yield the strings of a module that begin as a statement of SQL does."""
    tree = tree_of(path)
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if id(node) in docs | inner:
            continue
        text = _text(node)
        if text is not None and _BEGINS.match(text):
            yield Text(node.lineno, text)  # type: ignore[attr-defined]


def _text(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r"\{[a-z_]*\}", _HOLE, node.value)
    if isinstance(node, ast.Constant) and isinstance(node.value, bytes):
        return node.value.decode()
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else _HOLE for part in node.values)  # type: ignore[misc]
    return None


def unqualified(text: str) -> list[str]:
    """Return the names in a statement that are looked for in the search path; it must be one that can be read."""
    tree, found = pglast.parse_sql(_without_parameters(text)), _Names()
    found(tree)  # a name may stand before the WITH that makes it
    found.names.clear()
    found(tree)
    return found.names


def is_statement(text: str) -> bool:
    """Whether Postgres's own parser reads it."""
    try:
        pglast.parse_sql(_without_parameters(text))
    except ParseError:
        return False
    return True


def _without_parameters(text: str) -> str:
    return re.sub(r"%\([a-z_]+\)s|%s", "$1", text).replace("%%", "%")


class _Names(Visitor):  # type: ignore[misc]
    def __init__(self) -> None:
        self.names: list[str] = []
        self.local: set[str] = {_HOLE}

    def visit_CommonTableExpr(self, _: Any, node: sql.CommonTableExpr) -> None:  # noqa: N802 - pglast's name
        self.local.add(node.ctename)

    def visit_RangeVar(self, _: Any, node: sql.RangeVar) -> None:  # noqa: N802 - same
        if node.schemaname is None and node.relname not in self.local:
            self.names.append(f"table {node.relname}")

    def visit_FuncCall(self, _: Any, node: sql.FuncCall) -> None:  # noqa: N802 - same
        self._name("function", node.funcname)

    def visit_TypeName(self, _: Any, node: sql.TypeName) -> None:  # noqa: N802 - same
        self._name("type", node.names)

    def visit_A_Expr(self, _: Any, node: sql.A_Expr) -> None:  # noqa: N802 - same
        self._name("operator", node.name)

    def visit_SubLink(self, _: Any, node: sql.SubLink) -> None:  # noqa: N802 - same
        if node.operName:
            self._name("operator", node.operName)

    def _name(self, kind: str, parts: Any) -> None:
        names = [part.sval for part in parts or ()]
        if names and names[-1] != _HOLE and names[0] not in (_OURS, _HOLE):
            self.names.append(f"{kind} {'.'.join(names)}")
