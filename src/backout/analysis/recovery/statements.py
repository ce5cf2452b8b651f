"""Statement replay: which of the old code's statements to try, and what the database's answers mean; pure.

A trial runs a statement on real data under the new schema, in a transaction that is rolled back. What counts is whether
the statement can still run, not what its data does: a row that is there already is no failure of the schema.
SQLSTATEs: PostgreSQL 18 documentation, appendix A.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pglast
from pglast import ast
from pglast.visitors import Ancestor, Visitor

from backout.model.database.statements import Answer, Outcome, ParameterUse, Trial

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.database.statements import Statement

_TRIED: Final = (ast.SelectStmt, ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt, ast.MergeStmt)
_SCHEMA_SAYS_NO: Final = {
    "23502": "a column must not be null now",
    "23514": "a check refuses it",
    "22001": "a value is too long now",
    "22003": "a number is too large now",
    "428C9": "a column may not be written now",
    "0A000": "it is not supported any more",
    "2F005": "a function returns nothing any more",
}
_ABOUT_DATA: Final = {"23505", "23503", "23P01", "21000", "P0002", "P0003"}
"""Unique, foreign key, exclusion: rows that are there already, or are not; the schema had its say before."""
_NO_PERMISSION: Final = "42501"
_INVALID_TEXT: Final = "22P02"
"""A value that its type does not have: an enum's value is gone, unless the value was made up."""


def find_parameter_uses(sql: str) -> tuple[ParameterUse, ...] | None:
    """Return what each parameter is used for, in their order; None for what is not tried (DDL, SET, unreadable).

    Unreadable is, among others, what pg_stat_statements makes of `INTERVAL '1 day'`: `INTERVAL $1`.
    """
    try:
        parsed = pglast.parse_sql(sql)
    except pglast.parser.ParseError:
        return None
    if len(parsed) != 1 or not isinstance(parsed[0].stmt, _TRIED):
        return None
    found = _Parameters(parsed[0].stmt)
    found(parsed[0].stmt)
    highest = max(found.uses, default=0)
    return tuple(found.uses.get(number, ParameterUse(number)) for number in range(1, highest + 1))


def judge_trial(statement: Statement, now: Answer, before: Answer | None = None) -> Trial:
    """Return what a trial says. `before`: the same statement's answer on the old schema, where there is one."""
    outcome, why = _judge_answer(now)
    if outcome is Outcome.FAILS and before is not None and _judge_answer(before)[0] is Outcome.FAILS:
        return Trial(statement, Outcome.UNTRIED, f"it did not work before either: {before.message}")
    return Trial(statement, outcome, why)


def make_untried(statement: Statement) -> Trial:
    """Return the trial of a statement that is not data manipulation, or that cannot be read."""
    return Trial(statement, Outcome.UNTRIED, "it is no single SELECT, INSERT, UPDATE, DELETE or MERGE that can be read")


def _judge_answer(answer: Answer) -> tuple[Outcome, str]:
    state = answer.sqlstate
    if not state or state in _ABOUT_DATA:
        return Outcome.WORKS, ""
    if state == _NO_PERMISSION and answer.stood_in:
        return Outcome.UNTRIED, f"no superuser tries it, and another role may not: {answer.message}"
    if state in _SCHEMA_SAYS_NO or state.startswith("42") or (state == _INVALID_TEXT and not answer.invented):
        words = _SCHEMA_SAYS_NO.get(state)
        return Outcome.FAILS, f"{words}: {answer.message}" if words else answer.message
    return Outcome.UNTRIED, f"it could not be tried: {answer.message}"


class _Parameters(Visitor):
    """Collects the column that each `$n` is compared with or written to."""

    def __init__(self, statement: ast.Node) -> None:
        super().__init__()
        self.uses: dict[int, ParameterUse] = {}
        self._aliases: dict[str, str] = {}
        self._tables: list[str] = []
        self._insert = statement if isinstance(statement, ast.InsertStmt) else None
        _Tables(self._aliases, self._tables)(statement)

    def visit_ParamRef(self, ancestors: Ancestor, node: ast.ParamRef) -> None:  # noqa: N802 - pglast's name
        """Keep the first column that the parameter is seen beside."""
        number = node.number or 0
        known = self.uses.get(number)
        if known is None or not known.column:
            self.uses[number] = ParameterUse(number, *self._beside(ancestors, node))

    def _beside(self, ancestors: Ancestor, node: ast.ParamRef) -> tuple[str, str]:
        inner: object = node
        at: Ancestor | None = ancestors
        while at is not None:
            around = at.node
            if isinstance(around, ast.A_Expr):
                other = around.lexpr if around.rexpr is inner or isinstance(around.rexpr, tuple) else around.rexpr
                if isinstance(other, ast.ColumnRef):
                    return self._resolve_column(other)
            if isinstance(around, ast.ResTarget) and around.val is not None and self._tables and around.name:
                return self._tables[0], around.name
            if isinstance(around, tuple) and self._insert is not None and isinstance(at.member, int):
                found = self._find_inserted_column(around, at.member)
                if found:
                    return found
            if not isinstance(around, tuple):
                inner = around
            at = at.parent
        return "", ""

    def _find_inserted_column(self, row: tuple[object, ...], position: int) -> tuple[str, str] | None:
        """Return the column of a value in `INSERT INTO t (columns) VALUES (row), ...`."""
        insert = self._insert
        source = insert.selectStmt if insert is not None else None
        rows = source.valuesLists if isinstance(source, ast.SelectStmt) else None
        if insert is None or not rows or not insert.cols or not any(each is row for each in rows):
            return None
        return (self._tables[0], insert.cols[position].name) if position < len(insert.cols) else None

    def _resolve_column(self, column: ast.ColumnRef) -> tuple[str, str]:
        names = [part.sval for part in column.fields or () if isinstance(part, ast.String) and part.sval]
        if not names:
            return "", ""
        table = self._aliases.get(names[-2], names[-2]) if len(names) > 1 else (self._tables[0] if self._tables else "")
        return table, names[-1]


class _Tables(Visitor):
    """Collects the tables of a statement and their aliases."""

    def __init__(self, aliases: dict[str, str], tables: list[str]) -> None:
        super().__init__()
        self._aliases, self._found = aliases, tables

    def visit_RangeVar(self, ancestors: Ancestor, node: ast.RangeVar) -> None:  # noqa: ARG002, N802 - pglast's
        """Keep a table, with its schema where one is named."""
        table = node.relname or ""
        name = f"{node.schemaname}.{table}" if node.schemaname else table
        self._found.append(name)
        self._aliases[(node.alias.aliasname if node.alias else None) or table] = name


def find_worst(trials: Sequence[Trial]) -> Trial | None:
    """Return the failing statement that is called most, or None."""
    failing = [trial for trial in trials if trial.outcome is Outcome.FAILS]
    return max(failing, key=lambda trial: trial.statement.calls, default=None)
