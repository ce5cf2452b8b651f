"""Objects that a statement drops from the known schema or renames."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace
from pglast.enums import ObjectType

from backout.analysis.compatibility.known.kinds import RELATIONS, ROUTINES, TYPES, find_arguments
from backout.analysis.compatibility.known.schema import PUBLIC, Name, Schema, get_name_parts, split_name
from backout.analysis.compatibility.types import SqlType

if TYPE_CHECKING:
    from backout.analysis.compatibility.parsing import Node


def drop(node: Node, schema: Schema) -> None:
    """Take the change over: DROP."""
    kind = ObjectType(node.removeType)
    for item in node.objects or ():
        parts = get_name_parts(item)
        if kind in RELATIONS:
            _drop_relation(schema, schema.find_relation(*split_name(parts)), missing_ok=bool(node.missing_ok))
        elif kind in TYPES:
            name = schema.find_type(parts)
            for place in (schema.enums, schema.domains, schema.others):
                place.pop(name, None)
            schema.novel.discard(("type", name))
        elif kind in ROUTINES:
            name, called = schema.find_routine(parts), find_arguments(item)
            left = tuple(r for r in schema.routines.get(name, ()) if called is not None and r.arguments != called)
            schema.routines[name] = left
        elif kind in {ObjectType.OBJECT_TRIGGER, ObjectType.OBJECT_RULE}:
            _drop_fired(schema, schema.find_relation(*split_name(parts[:-1])), parts[-1], kind)
        elif kind is ObjectType.OBJECT_PUBLICATION:
            schema.publications.pop(parts[-1], None)
        elif kind is ObjectType.OBJECT_SCHEMA:
            _drop_schema(schema, parts[-1])


def _drop_fired(schema: Schema, table: Name, name: str, kind: ObjectType) -> None:
    if kind is ObjectType.OBJECT_TRIGGER:
        schema.triggers.discard((table, name))
    elif (table, name) in schema.rules:
        schema.novel.add(("rule gone", table, name, schema.rules.pop((table, name))))


def _drop_relation(schema: Schema, name: Name, *, missing_ok: bool) -> None:
    if name not in schema.relations and name not in schema.indexes:
        if not missing_ok:
            schema.blind.add(name[0])
        return
    schema.relations.pop(name, None)
    index = schema.indexes.pop(name, None)
    owner = schema.relations.get(index.table) if index is not None else None
    if owner is not None and owner.identity == name[1]:
        schema.relations[owner.name] = replace(owner, identity="n")
    for index in [i for i in schema.indexes.values() if i.table == name]:
        del schema.indexes[index.name]
    schema.triggers -= {t for t in schema.triggers if t[0] == name}
    schema.rules = {key: text for key, text in schema.rules.items() if key[0] != name}
    schema.novel = {n for n in schema.novel if n[1] != name}


def _drop_schema(schema: Schema, gone: str) -> None:
    schema.schemas.discard(gone)
    schema.novel.discard(("schema", gone))
    for name in [n for n in (*schema.relations, *schema.indexes) if n[0] == gone]:
        _drop_relation(schema, name, missing_ok=True)
    for name in [n for n in schema.enums if n[0] == gone]:
        del schema.enums[name]


def rename(node: Node, schema: Schema) -> None:
    """Take the change over: RENAME."""
    kind = ObjectType(node.renameType)
    if kind in RELATIONS:
        old = schema.resolve(node.relation)
        owner = schema.owner_of_index(old)
        if owner is not None:  # the constraint gets the new name of its index
            _rename_constraint(schema, owner, old[1], str(node.newname))
        else:
            _move_relation(schema, old, (old[0], str(node.newname)))
    elif kind in TYPES:
        old = schema.find_type(get_name_parts(node.object))
        _move_type(schema, old, (old[0], str(node.newname)))
    elif kind is ObjectType.OBJECT_COLUMN:
        _rename_column(schema, schema.resolve(node.relation), str(node.subname), str(node.newname))
    elif kind is ObjectType.OBJECT_TABCONSTRAINT:
        _rename_constraint(schema, schema.resolve(node.relation), str(node.subname), str(node.newname))
    elif kind in ROUTINES:
        old = schema.find_routine(get_name_parts(node.object))
        _move_routine(schema, old, (old[0], str(node.newname)), find_arguments(node.object))


def _rename_constraint(schema: Schema, table: Name, old: str, new: str) -> None:
    known = schema.relations.get(table)
    if known is not None and old in known.constraints:
        schema.novel = (schema.novel - {("constraint", table, old)}) | {("constraint", table, new)}
        kept = {
            (new if n == old else n): (replace(c, name=new) if n == old else c) for n, c in known.constraints.items()
        }
        schema.relations[table] = replace(known, constraints=kept)


def _rename_column(schema: Schema, name: Name, old: str, new: str) -> None:
    known = schema.relations.get(name)
    if ("column", name, old) in schema.novel:
        schema.novel = (schema.novel - {("column", name, old)}) | {("column", name, new)}
    if known is None:
        return
    column = known.column(old)
    if column is not None:
        known = known.with_column(replace(column, name=new), instead_of=old)
    constraints = {
        n: replace(c, columns=tuple(new if part == old else part for part in c.columns))
        for n, c in known.constraints.items()
    }
    schema.relations[name] = replace(known, constraints=constraints)
    for index in [i for i in schema.indexes.values() if i.table == name and old in i.columns]:
        columns = tuple(new if part == old else part for part in index.columns)
        schema.indexes[index.name] = replace(index, columns=columns)


def _move_relation(schema: Schema, old: Name, new: Name) -> None:
    if old in schema.relations:
        schema.relations[new] = replace(schema.relations.pop(old), name=new)
        for index in [i for i in schema.indexes.values() if i.table == old]:
            schema.indexes[index.name] = replace(index, table=new)
    elif old in schema.indexes:
        schema.indexes[new] = replace(schema.indexes.pop(old), name=new)
    else:
        schema.blind.add(old[0])
    schema.novel.add(("renamed", new))
    schema.triggers = {((new if table == old else table), trigger) for table, trigger in schema.triggers}
    schema.rules = {((new if on == old else on), rule): text for (on, rule), text in schema.rules.items()}
    for name, known in schema.publications.items():
        if old in known.tables:
            tables = {(new if table == old else table): part for table, part in known.tables.items()}
            schema.publications[name] = replace(known, tables=tables)
    schema.novel = {tuple(new if part == old else part for part in item) for item in schema.novel}


def _move_type(schema: Schema, old: Name, new: Name) -> None:
    if old in schema.enums:
        schema.enums[new] = schema.enums.pop(old)
    if old in schema.domains:
        schema.domains[new] = schema.domains.pop(old)
    if old in schema.others:
        schema.others[new] = schema.others.pop(old)
    schema.novel = {tuple(new if part == old else part for part in item) for item in schema.novel}
    schema.novel.add(("renamed", new))
    for table, column in [(r.name, c.name) for r in schema.relations.values() for c in r.columns.values()]:
        relation = schema.relations[table]
        known = relation.column(column)
        if known and known.type and known.type.name in {old[1], ".".join(old)}:
            spelled = new[1] if new[0] == PUBLIC else ".".join(new)
            moved = SqlType(spelled, known.type.modifiers, known.type.dimensions)
            schema.relations[table] = relation.with_column(replace(known, type=moved))


def _move_routine(schema: Schema, old: Name, new: Name, called: tuple[str, ...] | None) -> None:
    moved = tuple(r for r in schema.routines.get(old, ()) if called in {None, r.arguments})
    schema.routines[old] = tuple(r for r in schema.routines.get(old, ()) if r not in moved)
    schema.routines[new] = (*schema.routines.get(new, ()), *moved)


def set_schema(node: Node, schema: Schema) -> None:
    """Take the change over: SET SCHEMA."""
    kind, there = ObjectType(node.objectType), str(node.newschema)
    if kind in RELATIONS:
        old = schema.resolve(node.relation)
        _move_relation(schema, old, (there, old[1]))
    elif kind in TYPES:
        old = schema.find_type(get_name_parts(node.object))
        _move_type(schema, old, (there, old[1]))
    elif kind in ROUTINES:
        old = schema.find_routine(get_name_parts(node.object))
        _move_routine(schema, old, (there, old[1]), find_arguments(node.object))
