"""A table or view that is dropped and made anew: whether it still has what old code relies on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.compatibility.columns import change_of_type
from backout.analysis.compatibility.finding import breaking, safe_if
from backout.analysis.compatibility.parsing import print_node
from backout.analysis.compatibility.types import holds_everything
from backout.analysis.compatibility.writing import explain_unwritable, find_single_source

if TYPE_CHECKING:
    from backout.analysis.compatibility.finding import Finding
    from backout.analysis.compatibility.known.schema import Column, Relation
    from backout.analysis.compatibility.moment import Moment
    from backout.model.database.compatibility import Reversible


def judge_taken_name(
    moment: Moment, kind: str, known: Relation | None, again: Relation, reversible: Reversible, *, older: bool
) -> Finding:
    """Judge a name that something else has when the migration is done."""
    shown = moment.before.quote_name(again.name)
    if older:
        name = shown.replace("'", "''")
        condition = f"SELECT 1 WHERE to_regclass('{name}') IS NOT NULL"
        return safe_if(
            kind, f"if there was a {shown}, another takes its place, without its rows", condition, reversible=reversible
        )
    if known is None or not known.whole or (not again.whole and again.kind != "view"):
        return breaking(kind, f"{shown} is recreated: whether old code fits it is not known", reversible=reversible)
    for column in known.columns.values():
        now = again.column(column.name)
        if now is None and again.whole:
            return breaking(kind, f"{shown} is recreated without {column.name}", reversible=reversible)
        changed = describe_retyped(moment, column, now, again)
        if changed:
            return breaking(kind, f"{shown} is recreated {changed}", reversible=reversible)
    lost = explain_moved_columns(known, again) or explain_lost_arbiter(moment, known, again)
    lost = lost or explain_unwritable(moment, known, again)
    if lost:
        return breaking(kind, lost, reversible=reversible)
    needs = [c.name for c in again.columns.values() if c.not_null and not c.filled and known.column(c.name) is None]
    if needs:
        return breaking(kind, f"inserts of old code leave {needs[0]} of the new {shown} out", reversible=reversible)
    return safe_if(
        kind,
        f"{shown} is recreated in this migration with every old column; rows, rights and constraints may differ",
        reversible=reversible,
    )


def describe_retyped(moment: Moment, column: Column, now: Column | None, again: Relation) -> str | None:
    """Return the reason for a column whose type differs or is unknown."""
    if now is None or (column.type is not None and column.type == now.type):
        return None
    if column.type is not None and now.type is not None:
        verdict = change_of_type(moment, column.type, now.type, column.name).verdict
        return f"with another type of {column.name}" if verdict.value == "breaking" else None
    if again.kind not in {"view", "materialized view"}:
        return None
    if column.computed is None or now.computed is None:
        return None
    if print_node(column.computed) is not None and print_node(column.computed) == print_node(now.computed):
        return None
    if now.type is not None and column.type is None and holds_everything(now.type):
        return f"with {column.name} as {now.type}: whether it was a text is not known"
    return f"with another {column.name}: whether it has its old type is not known"


def explain_moved_columns(known: Relation, again: Relation) -> str | None:
    """Return why statements that rely on the order of the columns fail: another type is in the place of an old one."""
    if not known.whole or not again.whole:
        return None
    places = list(again.columns.values())
    for place, column in enumerate(known.columns.values()):
        there = places[place] if place < len(places) else None
        if there is not None and there.name != column.name and there.type != column.type:
            return f"statements of old code that name no columns find {there.name} in the place of {column.name}"
    return None


def explain_lost_arbiter(moment: Moment, known: Relation, again: Relation) -> str | None:
    """Return why INSERT ... ON CONFLICT into what has the name of a table fails."""
    if known.kind != "table":
        return None
    target = again.name
    if again.kind == "view" and again.query is not None:
        source = find_single_source(again.query)
        if source is None:
            return None
        target = moment.after.resolve(source)
    kept = {(frozenset(u.columns), u.predicate) for u in moment.after.unique_sets(target)}
    for unique in moment.before.unique_sets(known.name):
        if (frozenset(unique.columns), unique.predicate) not in kept:
            columns = ", ".join(unique.columns)
            return f"INSERT ... ON CONFLICT ({columns}) of old code fails: the new {known.name[1]} has no such key"
    for constraint in () if moment.before.sqlite else known.constraints.values():
        arbiter = constraint.kind in {"primary", "unique", "exclude"} and not constraint.deferrable
        if arbiter and constraint.name not in again.constraints:  # a view has none, whatever it reads
            return f"ON CONFLICT ON CONSTRAINT {constraint.name} of old code fails"
    return None
