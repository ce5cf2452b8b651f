"""Constraints and indexes that go, or get another name: what old code relied on, and what new code may write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.analysis.compatibility import conditions
from backout.analysis.compatibility.finding import Finding, breaking, safe, safe_if
from backout.analysis.compatibility.schema import Name, quoted
from backout.model.compatibility import Reversible

if TYPE_CHECKING:
    from backout.analysis.compatibility.moment import Moment
    from backout.analysis.compatibility.parsing import Node

_NEW_TABLE: Final = "the table is new in this migration"
_BY_ITS_NAME: Final = "by its name it keeps columns unique: INSERT ... ON CONFLICT of old code fails"
_UNIQUE_ENDINGS: Final = ("_pkey", "_key", "_unique", "_uniq", "_uk", "_pk")
_NEW_COLUMN: Final = "the column is new in this migration"


def drop_index(moment: Moment, name: Name, *, missing_ok: bool) -> Finding:
    """Judge DROP INDEX."""
    index = moment.before.indexes.get(name)
    if index is None:
        if missing_ok and moment.never_there(name[0]):
            return safe("drop-index", "no migration made it: nothing is dropped")
        if name[1].lower().endswith(_UNIQUE_ENDINGS):
            return breaking("drop-unique-index", _BY_ITS_NAME, reversible=Reversible.IF)
        return safe_if(
            "drop-index",
            "no migration here made it; if it was unique, INSERT ... ON CONFLICT of old code fails",
            conditions.unique_index(moment.before.shown(name)),
            reversible=Reversible.IF,
        )
    if moment.is_new_table(name) or moment.is_new_table(index.table):
        return safe("drop-index", "it is new in this migration")
    if not index.unique:
        return safe("drop-index", "queries get slower, none fails")
    return lost_uniqueness(moment, "drop-unique-index", index.table, index.columns, index.predicate)


def lost_uniqueness(
    moment: Moment, kind: str, table: Name, columns: tuple[str, ...], predicate: str | None = None
) -> Finding:
    """Judge that columns are no longer unique."""
    kept = {(frozenset(names), where) for names, where in moment.after.unique_sets(table)}
    if table in moment.after.relations and (frozenset(columns), predicate) in kept:
        return safe(kind, f"{', '.join(columns)} stays unique under another name")
    return breaking(
        kind,
        f"INSERT ... ON CONFLICT ({', '.join(columns)}) of old code fails: nothing is unique there any more",
        reversible=Reversible.IF,
    )


def drop_constraint(moment: Moment, table: Name, node: Node) -> Finding:
    """Judge ALTER TABLE ... DROP CONSTRAINT."""
    name = str(node.name)
    relation = moment.before.relations.get(table)
    known = relation.constraints.get(name) if relation else None
    if moment.is_new_table(table):
        return safe("drop-constraint", _NEW_TABLE)
    if known is None:
        return _drop_unknown(moment, table, name, missing_ok=bool(node.missing_ok))
    if known.kind == "foreign":
        return safe("drop-foreign-key", "nothing that old code writes is refused for it")
    if known.kind == "not null":
        return drop_not_null(moment, table, known.columns[0])
    if known.kind == "check":
        condition = conditions.violating(moment.before, table, known.expression)
        return safe_if(
            "drop-check",
            f"old code runs; new code may write rows that {name} kept out, and that old code does not expect",
            condition,
            reversible=Reversible.IF,
        )
    if known.kind == "exclude":
        return safe_if("drop-exclude", "ON CONFLICT ON CONSTRAINT of old code fails", reversible=Reversible.IF)
    kept = lost_uniqueness(moment, f"drop-{known.kind}", table, known.columns)
    after = moment.after.relations.get(table)
    renamed = after is None or name not in after.constraints
    if kept.verdict.value == "safe" and renamed:
        return safe_if(kept.kind, f"{kept.reason}; ON CONFLICT ON CONSTRAINT {quoted(name)} of old code fails")
    return kept


def _drop_unknown(moment: Moment, table: Name, name: str, *, missing_ok: bool) -> Finding:
    relation = moment.before.relations.get(table)
    if missing_ok and moment.never_there(table[0]) and relation is not None and relation.whole:
        return safe("drop-constraint", "no migration made it: nothing is dropped")
    lowered = name.lower()
    if lowered.endswith(("_fkey", "_fk", "_foreign")) or lowered.startswith(("fk_", "fk_rails_")):
        return safe("drop-foreign-key", "by its name a foreign key: nothing that old code writes is refused for it")
    if lowered.endswith(_UNIQUE_ENDINGS):
        return breaking("drop-unique", _BY_ITS_NAME, reversible=Reversible.IF)
    return safe_if(
        "drop-constraint",
        "no migration here made it; if it kept columns unique, INSERT ... ON CONFLICT of old code fails",
        conditions.enforcing(moment.before.shown(table), name),
        reversible=Reversible.IF,
    )


def drop_not_null(moment: Moment, table: Name, column: str) -> Finding:
    """Judge a column that may be null from now on."""
    relation = moment.before.relations.get(table)
    known = relation.column(column) if relation else None
    if moment.is_new_table(table) or moment.is_new_column(table, column):
        return safe("drop-not-null", _NEW_COLUMN)
    if known is not None and not known.not_null and (known.type is None or "." not in known.type.name):
        return safe("drop-not-null", f"{column} may be null already: nothing changes")
    return safe_if(
        "drop-not-null",
        f"old code runs until new code writes a null into {column}, which old code does not expect",
        conditions.null_in(moment.before, table, (column,)),
        reversible=Reversible.IF,
    )


def rename_constraint(moment: Moment, table: Name, name: str) -> Finding:
    """Judge ALTER TABLE ... RENAME CONSTRAINT."""
    relation = moment.before.relations.get(table)
    known = relation.constraints.get(name) if relation else None
    if moment.is_new_table(table):
        return safe("rename-constraint", _NEW_TABLE)
    if (known and known.kind in {"foreign", "check", "not null"}) or (not known and name.endswith(("_fkey", "_check"))):
        return safe("rename-constraint", "no statement names such a constraint")
    return safe_if(
        "rename-constraint",
        f"ON CONFLICT ON CONSTRAINT {quoted(name)} of old code fails",
        None if known else conditions.enforcing(moment.before.shown(table), name),
    )
