"""The differences of two schemas, and the statements that would turn one into the other.

The statements are in executable order: first what is dropped, last created first, then what is created and
altered. They are for a person to read: a line that begins with `--` is something that no single statement can do,
and dependents of a changed object (a view on a column) are not dropped first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.model.database.catalog import Change, Difference, ObjectKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from backout.model.database.catalog import SchemaObject

    Key = tuple[ObjectKind, str]

_GOES_WITH_ITS_TABLE: Final = frozenset(ObjectKind) - {ObjectKind.FOREIGN_KEY, ObjectKind.SEQUENCE_OWNER}


def find_differences(found: Sequence[SchemaObject], wanted: Sequence[SchemaObject]) -> tuple[Difference, ...]:
    """Return what has to be done to `found` so that it is `wanted`; empty when they are the same.

    Both are in the order of their creation. What a dropped table takes with it, and the columns of a new one, are not
    listed by themselves.
    """
    here, there = {_make_key(o): o for o in found}, {_make_key(o): o for o in wanted}
    goes = [
        _drop_extra(o) for o in reversed(found) if _make_key(o) not in there and not _is_taken_along(o, here, there)
    ]
    comes = [
        difference
        for o in wanted
        if (
            difference := _create_missing(o, here, there)
            if _make_key(o) not in here
            else _make_difference(here[_make_key(o)], o)
        )
        is not None
    ]
    return (*goes, *comes)


def write_script(found: Sequence[Difference]) -> tuple[str, ...]:
    """Return all the statements, each with its semicolon; bodies of functions are not checked, they come before others.

    >>> write_script([])
    ()
    """
    if not found:
        return ()
    statements = [s if s.startswith("--") else f"{s};" for difference in found for s in difference.statements]
    bodies = any(d.kind is ObjectKind.FUNCTION and d.change is not Change.EXTRA for d in found)
    return (*(("SET check_function_bodies = off;",) if bodies else ()), *statements)


def _make_key(found: SchemaObject) -> Key:
    return found.kind, found.name


def _has_owner(found: SchemaObject, objects: Mapping[Key, SchemaObject]) -> bool:
    """Whether what the object belongs to is there."""
    return any((kind, found.owner) in objects for kind in (ObjectKind.TABLE, ObjectKind.VIEW, ObjectKind.DOMAIN))


def _is_taken_along(extra: SchemaObject, here: Mapping[Key, SchemaObject], there: Mapping[Key, SchemaObject]) -> bool:
    """Whether dropping something else removes it: its table, its schema, the column of a default, a serial column."""
    if extra.kind is ObjectKind.DEFAULT and (ObjectKind.COLUMN, extra.name) not in there:
        return True
    if extra.kind is not ObjectKind.SCHEMA and _is_schema_new(extra, here, there):
        return True
    owned = here.get((ObjectKind.SEQUENCE_OWNER, extra.name)) if extra.kind is ObjectKind.SEQUENCE else None
    if owned is not None and (ObjectKind.COLUMN, owned.definition) not in there:
        return True
    if extra.kind is ObjectKind.SEQUENCE_OWNER and (ObjectKind.COLUMN, extra.definition) not in there:
        return True
    gone = bool(extra.owner) and not _has_owner(extra, there)
    return gone and extra.kind in _GOES_WITH_ITS_TABLE


def _is_schema_new(found: SchemaObject, here: Mapping[Key, SchemaObject], there: Mapping[Key, SchemaObject]) -> bool:
    """Whether it lies in a schema that is on this side only."""
    schema = found.name.partition(".")[0]
    return (ObjectKind.SCHEMA, schema) in here and (ObjectKind.SCHEMA, schema) not in there


def _drop_extra(extra: SchemaObject) -> Difference:
    return Difference(extra.kind, extra.name, Change.EXTRA, extra.definition, "", (extra.drop,))


def _create_missing(
    missing: SchemaObject, here: Mapping[Key, SchemaObject], there: Mapping[Key, SchemaObject]
) -> Difference | None:
    if missing.kind is ObjectKind.COLUMN and (ObjectKind.TABLE, missing.owner) not in here:
        return None  # CREATE TABLE has it
    statements: tuple[str, ...] = (missing.create,)
    if missing.kind is ObjectKind.COLUMN:
        statements = _add_column(missing, there)
    return Difference(missing.kind, missing.name, Change.MISSING, "", missing.definition, statements)


def _add_column(missing: SchemaObject, there: Mapping[Key, SchemaObject]) -> tuple[str, ...]:
    """Return the statement; a column that must not be null needs its default at once, for the rows that are there."""
    default = there.get((ObjectKind.DEFAULT, missing.name))
    if default is None or "NOT NULL" not in missing.create:
        return (missing.create,)
    begin, _, _ = missing.create.rpartition(" NOT NULL")
    return (f"{begin} DEFAULT {default.definition} NOT NULL",)


def _make_difference(before: SchemaObject, after: SchemaObject) -> Difference | None:
    if before.definition == after.definition:
        return None
    alter = _IN_PLACE.get(after.kind, _replace)
    statements = tuple(alter(before, after))
    return Difference(after.kind, after.name, Change.DIFFERENT, before.definition, after.definition, statements)


def _replace(before: SchemaObject, after: SchemaObject) -> Iterator[str]:
    yield before.drop
    yield after.create


def _alter_column(before: SchemaObject, after: SchemaObject) -> Iterator[str]:
    old, new = dict(before.parts), dict(after.parts)
    name = after.name.removeprefix(f"{after.owner}.")
    begin = f"ALTER TABLE {after.owner} ALTER COLUMN {name}"
    if old["generated"] != new["generated"] and new["generated"]:
        yield from _replace(before, after)  # a generated column's values are made anew in any case
        return
    if old["generated"] != new["generated"]:
        yield f"{begin} DROP EXPRESSION"
    if old["identity"] and old["identity"] != new["identity"]:
        yield f"{begin} DROP IDENTITY"
    if old["type"] != new["type"]:
        bare = new["type"].partition(" COLLATE ")[0]
        yield f"{begin} TYPE {new['type']} USING {name}::{bare}"
    if old["not null"] != new["not null"]:
        yield f"{begin} {'SET' if new['not null'] else 'DROP'} NOT NULL"
    if new["identity"] and old["identity"] != new["identity"]:
        yield f"{begin} ADD {new['identity']}"


def _alter_enum(before: SchemaObject, after: SchemaObject) -> Iterator[str]:
    old, new = [label for label, _ in before.parts], [label for label, _ in after.parts]
    if (
        len(old) == len(new)
        and len(renamed := [pair for pair in zip(old, new, strict=True) if pair[0] != pair[1]]) == 1
    ):
        ((was, to),) = renamed
        if was not in new and to not in old:
            yield f"ALTER TYPE {after.name} RENAME VALUE {_quote_literal(was)} TO {_quote_literal(to)}"
            return
    if [label for label in new if label in old] != old:
        yield f"-- {after.name}: no statement takes a value out of an enum, or moves one; a new type does:"
        yield f"-- {after.create};"
        return
    for number, label in enumerate(new):
        if label not in old:
            place = (
                f"AFTER {_quote_literal(new[number - 1])}"
                if number
                else f"BEFORE {_quote_literal(old[0])}"
                if old
                else ""
            )
            yield f"ALTER TYPE {after.name} ADD VALUE {_quote_literal(label)} {place}".rstrip()


def _alter_domain(before: SchemaObject, after: SchemaObject) -> Iterator[str]:
    old, new = dict(before.parts), dict(after.parts)
    if old["type"] != new["type"]:
        yield f"-- {after.name}: no statement changes a domain's type; a new domain does:"
        yield f"-- {after.create};"
        return
    if old["default"] != new["default"]:
        yield f"ALTER DOMAIN {after.name} " + (f"SET {new['default']}" if new["default"] else "DROP DEFAULT")
    if old["not null"] != new["not null"]:
        yield f"ALTER DOMAIN {after.name} {'SET' if new['not null'] else 'DROP'} NOT NULL"


def _alter_type(before: SchemaObject, after: SchemaObject) -> Iterator[str]:
    yield f"-- {after.name} is {before.definition}; a new type of what uses it replaces it:"
    yield f"-- {after.create};"


def _alter_sequence(_before: SchemaObject, after: SchemaObject) -> Iterator[str]:
    yield f"ALTER SEQUENCE {after.name} {after.definition}"


def _alter_table(before: SchemaObject, after: SchemaObject) -> Iterator[str]:
    old, new = before.definition.startswith("UNLOGGED"), after.definition.startswith("UNLOGGED")
    if old != new:
        yield f"ALTER TABLE {after.name} SET {'UNLOGGED' if new else 'LOGGED'}"
    if before.definition.removeprefix("UNLOGGED").strip() != after.definition.removeprefix("UNLOGGED").strip():
        is_now, wanted = (found.definition or "a plain table" for found in (before, after))
        yield f"-- {after.name} is {is_now}, wanted is {wanted}"


def _alter_function(before: SchemaObject, after: SchemaObject) -> Iterator[str]:
    if before.parts != after.parts:  # what it returns, and the names of its parameters, cannot be replaced
        yield before.drop
    yield after.create


def _alter_view(before: SchemaObject, after: SchemaObject) -> Iterator[str]:
    """Columns may be added behind the others; anything else is a new view."""
    if before.parts and before.parts == after.parts[: len(before.parts)]:
        yield after.create.replace("CREATE VIEW", "CREATE OR REPLACE VIEW", 1)
    else:
        yield from _replace(before, after)


_IN_PLACE: Final[Mapping[ObjectKind, Callable[[SchemaObject, SchemaObject], Iterator[str]]]] = {
    ObjectKind.COLUMN: _alter_column,
    ObjectKind.DEFAULT: lambda _before, after: iter((after.create,)),
    ObjectKind.SEQUENCE_OWNER: lambda _before, after: iter((after.create,)),
    ObjectKind.ENUM: _alter_enum,
    ObjectKind.DOMAIN: _alter_domain,
    ObjectKind.TYPE: _alter_type,
    ObjectKind.SEQUENCE: _alter_sequence,
    ObjectKind.TABLE: _alter_table,
    ObjectKind.FUNCTION: _alter_function,
    ObjectKind.VIEW: _alter_view,
}


def _quote_literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
