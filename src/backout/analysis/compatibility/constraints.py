"""New constraints and indexes: whether rows that old code writes are still accepted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.analysis.compatibility import conditions, loosening
from backout.analysis.compatibility.expressions import Unknown, can_fail, evaluate, find_constant
from backout.analysis.compatibility.finding import Finding, breaking, safe, safe_if
from backout.analysis.compatibility.known.defining import make_constraint, make_index
from backout.analysis.compatibility.known.schema import Index, Name, Unique
from backout.analysis.compatibility.parsing import Node, find_referenced_columns, list_name_parts, print_node

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backout.analysis.compatibility.expressions import Value
    from backout.analysis.compatibility.known.schema import Constraint
    from backout.analysis.compatibility.moment import Moment

_NEW_TABLE: Final = "the table is new in this migration: old code writes nothing to it"
_NEW_COLUMNS: Final = "it concerns only columns that are new in this migration, which old code leaves out"


def is_required_column(moment: Moment, table: Name, column: str) -> bool:
    """Say whether a column that this migration added must be given by every insert when the migration is done."""
    if not moment.is_new_column(table, column):
        return False
    relation = moment.after.relations.get(table)
    found = relation.column(column) if relation else None
    return found is not None and found.not_null and not found.filled


def set_not_null(moment: Moment, table: Name, column: str, kind: str = "set-not-null") -> Finding:
    """Judge a column that must not be null from now on."""
    relation = moment.before.relations.get(table)
    known = relation.column(column) if relation else None
    if moment.is_new_table(table):
        return safe(kind, _NEW_TABLE)
    if moment.is_new_column(table, column):
        if is_required_column(moment, table, column) and moment.has_new_trigger(table):
            return safe_if(kind, f"inserts of old code leave {column} out, and fail unless the new trigger fills it")
        if is_required_column(moment, table, column):
            return breaking(
                kind, f"inserts of old code leave the new column {column} out, and nothing fills it: they fail"
            )
        return safe(kind, _NEW_COLUMNS)
    if known is not None and known.not_null:
        return safe(kind, f"{column} is NOT NULL already: nothing changes")
    return safe_if(
        kind,
        f"an insert or update of old code that leaves {column} null fails",
        conditions.select_nulls(moment.before, table, (column,)),
    )


def find_old_values(moment: Moment, table: Name, columns: Sequence[str]) -> dict[str, Value]:
    """Return what is in the new columns of a row that old code writes; old columns are left out."""
    relation = moment.after.relations.get(table)
    found: dict[str, Value] = {}
    for name in columns:
        if not moment.is_new_column(table, name):
            continue
        column = relation.column(name) if relation else None
        if column is None or column.generated in {"stored", "virtual"}:
            found[name] = Unknown.ANY
        elif column.generated:
            found[name] = Unknown.DIFFERENT
        else:
            found[name] = None if column.default is None else find_constant(column.default)
    return found


def add_constraint(moment: Moment, table: Name, node: Node, column: str = "") -> Finding:
    """Judge a Constraint node: of ALTER TABLE ... ADD, or written behind a new column."""
    relation = moment.before.relations.get(table)
    made = make_constraint(node, table, relation.constraints if relation else (), column)
    if made is None or moment.is_new_table(table):
        return safe("add-constraint", _NEW_TABLE)
    if made.kind == "not null":
        return set_not_null(moment, table, made.columns[0])
    kind = _KINDS[made.kind]
    if made.kind in {"check", "foreign"} and not node.is_enforced:
        return safe(kind, "the constraint is NOT ENFORCED: Postgres does not check it")
    if made.kind == "check":
        return _check(moment, table, node, made, column)
    return _ADDED[made.kind](moment, table, node, made)


def _check(moment: Moment, table: Name, node: Node, made: Constraint, column: str) -> Finding:
    columns = sorted(find_referenced_columns(node.raw_expr))
    new = find_old_values(moment, table, columns)
    result = evaluate(node.raw_expr, new)
    if result is False:
        return breaking("add-check", "every row that old code writes violates the new CHECK")
    if result is None or result is True:
        return safe("add-check", "a row that old code writes, without the new columns, fulfils the CHECK")
    if column and columns and len(new) == len(columns):  # existing rows got the same values, and passed
        return safe("add-check", _NEW_COLUMNS)
    condition = None if new else conditions.select_violating(moment.before, table, node.raw_expr)
    return safe_if("add-check", f"a write of old code that violates {made.name} fails", condition)


def _judge_unique(moment: Moment, table: Name, node: Node, made: Constraint) -> Finding:
    primary = made.kind == "primary"
    kind = "add-primary-key" if primary else "add-unique"
    if node.indexname:
        return _judge_unique_from_index(moment, table, node, kind)
    index = Index(table, table, unique=True, columns=made.columns, nulls_equal=bool(node.nulls_not_distinct))
    return judge_unique_index(moment, index, kind, required=primary)


def _judge_unique_from_index(moment: Moment, table: Name, node: Node, kind: str) -> Finding:
    index = moment.before.indexes.get((table[0], str(node.indexname)))
    relation = moment.before.relations.get(table)
    nullable = [c for c in index.columns if not _is_not_null(relation, c)] if index else ["?"]
    if node.deferrable and index is not None and not moment.is_new_table(index.name):
        return loosening.judge_lost_uniqueness(moment, kind, table, Unique(index.columns, None, index.nulls_equal))
    if kind == "add-unique" or not nullable:
        return safe(kind, "the index is unique already: the constraint gives it a name")
    if index is None:
        return safe_if(kind, "a null in a column of the key, written by old code, fails")
    return safe_if(
        kind,
        f"a null in {', '.join(nullable)}, written by old code, fails",
        conditions.select_nulls(moment.before, table, nullable),
    )


def _is_not_null(relation: object, column: str) -> bool:
    found = getattr(relation, "column", lambda _name: None)(column)
    return found is not None and bool(found.not_null)


def judge_unique_index(moment: Moment, index: Index, kind: str, *, required: bool = False) -> Finding:
    """Judge that columns become unique; `required`: and must not be null."""
    table = index.table
    new = find_old_values(moment, table, index.columns)
    if required and None in new.values():
        return breaking(kind, "inserts of old code leave a column of the new key out, and nothing fills it: they fail")
    if None in new.values() and not index.nulls_equal:
        return safe(kind, "rows of old code have null in a new column of it, and nulls are never equal")
    if Unknown.DIFFERENT in new.values():
        return safe(kind, "a new column of it gets another value in each row")
    if new and len(new) == len(index.columns):
        if Unknown.ANY in new.values():
            return safe_if(kind, "the default of the new column may give two rows the same value")
        return breaking(kind, "old code writes the same default into the new unique column twice: the second fails")
    relation = moment.before.relations.get(table)
    for columns, predicate, _ in moment.before.unique_sets(table):
        narrower = columns and set(columns) <= set(index.columns) and predicate in {None, index.predicate}
        if (
            narrower
            and not index.nulls_equal
            and (not required or all(_is_not_null(relation, c) for c in index.columns))
        ):
            return safe(kind, f"{', '.join(columns)} is unique already: nothing more is refused")
    condition = None if new else conditions.select_duplicates(moment.before, index, required=required)
    shown = ", ".join(index.columns)
    return safe_if(kind, f"a write of old code that repeats {shown} fails", condition)


def _exclude(moment: Moment, table: Name, node: Node, made: Constraint) -> Finding:
    new = find_old_values(moment, table, made.columns)
    if None in new.values():
        return safe("add-exclude", "rows of old code have null in a new column of it, which excludes nothing")
    pairs = [(str(element.name or ""), list_name_parts(operator)[-1]) for element, operator in node.exclusions or ()]
    predicate = print_node(node.where_clause) if node.where_clause is not None else None
    plain = all(column for column, _ in pairs) and (node.where_clause is None or predicate)
    condition = conditions.select_overlapping(moment.before, table, pairs, predicate) if plain and not new else None
    return safe_if("add-exclude", f"a write of old code that collides under {made.name} fails", condition)


def _judge_foreign(moment: Moment, table: Name, node: Node, made: Constraint) -> Finding:
    new = find_old_values(moment, table, made.columns)
    if None in new.values():
        return safe("add-foreign-key", "rows of old code have null in the new column, which points nowhere")
    parent = moment.before.resolve(node.pktable)
    keys = list_name_parts(node.pk_attrs) or conditions.find_primary_key(moment.before, parent)
    known = not moment.is_new_table(parent)
    condition = (
        conditions.select_orphans(moment.before, table, made.columns, parent, keys) if known and not new else None
    )
    what = f"a write of old code whose {', '.join(made.columns)} is not in {moment.before.quote_name(parent)} fails"
    return safe_if("add-foreign-key", f"{what}, and so may a delete there", condition)


_KINDS: Final = {
    "check": "add-check",
    "unique": "add-unique",
    "primary": "add-primary-key",
    "exclude": "add-exclude",
    "foreign": "add-foreign-key",
}
_ADDED: Final[dict[str, Callable[[Moment, Name, Node, Constraint], Finding]]] = {
    "unique": _judge_unique,
    "primary": _judge_unique,
    "exclude": _exclude,
    "foreign": _judge_foreign,
}


def create_index(moment: Moment, node: Node) -> Finding:
    """Judge CREATE INDEX."""
    kind = "create-unique-index" if node.unique else "create-index"
    index = make_index(node, moment.before)
    if node.if_not_exists and index.name in moment.before.indexes:
        return safe(kind, "an index of this name is there already: nothing changes")
    if moment.is_new_table(index.table):
        return safe(kind, _NEW_TABLE)
    expressions = [part.expr for part in node.indexParams or () if part.expr is not None]
    failing = [e for e in (*expressions, node.whereClause) if e is not None and can_fail(e)]
    if node.unique:
        inside = evaluate(node.whereClause, _find_new_values(moment, index.table, node)) if node.whereClause else True
        if inside is False or inside is None:
            return safe(kind, "no row of old code is in this partial index")
        if any(part.collation for part in node.indexParams or ()):
            return safe_if(kind, "what the collation takes for equal is refused, and writes of old code with it")
        return judge_unique_index(moment, index, kind)
    if failing:
        return safe_if(kind, f"a write of old code for which `{print_node(failing[0])}` raises an error fails")
    return safe(kind, "an index changes no answer, and takes every row")


def _find_new_values(moment: Moment, table: Name, node: Node) -> dict[str, Value]:
    return find_old_values(moment, table, sorted(find_referenced_columns(node.whereClause)))
