"""Rules, and writes through views: which INSERT, UPDATE, DELETE and MERGE of old code still work.

Source: PostgreSQL 18, CREATE VIEW "Updatable Views"; CREATE RULE; rewriteHandler.c view_query_is_auto_updatable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pglast import ast
from pglast.enums import CmdType, SetOperation

from backout.analysis.compatibility.finding import Finding, breaking, safe, safe_if
from backout.analysis.compatibility.parsing import Node, list_name_parts, print_node, walk

if TYPE_CHECKING:
    from backout.analysis.compatibility.known.schema import Name, Relation, Schema
    from backout.analysis.compatibility.moment import Moment

_INSTEAD_OF: Final = 64
_NEW_TABLE: Final = "the table is new in this migration"
_SHAPING: Final = ("distinctClause", "groupClause", "havingClause", "withClause", "limitCount", "limitOffset")
_AGGREGATES: Final = frozenset(
    {
        "count", "sum", "avg", "min", "max", "array_agg", "string_agg", "json_agg", "jsonb_agg", "json_object_agg",
        "jsonb_object_agg", "bool_and", "bool_or", "every", "stddev", "variance", "unnest", "generate_series",
    }
)  # fmt: skip


def list_writable(schema: Schema, relation: Relation | None) -> frozenset[str] | None:
    """Return the columns that INSERT and UPDATE may give, none where it cannot be written to, None when not known."""
    if relation is None or not relation.whole:
        return None
    if relation.kind == "materialized view":
        return frozenset()
    if relation.kind != "view" or relation.query is None:
        return frozenset(relation.columns)
    if any(table == relation.name for table, _ in (*schema.triggers, *schema.rules)):
        return None
    source = find_single_source(relation.query)
    if source is None:
        return frozenset()
    below = list_writable(schema, schema.relations.get(schema.resolve(source)))
    if below == frozenset():
        return below
    targets = relation.query.targetList or ()
    if len(targets) != len(relation.columns):  # a `*`
        return frozenset(relation.columns)
    pairs = zip(relation.columns, targets, strict=True)
    plain = [(name, target.val) for name, target in pairs if isinstance(target.val, ast.ColumnRef)]
    return frozenset(
        name for name, value in plain if below is None or list_name_parts(value.fields)[-1:] in {(c,) for c in below}
    )


def find_single_source(query: Node) -> Node | None:
    """Return the RangeVar that a view writes to by itself, None when it writes to nothing."""
    if not isinstance(query, ast.SelectStmt) or query.op is not SetOperation.SETOP_NONE:
        return None
    sources = query.fromClause or ()
    if len(sources) != 1 or not isinstance(sources[0], ast.RangeVar) or any(getattr(query, p) for p in _SHAPING):
        return None
    calls = [node for node in walk(query.targetList) if isinstance(node, ast.FuncCall)]
    if any(call.over or call.agg_star or list_name_parts(call.funcname)[-1] in _AGGREGATES for call in calls):
        return None
    return sources[0]


def explain_unwritable(moment: Moment, known: Relation, again: Relation) -> str | None:
    """Return why statements of old code that write to a view, or to a table that became one, fail."""
    before, after = list_writable(moment.before, known), list_writable(moment.after, again)
    helped = any(on == known.name for on, _ in (*moment.before.triggers, *moment.before.rules))
    if helped and known.kind == "view" and after == frozenset():
        return f"writes of old code to {moment.before.quote_name(known.name)} fail: what did them is not made anew"
    if before is None or after is None:
        return None
    shown = moment.before.quote_name(known.name)
    if before and not after:
        return f"writes of old code to {shown} fail: it is no view that can be written to any more"
    lost = sorted((before - after) & again.columns.keys())
    return f"writes of old code that give {shown}.{lost[0]} a value fail: it is computed" if lost else None


def judge_rule(moment: Moment, node: Node) -> Finding:
    """Judge CREATE RULE: with a rule on a table Postgres refuses ON CONFLICT, MERGE, and RETURNING."""
    kind, table = "create-rule", moment.before.resolve(node.relation)
    relation = moment.before.relations.get(table)
    if moment.is_new_table(table):
        return safe(kind, _NEW_TABLE)
    rewritten = safe_if(kind, "statements of old code on this table are rewritten")
    key = (table, str(node.rulename))
    gone = {item[3] for item in moment.before.novel if item[:3] == ("rule gone", *key)}
    if print_node(node) in gone - {None}:
        return safe(kind, "the rule is recreated as it was")
    replaced = (node.replace and key in moment.before.rules) or gone
    if replaced or key not in moment.after.rules or CmdType(node.event) is CmdType.CMD_SELECT:
        return rewritten
    if relation is not None and list_writable(moment.before, relation) == frozenset():
        return rewritten  # nothing could be written to the view before
    shown = moment.before.quote_name(table)
    if CmdType(node.event) is CmdType.CMD_DELETE:
        return breaking(
            kind, f"MERGE of old code into {shown} fails, and DELETE ... RETURNING where the rule is INSTEAD"
        )
    return breaking(kind, f"INSERT ... ON CONFLICT and MERGE of old code into {shown} fail: it has a rule")


def judge_trigger(moment: Moment, node: Node) -> Finding:
    """Judge CREATE TRIGGER."""
    kind, table = "create-trigger", moment.before.resolve(node.relation)
    relation = moment.before.relations.get(table)
    if moment.is_new_table(table):
        return safe(kind, _NEW_TABLE)
    stays = (table, str(node.trigname)) in moment.after.triggers
    if (
        int(node.timing or 0) & _INSTEAD_OF
        and stays
        and relation is not None
        and list_writable(moment.before, relation)
    ):
        return breaking(kind, f"INSERT ... ON CONFLICT of old code into {moment.before.quote_name(table)} fails")
    return safe_if(kind, "the trigger may change or refuse writes of old code")


def drop_from_view(moment: Moment, kind: str, table: Name, name: str) -> Finding | None:
    """Judge a trigger or a rule of a view that goes; None where it is no view."""
    relation = moment.before.relations.get(table)
    if relation is None or relation.kind != "view" or relation.query is None:
        return None
    if (
        (table, name) in moment.after.triggers
        or (table, name) in moment.after.rules
        or table not in moment.after.relations
    ):
        return None
    if find_single_source(relation.query) is None:
        return breaking(
            kind, f"writes of old code to {moment.before.quote_name(table)} fail: nothing does them any more"
        )
    return None


def rename_fired(moment: Moment, table: Name, name: str, *, is_rule: bool) -> Finding:
    """Judge another name of a trigger or a rule: several of a table act in the order of their names."""
    kind = "rename"
    every = moment.before.rules if is_rule else moment.before.triggers
    others = [other for on, other in every if on == table and other != name]
    relation = moment.before.relations.get(table)
    if not moment.is_new_table(table) and (others or relation is None or not relation.whole):
        return safe_if(kind, "triggers and rules act in the order of their names: this one may act sooner or later")
    return safe(kind, "no statement of an application names it")
