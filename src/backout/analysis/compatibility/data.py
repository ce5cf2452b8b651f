"""Statements that change rows, or call functions that may."""

# ruff: noqa: SIM905 - lists of words read as text

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pglast import ast

from backout.analysis.compatibility import conditions
from backout.analysis.compatibility.finding import Finding, join_findings, safe, safe_if
from backout.analysis.compatibility.known.schema import quote_identifier, split_name
from backout.analysis.compatibility.parsing import Node, list_name_parts, print_node, walk
from backout.model.database.compatibility import Reversible

if TYPE_CHECKING:
    from backout.analysis.compatibility.moment import Moment

_CHANGES: Final = {
    ast.InsertStmt: ("insert", Reversible.IF, "old code finds rows that it did not write"),
    ast.UpdateStmt: ("update", Reversible.NO, "old code finds other values than it wrote, and the old ones are gone"),
    ast.DeleteStmt: ("delete", Reversible.NO, "old code no longer finds the rows, and they are gone"),
    ast.MergeStmt: ("merge", Reversible.NO, "old code finds other rows and values than it wrote"),
}
_HARMLESS: Final = frozenset(
    "set_config current_setting count sum min max avg coalesce now version length lower upper to_regclass exists "
    "format pg_advisory_lock pg_advisory_unlock pg_advisory_xact_lock pg_try_advisory_lock pg_sleep "
    "current_database current_schema pg_backend_pid gen_random_uuid concat pg_create_restore_point "
    "pg_get_serial_sequence".split()
)
BOOKKEEPING: Final = frozenset(
    "alembic_version django_migrations _prisma_migrations d1_migrations schema_migrations ar_internal_metadata "
    "flyway_schema_history goose_db_version gorp_migrations knex_migrations knex_migrations_lock pgmigrations "
    "__drizzle_migrations _sqlx_migrations __diesel_schema_migrations typeorm_metadata _yoyo_migration yoyo_lock "
    "databasechangelog databasechangeloglock sequelizemeta schema_version".split()
)
"""Tables in which migration tools keep what was applied."""
_SEQUENCE: Final = frozenset({"setval", "nextval"})


def changes_rows(node: Node) -> bool:
    """Say whether a statement holds one that changes rows."""
    return any(type(inner) in _CHANGES for inner in walk(node))


def change(moment: Moment, node: Node) -> Finding:
    """Judge a statement with everything in it that changes rows: INSERT, UPDATE, DELETE, MERGE, and such CTEs."""
    found = [_judge_one(moment, inner, node) for inner in walk(node) if type(inner) in _CHANGES]
    return join_findings(found or [select(moment, node)])


def _judge_one(moment: Moment, node: Node, whole: Node) -> Finding:
    kind, reversible, reason = _CHANGES[type(node)]
    table = moment.before.resolve(node.relation)
    shown = moment.before.quote_name(table)
    if table[1].lower() in BOOKKEEPING:
        return safe("bookkeeping", f"{table[1]} is where the migration tool keeps its own record")
    if moment.is_new_table(table):
        return safe(f"{kind}-rows", f"{shown} is new in this migration: old code does not know its rows")
    if isinstance(node, ast.UpdateStmt):
        targets = [str(target.name) for target in node.targetList or ()]
        if targets and all(moment.is_new_column(table, name) for name in targets):
            return safe_if(
                "backfill",
                f"only columns of {shown} that are new in this migration are filled; triggers may change more",
                conditions.select_triggers(shown),
            )
    if isinstance(node, ast.InsertStmt) and getattr(node.onConflictClause, "targetList", None):
        reversible = Reversible.NO  # an upsert also overwrites
    condition = _select_touched(node, shown) if node is whole else None
    return safe_if(f"{kind}-rows", f"{reason}: {shown}", condition, reversible=reversible)


def _select_touched(node: Node, shown: str) -> str | None:
    """Return a query for the rows that a plain UPDATE or DELETE changes; None where it joins others."""
    if not isinstance(node, (ast.UpdateStmt, ast.DeleteStmt)) or node.withClause or node.relation is None:
        return None
    if node.fromClause if isinstance(node, ast.UpdateStmt) else node.usingClause:
        return None
    alias = getattr(node.relation.alias, "aliasname", None)
    table = f"{shown} {quote_identifier(str(alias))}" if alias else shown
    return (
        conditions.select_rows(table, print_node(node.whereClause))
        if node.whereClause
        else conditions.select_any_row(table)
    )


def truncate(moment: Moment, node: Node) -> Finding:
    """Judge TRUNCATE."""
    tables = [moment.before.resolve(relation) for relation in node.relations]
    if all(moment.is_new_table(table) for table in tables):
        return safe("truncate", "the table is new in this migration")
    asked = [f"({conditions.select_any_row(moment.before.quote_name(table))})" for table in tables]
    shown = ", ".join(moment.before.quote_name(table) for table in tables)
    return safe_if(
        "truncate",
        f"old code finds {shown} empty, and the rows are gone",
        " UNION ALL ".join(asked) if len(asked) > 1 else conditions.select_any_row(moment.before.quote_name(tables[0])),
        reversible=Reversible.NO,
    )


def judge_copy(moment: Moment, node: Node) -> Finding:
    """Judge COPY."""
    if node.is_from and node.relation is not None:
        table = moment.before.resolve(node.relation)
        if moment.is_new_table(table):
            return safe("copy", "the table is new in this migration: old code does not know its rows")
        what = f"old code finds rows in {moment.before.quote_name(table)} that it did not write"
        return safe_if("copy", what, reversible=Reversible.IF)
    if node.is_program:
        return safe_if("copy", "it runs a program on the server")
    return change(moment, node.query) if node.query is not None else safe("copy", "it only reads")


def _is_new_sequence(moment: Moment, call: Node) -> bool:
    """Say whether setval or nextval names a sequence that is new in this migration."""
    first = (call.args or (None,))[0]
    while isinstance(first, ast.TypeCast):
        first = first.arg
    if not isinstance(first, ast.A_Const) or not isinstance(first.val, ast.String):
        return False
    parts = [part.strip('"') for part in str(first.val.sval).split(".")]
    return moment.is_new_table(moment.before.find_relation(*split_name(parts)))


def select(moment: Moment, node: Node) -> Finding:
    """Judge SELECT and whatever else is run for what the functions in it do."""
    if changes_rows(node):
        return change(moment, node)
    called = [list_name_parts(inner.funcname)[-1] for inner in walk(node) if isinstance(inner, ast.FuncCall)]
    sequences = [s for s in walk(node) if isinstance(s, ast.FuncCall) and list_name_parts(s.funcname)[-1] in _SEQUENCE]
    if sequences and all(_is_new_sequence(moment, call) for call in sequences):
        called = [name for name in called if name not in _SEQUENCE]
    if any(name in _SEQUENCE for name in called):
        return safe_if(
            "set-sequence",
            "inserts of old code get numbers from another place of the sequence, which may be taken",
            reversible=Reversible.IF,
        )
    unknown = sorted({name for name in called if name not in _HARMLESS})
    if unknown:
        return safe_if("call", f"what {', '.join(unknown)} does cannot be read here", reversible=Reversible.NO)
    made = getattr(node, "intoClause", None)
    return (
        safe("create-table", "old code does not know the table")
        if made is not None
        else safe("select", "it only reads")
    )
