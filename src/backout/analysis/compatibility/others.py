"""Everything else: views, routines, triggers, rights, policies, sequences, domains, publications, settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pglast import ast
from pglast.enums import ObjectType

from backout.analysis.compatibility import conditions, data, writing
from backout.analysis.compatibility.calling import is_ambiguous
from backout.analysis.compatibility.finding import Finding, breaking, safe, safe_if
from backout.analysis.compatibility.known.kinds import find_arguments
from backout.analysis.compatibility.known.objects import make_routine
from backout.analysis.compatibility.known.schema import get_name_parts, quote_identifier
from backout.analysis.compatibility.parsing import Node, find_referenced_columns, list_name_parts, print_node
from backout.model.database.compatibility import Reversible

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.analysis.compatibility.known.schema import Name
    from backout.analysis.compatibility.moment import Moment

_UNNAMED_SEQUENCE_OPTIONS: Final = frozenset({"owned_by", "cache", "logged"})
_PLANNING: Final = frozenset({"cost", "rows", "support"})
_NEW_TABLE: Final = "the table is new in this migration"


def judge_view(moment: Moment, node: Node) -> Finding:
    """Judge CREATE [OR REPLACE] VIEW; Postgres itself keeps the old columns in their places."""
    name = moment.before.resolve(node.view)
    known = moment.before.relations.get(name)
    if moment.is_new_table(name) or (known is None and (not node.replace or moment.is_new_thing(name[0]))):
        return safe("create-view", "old code does not know the view")
    shown = moment.before.quote_name(name)
    if known is None:
        return safe_if("replace-view", f"no migration here made {shown}: whether it answers as before is not known")
    same_sources = known.sources == moment.before.sources(node.query)
    spaces = frozenset(space for space, _ in known.sources) if same_sources else frozenset()
    if known.kind == "view":
        lost = writing.explain_unwritable(moment, known, moment.after.relations.get(name, known))
        if lost:
            return breaking("replace-view", lost)
    if node.options:
        return safe_if("replace-view", f"{shown} gets options: whose rights it reads with may be others")
    if known.query is not None and _extends(known.query, node.query, spaces):
        return safe("replace-view", f"{shown} answers as before, with more columns at its end at most")
    return safe_if("replace-view", f"{shown} has its old columns, but its rows or values may be others")


def _extends(old: Node, new: Node, spaces: frozenset[str]) -> bool:
    """Say whether a query is an older one with more columns at its end.

    Args:
        spaces: schemas whose name before a relation says nothing new, since both read the same relations.
    """
    if _is_same(old, new, spaces):
        return True
    if not isinstance(old, ast.SelectStmt) or not isinstance(new, ast.SelectStmt) or not old.targetList:
        return False
    if not _is_same(old.targetList, (new.targetList or ())[: len(old.targetList)], spaces):
        return False
    parts = ("distinctClause", "fromClause", "whereClause", "groupClause", "havingClause", "withClause", "limitCount")
    return all(
        _is_same(getattr(old, part), getattr(new, part), spaces) for part in (*parts, "limitOffset", "sortClause", "op")
    )


def _is_same(old: Node, new: Node, spaces: frozenset[str]) -> bool:
    if isinstance(old, (tuple, list)) and isinstance(new, (tuple, list)):
        return len(old) == len(new) and all(_is_same(a, b, spaces) for a, b in zip(old, new, strict=True))
    if isinstance(old, ast.Node) and isinstance(new, ast.Node):
        texts = [print_node(node) for node in (old, new)]
        for space in spaces:
            texts = [text and text.replace(f"{quote_identifier(space)}.", "") for text in texts]
        return texts[0] is not None and texts[0] == texts[1]
    return bool(old == new)


def refresh(moment: Moment, node: Node) -> Finding:
    """Judge REFRESH MATERIALIZED VIEW."""
    name = moment.before.resolve(node.relation)
    if node.skipData and not moment.is_new_table(name):
        return breaking("refresh", "reads of old code fail: the view has not been populated")
    return safe("refresh", "the view is brought up to date")


def create_as(moment: Moment, node: Node) -> Finding:
    """Judge CREATE TABLE AS and CREATE MATERIALIZED VIEW; the query is run."""
    if data.changes_rows(node.query):
        return data.change(moment, node.query)
    view_too = ObjectType(node.objtype) is ObjectType.OBJECT_MATVIEW
    what = "create-materialized-view" if view_too else "create-table"
    return safe(what, "old code does not know it")


def judge_function(moment: Moment, node: Node) -> Finding:
    """Judge CREATE [OR REPLACE] FUNCTION and PROCEDURE."""
    kind = "create-procedure" if node.is_procedure else "create-function"
    name, made = moment.before.find_routine(list_name_parts(node.funcname)), make_routine(node)
    shown = moment.before.quote_name(name)
    known = moment.before.routines.get(name, ())
    same = [r for r in known if r.arguments == made.arguments]
    if same and moment.before.is_novel("routine", name, made.arguments):
        return safe(kind, f"{shown} is new in this migration")
    if same and same[0] == made and made.body is not None:
        return safe(kind, f"{shown} is as it was: nothing changes")
    if same:
        return safe_if(kind, f"{shown} takes the same as before, and may do another thing for old code")
    if node.replace and not moment.is_new_thing(name[0]):
        return safe_if(kind, f"no migration here made {shown}: if there was one, it may do another thing for old code")
    if made not in moment.after.routines.get(name, ()):
        return safe(kind, f"{shown} is gone again, or another one, when the migration is done")
    others = [r for r in known if not moment.before.is_novel("routine", name, r.arguments)]
    unclear = [r for r in others if is_ambiguous(r, made)]
    if any(r in moment.after.routines.get(name, ()) for r in unclear):
        return breaking(kind, f"calls of old code to {shown} fail: they fit both, and are not unique")
    if others:
        return safe_if(kind, f"calls of old code to {shown} may be ambiguous, or reach the new one")
    return safe(kind, f"old code does not know {shown}")


def make_table_judge(kind: str, reason: str) -> Callable[[Moment, Node], Finding]:
    """Return the judge of what hangs on one table, and is safe where the table is new: triggers, policies, rules."""

    def judge(moment: Moment, node: Node) -> Finding:
        relation = getattr(node, "relation", None) or node.table
        if moment.is_new_table(moment.before.resolve(relation)):
            return safe(kind, _NEW_TABLE)
        return safe_if(kind, reason)

    return judge


def judge_grant(moment: Moment, node: Node) -> Finding:
    """Judge GRANT and REVOKE."""
    if node.is_grant:
        return safe("grant", "it takes no right away")
    names = [moment.before.resolve(o) for o in node.objects or () if isinstance(o, ast.RangeVar)]
    if names and len(names) == len(node.objects) and all(moment.is_new_table(name) for name in names):
        return safe("revoke", _NEW_TABLE)
    routines = [o for o in node.objects or () if isinstance(o, ast.ObjectWithArgs)]
    if routines and all(_is_new_routine(moment, routine) for routine in routines):
        return safe("revoke", "the function is new in this migration")
    return safe_if("revoke", "statements of old code fail if its role loses a right that it uses")


def _is_new_routine(moment: Moment, node: Node) -> bool:
    """Say whether every routine of this name is new in this migration."""
    name, called = moment.before.find_routine(list_name_parts(node.objname)), find_arguments(node)
    known = [r for r in moment.before.routines.get(name, ()) if called in {None, r.arguments}]
    return bool(known) and all(moment.before.is_novel("routine", name, r.arguments) for r in known)


def judge_grant_role(_moment: Moment, node: Node) -> Finding:
    """Judge GRANT and REVOKE of a role."""
    if node.is_grant:
        return safe("grant", "it takes no right away")
    return safe_if("revoke", "statements of old code fail if its role loses rights that it uses")


def judge_sequence(moment: Moment, node: Node) -> Finding:
    """Judge ALTER SEQUENCE."""
    if moment.is_new_table(moment.before.resolve(node.sequence)):
        return safe("alter-sequence", "the sequence is new in this migration")
    options = {str(option.defname): option.arg for option in node.options or ()}
    widened = "as" in options and list_name_parts(options["as"].names)[-1] == "int8"
    if options.keys() - ({"as"} if widened else set()) <= _UNNAMED_SEQUENCE_OPTIONS:
        return safe("alter-sequence", "old code gets the same numbers")
    return safe_if(
        "alter-sequence",
        "old code gets other numbers than before, which may be taken or run out",
        reversible=Reversible.IF,
    )


def judge_domain(moment: Moment, node: Node) -> Finding:
    """Judge ALTER DOMAIN."""
    name = moment.before.find_type(list_name_parts(node.typeName))
    shown, subtype = moment.before.quote_name(name), str(node.subtype)
    using = list(moment.before.columns_of_type(name)) if name in moment.before.domains else []
    if moment.before.is_novel("type", name):
        return safe("alter-domain", "the domain is new in this migration")
    if subtype == "V":
        return safe("alter-domain", "the constraint held for every write before")
    if subtype == "C":
        return safe_if(
            "alter-domain", f"a write of old code that violates {shown} fails", _select_refused(moment, using, node)
        )
    if subtype == "O":
        asked = [f"({conditions.select_nulls(moment.before, table, (column,))})" for table, column in using]
        condition = " UNION ALL ".join(asked) or None
        return safe_if("alter-domain", f"an insert or update of old code that leaves a {shown} null fails", condition)
    reasons = {
        "T": (f"an insert of old code that leaves a {shown} out stores another value than before", Reversible.YES),
        "N": (f"old code runs until new code writes a null into a {shown}", Reversible.IF),
        "X": (f"old code runs; new code may write a {shown} that old code does not expect", Reversible.IF),
    }
    reason, reversible = reasons.get(subtype, ("what it means for old code is not known here", Reversible.IF))
    return safe_if("alter-domain", reason, reversible=reversible)


def _select_refused(moment: Moment, using: list[tuple[Name, str]], node: Node) -> str | None:
    """Return a query for values that a new CHECK of a domain refuses."""
    if not using or find_referenced_columns(node.def_.raw_expr) != {"value"} or not moment.after.whole(using[0][0][0]):
        return None
    return conditions.select_refused_values(moment.before, using, node.def_.raw_expr)


def make_routine_judge(kind: str, reason: str) -> Callable[[Moment, Node], Finding]:
    """Return the judge of what changes a routine or the owner of something, and is safe where that is new."""

    def judge(moment: Moment, node: Node) -> Finding:
        target = getattr(node, "func", None) or getattr(node, "object", None)
        relation = getattr(node, "relation", None)
        parts = get_name_parts(target) if target is not None else ()
        is_new = relation is not None and moment.is_new_table(moment.before.resolve(relation))
        if isinstance(target, ast.ObjectWithArgs):
            is_new = _is_new_routine(moment, target)
        if is_new or moment.before.is_novel("type", moment.before.find_type(parts)):
            return safe(kind, "it is new in this migration")
        if moment.before.is_novel("schema", parts[-1] if parts else ""):
            return safe(kind, "the schema is new in this migration")
        if isinstance(node, ast.AlterFunctionStmt) and {str(o.defname) for o in node.actions or ()} <= _PLANNING:
            return safe(kind, "it concerns how the function is planned, not what it does")
        return safe_if(kind, reason)

    return judge


def judge_drop_role(_moment: Moment, node: Node) -> Finding:
    """Judge DROP ROLE."""
    names = ", ".join(str(role.rolename) for role in node.roles or ())
    return safe_if("drop-role", f"old code that connects as {names} is refused", reversible=Reversible.IF)
