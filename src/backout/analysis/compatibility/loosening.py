"""Constraints and indexes that are dropped or renamed: what old code relied on, and what new code may write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.analysis.compatibility import conditions, publishing
from backout.analysis.compatibility.finding import Finding, breaking, safe, safe_if
from backout.analysis.compatibility.known.schema import Name, Unique, quote_identifier
from backout.model.database.compatibility import Reversible

if TYPE_CHECKING:
    from backout.analysis.compatibility.known.schema import Constraint
    from backout.analysis.compatibility.moment import Moment
    from backout.analysis.compatibility.parsing import Node

_NEW_TABLE: Final = "the table is new in this migration"
_BY_ITS_NAME: Final = "by its name it keeps columns unique: INSERT ... ON CONFLICT of old code fails"
_UNIQUE_ENDINGS: Final = ("_pkey", "_key", "_unique", "_uniq", "_uk", "_pk")
_ON_CONSTRAINT: Final = "ON CONFLICT ON CONSTRAINT {} of old code fails"
_SET_CONSTRAINTS: Final = "SET CONSTRAINTS {} DEFERRED of old code fails"
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
            conditions.select_unique_index(moment.before.quote_name(name)),
            reversible=Reversible.IF,
        )
    if moment.is_new_table(name) or moment.is_new_table(index.table):
        return safe("drop-index", "it is new in this migration")
    if not index.unique:
        return safe("drop-index", "queries get slower, none fails")
    gone = Unique(index.columns, index.predicate, index.nulls_equal)
    return judge_lost_uniqueness(moment, "drop-unique-index", index.table, gone)


def judge_lost_uniqueness(moment: Moment, kind: str, table: Name, gone: Unique) -> Finding:
    """Judge that columns are no longer unique, or only at the end of a transaction: ON CONFLICT needs it at once."""
    columns, predicate, nulls_equal = gone
    kept = [
        unique
        for unique in moment.after.unique_sets(table)
        if frozenset(unique.columns) == frozenset(columns) and unique.predicate in {None, predicate}
    ]
    unpublished = publishing.explain_newly_refused(moment, table)
    if unpublished and table in moment.after.relations:
        return breaking(kind, f"updates and deletes of old code fail: {unpublished}", reversible=Reversible.IF)
    if table in moment.after.relations and kept:
        if nulls_equal and not any(unique.nulls_equal for unique in kept):
            return safe_if(
                kind, f"upserts of old code with a null in {', '.join(columns)} insert one row more each time"
            )
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
    if known.deferrable and not _is_named_again(moment, table, known):
        return breaking(f"drop-{known.kind}", _SET_CONSTRAINTS.format(quote_identifier(name)))
    if known.kind == "foreign":
        return safe("drop-foreign-key", "nothing that old code writes is refused for it")
    if known.kind == "not null":
        return drop_not_null(moment, table, known.columns[0])
    if known.kind == "check":
        condition = conditions.select_violating(moment.before, table, known.expression)
        return safe_if(
            "drop-check",
            f"old code runs; new code may write rows that {name} kept out, and that old code does not expect",
            condition,
            reversible=Reversible.IF,
        )
    return _drop_unique(moment, table, known)


def _drop_unique(moment: Moment, table: Name, known: Constraint) -> Finding:
    name = known.name
    if known.deferrable:  # ON CONFLICT could not use it before either
        return safe_if(f"drop-{known.kind}", f"new code may write what {name} kept out", reversible=Reversible.IF)
    if known.kind == "exclude":
        if _is_named_again(moment, table, known):
            return safe_if("drop-exclude", f"{quote_identifier(name)} is recreated: it may exclude other rows")
        return breaking("drop-exclude", _ON_CONSTRAINT.format(quote_identifier(name)), reversible=Reversible.IF)
    kept = judge_lost_uniqueness(moment, f"drop-{known.kind}", table, Unique(known.columns, None, known.nulls_equal))
    if kept.verdict.value != "breaking" and not _is_named_again(moment, table, known):
        return breaking(kept.kind, f"{kept.reason}; {_ON_CONSTRAINT.format(quote_identifier(name))}")
    return kept


def _is_named_again(moment: Moment, table: Name, known: Constraint) -> bool:
    """Say whether a statement that names a constraint finds one that serves it when the migration is done."""
    after = moment.after.relations.get(table)
    again = after.constraints.get(known.name) if after is not None else None
    if again is None or again.deferrable != known.deferrable:
        return False
    return again.kind in {"primary", "unique"} if known.kind in {"primary", "unique"} else again.kind == known.kind


def alter_constraint(moment: Moment, table: Name, command: Node) -> Finding:
    """Judge ALTER TABLE ... ALTER CONSTRAINT; Postgres alters foreign keys only."""
    relation = moment.before.relations.get(table)
    known = relation.constraints.get(str(command.def_.conname)) if relation else None
    kind = "alter-constraint"
    if moment.is_new_table(table):
        return safe(kind, _NEW_TABLE)
    if command.def_.alterDeferrability and not command.def_.deferrable:
        if known is not None and known.deferrable and not _is_named_again(moment, table, known):
            return breaking(kind, _SET_CONSTRAINTS.format(quote_identifier(known.name)))
        if known is not None:
            return safe(kind, "it is checked at once, as before")
    return safe_if(kind, "a write of old code may be refused at another time than before")


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
        conditions.select_enforcing(moment.before.quote_name(table), name),
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
        conditions.select_nulls(moment.before, table, (column,)),
        reversible=Reversible.IF,
    )


def rename_constraint(moment: Moment, table: Name, name: str) -> Finding:
    """Judge ALTER TABLE ... RENAME CONSTRAINT."""
    relation = moment.before.relations.get(table)
    known = relation.constraints.get(name) if relation else None
    if moment.is_new_table(table) or moment.before.is_novel("constraint", table, name):
        return safe("rename-constraint", "it is new in this migration")
    if known is not None and _is_named_again(moment, table, known) and _has_same_columns(moment, table, known):
        return safe("rename-constraint", f"another one that does the same is named {name} when the migration is done")
    if known is not None and known.deferrable:
        return breaking("rename-constraint", _SET_CONSTRAINTS.format(quote_identifier(name)))
    if (known and known.kind in {"foreign", "check", "not null"}) or (not known and name.endswith(("_fkey", "_check"))):
        return safe("rename-constraint", "no statement names such a constraint")
    if known is not None or name.lower().endswith(_UNIQUE_ENDINGS):
        return breaking("rename-constraint", _ON_CONSTRAINT.format(quote_identifier(name)))
    return safe_if(
        "rename-constraint",
        _ON_CONSTRAINT.format(quote_identifier(name)),
        conditions.select_enforcing(moment.before.quote_name(table), name),
    )


def _has_same_columns(moment: Moment, table: Name, known: Constraint) -> bool:
    again = moment.after.relations[table].constraints[known.name]
    alike = frozenset(again.columns) == frozenset(known.columns) and again.nulls_equal == known.nulls_equal
    return alike and known.kind != "exclude"
