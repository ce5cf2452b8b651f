"""Objects that are dropped, renamed or moved: whether old code still finds them under the old name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pglast.enums import DropBehavior, ObjectType

from backout.analysis.compatibility import conditions, loosening, remaking, writing
from backout.analysis.compatibility.calling import explain_lost_calls
from backout.analysis.compatibility.finding import Finding, breaking, join_findings, safe, safe_if
from backout.analysis.compatibility.known.kinds import RELATIONS, ROUTINES, TYPES, find_arguments
from backout.analysis.compatibility.known.schema import Name, Schema, get_name_parts, split_name
from backout.model.database.compatibility import Reversible

if TYPE_CHECKING:
    from backout.analysis.compatibility.moment import Moment
    from backout.analysis.compatibility.parsing import Node

_NEW: Final = "it is new in this migration"
_NOTHING: Final = "no migration made it: nothing is dropped"
_WORDS: Final = {
    ObjectType.OBJECT_TSCONFIGURATION: "text search configuration", ObjectType.OBJECT_TSDICTIONARY: "dictionary",
    ObjectType.OBJECT_COLLATION: "collation", ObjectType.OBJECT_OPERATOR: "operator", ObjectType.OBJECT_CAST: "cast",
    ObjectType.OBJECT_LANGUAGE: "language", ObjectType.OBJECT_FOREIGN_SERVER: "foreign server",
    ObjectType.OBJECT_FDW: "foreign-data wrapper", ObjectType.OBJECT_CONVERSION: "conversion",
    ObjectType.OBJECT_SCHEMA: "schema", ObjectType.OBJECT_DATABASE: "database", ObjectType.OBJECT_ROLE: "role",
}  # fmt: skip
_UNNAMED: Final = frozenset(
    {
        ObjectType.OBJECT_POLICY, ObjectType.OBJECT_DOMCONSTRAINT, ObjectType.OBJECT_EVENT_TRIGGER,
        ObjectType.OBJECT_SUBSCRIPTION,
        ObjectType.OBJECT_STATISTIC_EXT, ObjectType.OBJECT_TABLESPACE, ObjectType.OBJECT_OPCLASS,
        ObjectType.OBJECT_OPFAMILY, ObjectType.OBJECT_FDW, ObjectType.OBJECT_FOREIGN_SERVER, ObjectType.OBJECT_LANGUAGE,
        ObjectType.OBJECT_ACCESS_METHOD, ObjectType.OBJECT_CONVERSION,
    }
)  # fmt: skip
"""What no statement of an application names."""
_SWITCHES: Final = {
    ObjectType.OBJECT_TRIGGER: ("drop-trigger", "what the trigger did for writes of old code is no longer done"),
    ObjectType.OBJECT_RULE: ("drop-rule", "statements of old code are no longer rewritten"),
    ObjectType.OBJECT_POLICY: ("drop-policy", "old code may see other rows, or be refused, under row security"),
    ObjectType.OBJECT_EVENT_TRIGGER: ("drop-event-trigger", "what it did for statements of old code is no longer done"),
    ObjectType.OBJECT_PUBLICATION: ("drop-publication", "its subscribers get no more changes"),
}


def drop(moment: Moment, node: Node) -> Finding:
    """Judge DROP of anything that has a DROP of this form."""
    kind = ObjectType(node.removeType)
    return join_findings([_drop_object(moment, node, kind, item) for item in node.objects])


def _drop_object(moment: Moment, node: Node, kind: ObjectType, item: Node) -> Finding:
    if kind in RELATIONS:
        return _drop_relation(moment, node, kind, item)
    if kind in TYPES:
        return _drop_type(moment, node, kind, item)
    if kind in ROUTINES:
        return _drop_routine(moment, node, kind, item)
    if kind is ObjectType.OBJECT_SCHEMA:
        return _drop_schema(moment, node, get_name_parts(item)[-1])
    if kind in _SWITCHES:
        return _drop_switch(moment, node, kind, item)
    if kind in {ObjectType.OBJECT_STATISTIC_EXT, ObjectType.OBJECT_ACCESS_METHOD}:
        return safe("drop-statistics", "no answer changes")
    what = _WORDS.get(kind, kind.name.removeprefix("OBJECT_").replace("_", " ").lower())
    return breaking(
        f"drop-{what.replace(' ', '-')}",
        f"whatever of old code needs the {what} fails",
        reversible=Reversible.NO if _cascades(node) else Reversible.IF,
    )


def _cascades(node: Node) -> bool:
    return DropBehavior(node.behavior) is DropBehavior.DROP_CASCADE


def _drop_relation(moment: Moment, node: Node, kind: ObjectType, item: Node) -> Finding:
    name = moment.before.find_relation(*split_name(get_name_parts(item)))
    word = RELATIONS[kind].replace(" ", "-")
    shown = moment.before.quote_name(name)
    if kind is ObjectType.OBJECT_INDEX:
        return loosening.drop_index(moment, name, missing_ok=bool(node.missing_ok))
    if moment.is_new_table(name):
        return safe(f"drop-{word}", _NEW)
    loses_rows = kind in {ObjectType.OBJECT_TABLE, ObjectType.OBJECT_SEQUENCE}
    reversible = Reversible.NO if kind is ObjectType.OBJECT_TABLE else Reversible.IF if loses_rows else Reversible.YES
    known = moment.before.relations.get(name)
    again = moment.after.relations.get(name)
    if moment.before.is_novel("renamed", name):
        lost = "; its rows are gone" if kind is ObjectType.OBJECT_TABLE else ""
        return safe_if(
            f"drop-{word}",
            f"old code knows no {shown}: it has this name since this migration{lost}",
            reversible=reversible,
        )
    if known is None and node.missing_ok and moment.never_there(name[0]):
        return safe(f"drop-{word}", _NOTHING)
    if again is not None and not _cascades(node):
        older = _may_be_older(moment, node, known=known is not None)
        return remaking.judge_taken_name(moment, f"drop-{word}", known, again, reversible, older=older)
    lost = ", and its rows are gone" if kind is ObjectType.OBJECT_TABLE else ""
    return breaking(f"drop-{word}", f"statements of old code that name {shown} fail{lost}", reversible=reversible)


def _drop_type(moment: Moment, node: Node, kind: ObjectType, item: Node) -> Finding:
    name = moment.before.find_type(get_name_parts(item))
    word = f"drop-{TYPES[kind]}"
    if moment.before.is_novel("type", name) or moment.before.is_novel("renamed", name):
        return safe(word, "it is new in this migration, or has its name since")
    if node.missing_ok and not _is_type_known(moment.before, name) and moment.never_there(name[0]):
        return safe(word, _NOTHING)
    if not _cascades(node) and _is_type_known(moment.after, name):
        if _may_be_older(moment, node, known=_is_type_known(moment.before, name)):
            return safe_if(word, f"if there was a {moment.before.quote_name(name)}, another takes its place")
        return _judge_type_taken(moment, word, name)
    columns_too = Reversible.NO if _cascades(node) else Reversible.YES
    return breaking(word, f"casts of old code to {moment.before.quote_name(name)} fail", reversible=columns_too)


def _may_be_older(moment: Moment, node: Node, *, known: bool) -> bool:
    """Say whether IF EXISTS asks for something from before the first migration here, as a script does to run twice."""
    return bool(node.missing_ok) and not known and not moment.before.begun


def _is_type_known(schema: Schema, name: Name) -> bool:
    return name in schema.enums or name in schema.domains or name in schema.others


def _judge_type_taken(moment: Moment, kind: str, name: Name) -> Finding:
    before, after = moment.before.enums.get(name), moment.after.enums.get(name)
    if before is None or after is None or set(before) - set(after):
        return breaking(kind, f"{moment.before.quote_name(name)} is another type when the migration is done")
    return safe_if(kind, f"{moment.before.quote_name(name)} is recreated with every old label")


def _drop_routine(moment: Moment, node: Node, kind: ObjectType, item: Node) -> Finding:
    name, called = moment.before.find_routine(get_name_parts(item)), find_arguments(item)
    word = f"drop-{ROUTINES[kind]}"
    shown = moment.before.quote_name(name)
    known = [r for r in moment.before.routines.get(name, ()) if called in {None, r.arguments}]
    if known and all(moment.before.is_novel("routine", name, r.arguments) for r in known):
        return safe(word, _NEW)
    if node.missing_ok and not moment.before.routines.get(name) and moment.never_there(name[0]):
        return safe(word, _NOTHING)
    again = moment.after.routines.get(name, ())
    if again and _may_be_older(moment, node, known=bool(known)):
        return safe_if(word, f"if there was a {shown}, another takes its place")
    lost = [explain_lost_calls(r, again, shown) for r in known] or [f"statements of old code that call {shown} fail"]
    if not any(lost):
        return safe_if(
            word, f"{shown} is recreated in this migration and takes and returns the same: it may do another thing"
        )
    return breaking(word, next(filter(None, lost)))


def _drop_schema(moment: Moment, node: Node, name: str) -> Finding:
    if moment.before.is_novel("schema", name):
        return safe("drop-schema", _NEW)
    inside = [r for r in (*moment.before.relations, *moment.before.routines, *moment.before.enums) if r[0] == name]
    if node.missing_ok and name not in moment.before.schemas and not inside and moment.never_there(name):
        return safe("drop-schema", _NOTHING)
    if not _cascades(node):
        return safe_if("drop-schema", "it is dropped only when it is empty; names qualified with it fail")
    return breaking(
        "drop-schema", "everything in it is gone: statements of old code that name it fail", reversible=Reversible.NO
    )


def _drop_switch(moment: Moment, node: Node, kind: ObjectType, item: Node) -> Finding:
    word, reason = _SWITCHES[kind]
    parts = get_name_parts(item)
    if kind in {ObjectType.OBJECT_TRIGGER, ObjectType.OBJECT_RULE, ObjectType.OBJECT_POLICY}:
        table = moment.before.find_relation(*split_name(parts[:-1]))
        if moment.is_new_table(table):
            return safe(word, "the table is new in this migration")
        found = writing.drop_from_view(moment, word, table, parts[-1])
        if found is not None and kind is not ObjectType.OBJECT_POLICY:
            return found
        again = moment.after.rules.get((table, parts[-1])) if kind is ObjectType.OBJECT_RULE else None
        if again is not None and again == moment.before.rules.get((table, parts[-1])):
            return safe(word, "the rule is recreated as it was")
        absent = kind is ObjectType.OBJECT_TRIGGER and (table, parts[-1]) not in moment.before.triggers
        known = moment.before.relations.get(table)
        if node.missing_ok and absent and moment.never_there(table[0]) and (known is None or known.whole):
            return safe(word, _NOTHING)
    return safe_if(word, reason)


def rename(moment: Moment, node: Node) -> Finding:
    """Judge ALTER ... RENAME."""
    kind = ObjectType(node.renameType)
    if kind is ObjectType.OBJECT_COLUMN:
        return _rename_column(moment, node)
    if kind is ObjectType.OBJECT_ATTRIBUTE:
        return breaking("rename-attribute", f"statements of old code that name {node.subname} fail")
    if kind is ObjectType.OBJECT_TABCONSTRAINT:
        return loosening.rename_constraint(moment, moment.before.resolve(node.relation), str(node.subname))
    if kind in RELATIONS:
        return _judge_relation_gone(moment, node, f"rename-{RELATIONS[kind].replace(' ', '-')}", kind)
    if kind in TYPES or kind in ROUTINES:
        return _judge_object_gone(moment, node, "rename", kind)
    if kind in {ObjectType.OBJECT_TRIGGER, ObjectType.OBJECT_RULE}:
        table = moment.before.resolve(node.relation)
        return writing.rename_fired(moment, table, str(node.subname), is_rule=kind is ObjectType.OBJECT_RULE)
    if kind is ObjectType.OBJECT_PUBLICATION:
        return safe_if("rename", "subscribers that use its old name get no more changes")
    if kind in _UNNAMED:
        return safe("rename", "no statement of an application names it")
    if kind is ObjectType.OBJECT_SCHEMA and moment.before.is_novel("schema", str(node.subname)):
        return safe("rename-schema", _NEW)
    what = _WORDS.get(kind, kind.name.removeprefix("OBJECT_").replace("_", " ").lower())
    return breaking(f"rename-{what.replace(' ', '-')}", f"old code uses the {what} under its old name")


def _rename_column(moment: Moment, node: Node) -> Finding:
    table, name = moment.before.resolve(node.relation), str(node.subname)
    if moment.is_new_column(table, name):
        return safe("rename-column", _NEW)
    if node.missing_ok and table not in moment.before.relations and moment.never_there(table[0]):
        return safe("rename-column", "no migration made the table: nothing changes")
    return breaking("rename-column", f"statements of old code that name {name} fail")


def set_schema(moment: Moment, node: Node) -> Finding:
    """Judge ALTER ... SET SCHEMA."""
    kind = ObjectType(node.objectType)
    if kind in RELATIONS:
        return _judge_relation_gone(moment, node, "set-schema", kind)
    if kind in TYPES or kind in ROUTINES:
        return _judge_object_gone(moment, node, "set-schema", kind)
    return breaking("set-schema", "old code finds it only where its search path leads to the new schema")


def _judge_relation_gone(moment: Moment, node: Node, word: str, kind: ObjectType) -> Finding:
    name = moment.before.resolve(node.relation)
    shown = moment.before.quote_name(name)
    if moment.is_new_table(name):
        return safe(word, _NEW)
    owner = moment.before.owner_of_index(name) if kind is ObjectType.OBJECT_INDEX else None
    if owner is not None and word != "set-schema":
        return loosening.rename_constraint(moment, owner, name[1])
    if name in moment.before.indexes or (kind is ObjectType.OBJECT_INDEX and not _may_back_constraint(moment, name)):
        return safe(word, "no statement names an index")
    if kind is ObjectType.OBJECT_INDEX:
        return safe_if(word, f"ON CONFLICT ON CONSTRAINT {name[1]} of old code fails if it stands behind a constraint")
    if moment.before.is_novel("renamed", name):
        return safe(word, "it has this name since this migration only")
    known, again = moment.before.relations.get(name), moment.after.relations.get(name)
    if known is None and node.missing_ok and moment.never_there(name[0]):
        return safe(word, "no migration made it: nothing changes")
    if again is not None:
        return remaking.judge_taken_name(moment, word, known, again, Reversible.YES, older=False)
    return breaking(word, f"statements of old code that name {shown} fail")


def _may_back_constraint(moment: Moment, name: Name) -> bool:
    """Say whether an index may be that of a constraint, whose name changes with it."""
    owners = [r for r in moment.before.relations.values() if name[1] in r.constraints]
    return bool(owners) or not moment.after.whole(name[0])


def _judge_object_gone(moment: Moment, node: Node, verb: str, kind: ObjectType) -> Finding:
    word = verb if verb == "set-schema" else f"{verb}-{(TYPES | ROUTINES)[kind]}"
    parts = get_name_parts(node.object)
    if kind in TYPES:
        name = moment.before.find_type(parts)
        if moment.before.is_novel("type", name):
            return safe(word, _NEW)
        if _is_type_known(moment.after, name):
            return _judge_type_taken(moment, word, name)
        return breaking(word, f"casts of old code to {moment.before.quote_name(name)} fail")
    name, called = moment.before.find_routine(parts), find_arguments(node.object)
    known = [r for r in moment.before.routines.get(name, ()) if called in {None, r.arguments}]
    if known and all(moment.before.is_novel("routine", name, r.arguments) for r in known):
        return safe(word, _NEW)
    shown = moment.before.quote_name(name)
    lost = [explain_lost_calls(r, moment.after.routines.get(name, ()), shown) for r in known]
    if known and not any(lost):
        return safe_if(word, f"{shown} is recreated: it takes and returns the same, and may do another thing")
    return breaking(word, next(filter(None, lost), f"statements of old code that call {shown} fail"))


def alter_enum(moment: Moment, node: Node) -> Finding:
    """Judge ALTER TYPE ... ADD VALUE and RENAME VALUE."""
    name = moment.before.find_type(tuple(str(p.sval) for p in node.typeName))
    labels = moment.before.enums.get(name, ())
    if moment.before.is_novel("type", name):
        return safe("alter-enum", "the type is new in this migration")
    if node.oldVal:
        return breaking("rename-enum-value", f"statements of old code that write or compare {node.oldVal!r} fail")
    if node.skipIfNewValExists and node.newVal in labels:
        return safe("add-enum-value", "the label is there already: nothing changes")
    using = list(moment.before.columns_of_type(name)) if name in moment.before.enums else []
    whole = moment.after.whole(name[0])
    return safe_if(
        "add-enum-value",
        f"old code runs until it reads {node.newVal!r}, which it does not know",
        conditions.select_labelled(moment.before, using, str(node.newVal)) if whole else None,
        reversible=Reversible.NO,
    )
