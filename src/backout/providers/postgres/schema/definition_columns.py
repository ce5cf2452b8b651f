"""The parts of a table's own CREATE as pg_dump writes it: columns that still exist, and checks.

An existing table cannot be created again, so each of these is a definition of its own, known by (kind, schema,
"table name") as pg_dump knows constraints.

Source: PostgreSQL 18, ALTER TABLE.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final

from backout.model.database.rescue import DefinitionDifference, LeftOut
from backout.providers.postgres.backup.dump_toc import Definition
from backout.providers.postgres.schema.quoting import quote_identifier

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from backout.providers.postgres.backup.dump_toc import Key
    from backout.providers.postgres.schema.definitions import Catalog, Column, Table


PARTS: Final = frozenset(
    {"CHECK CONSTRAINT", "COLUMN OPTIONS", "COMPRESSION", "DEFAULT", "NOT NULL", "STATISTICS TARGET", "STORAGE"}
)
"""The kinds of what is taken out of a table's own CREATE."""


def list_parts(catalog: Catalog) -> dict[Key, Definition]:
    """Return the definitions of columns and checks of all tables, those from a parent as well."""
    return {
        each.key: each
        for table in catalog.tables.values()
        for each in _list_of_table(table, table, lambda _column, _kind: True, {name for name, *_ in table.checks})
    }


def take_apart(before: Catalog, after: Catalog, live: Catalog) -> tuple[dict[Key, Definition], ...]:
    """Return the definitions of columns and checks in each, of tables and columns that are in all three.

    What comes from a parent in all three is the parent's. A partition that is detached keeps what it had, as its own,
    and one that is attached gives it up: so what is a table's own in one of the three is compared in all.
    """
    ends = before.tables, after.tables, live.tables
    oids = [oid for oid in before.tables if all(oid in each for each in ends)]
    found: tuple[dict[Key, Definition], ...] = ({}, {}, {})
    for oid in oids:
        tables = [each[oid] for each in ends]
        numbered = [{column.number: column for column in table.columns} for table in tables]
        columns = {number: [each[number] for each in numbered] for number in set.intersection(*map(set, numbered))}
        checks = {name for table in tables for name, _, local in table.checks if local}
        for table, made in zip(tables, found, strict=True):
            for each in _list_of_table(table, tables[0], functools.partial(_is_own, columns), checks):
                made[each.key] = each
    return found


def list_columns_left_out(before: Catalog, after: Catalog, live: Catalog) -> Iterator[LeftOut]:
    """Yield which columns the damage gave another name or type, and which it made."""
    for oid, was in before.tables.items():
        then, now = after.tables.get(oid), live.tables.get(oid)
        if then is None or now is None:
            continue
        columns = {column.number: column for column in was.columns}
        present = {column.number: column for column in now.columns}
        for column in then.columns:
            old, live_one = columns.get(column.number), present.get(column.number)
            if live_one is None or (live_one.name, live_one.type) != (column.name, column.type) or not column.local:
                continue
            begin, name = f"ALTER TABLE {now.sql}", quote_identifier(column.name)
            if old is None:
                drop = f"{begin} DROP COLUMN {name};"
                yield LeftOut(f"column {now.shown}.{column.name}", "the damage made it, and it stays", drop)
            elif old.type != column.type:
                reason = f"the damage changed its type from {old.type} to {column.type}"
                given = f"{begin} ALTER COLUMN {name} TYPE {old.type} USING {name}::{old.type};"
                yield LeftOut(f"column {was.shown}.{old.name}", reason, given)
            elif old.name != column.name:
                back = f"{begin} RENAME COLUMN {name} TO {quote_identifier(old.name)};"
                yield LeftOut(f"column {was.shown}.{old.name}", f"the damage gave it the name {column.name}", back)


def list_order_differences(before: Catalog, live: Catalog) -> Iterator[DefinitionDifference]:
    """Yield the tables whose columns stand in another order: an INSERT without names writes into other ones."""
    places = {table.shown: table for table in live.tables.values()}
    for was in before.tables.values():
        now = places.get(was.shown)
        if now is None:
            continue
        ends = [[column.name for column in table.columns] for table in (was, now)]
        shared = [[name for name in one if name in other] for one, other in (ends, ends[::-1])]
        if shared[0] != shared[1]:
            yield DefinitionDifference(f"order of columns of table {was.shown}", *(", ".join(each) for each in ends))


def _is_own(columns: Mapping[int, Sequence[Column]], column: Column, kind: str) -> bool:
    """Whether a column's definition of a kind is its table's own matter.

    Args:
        columns: the same column before, after and live, by its number, of those that are compared.
    """
    ends = columns.get(column.number, ())
    if (
        kind == "NOT NULL"
        and len({each.inherited for each in ends}) == 1
        and all(each.bound for each in ends if each.not_null)
    ):
        return False  # it comes and goes with the parent's
    return any(each.local for each in ends)


def _list_of_table(
    table: Table, named: Table, is_own: Callable[[Column, str], bool], checks: Collection[str]
) -> Iterator[Definition]:
    """Yield the definitions of a table's checks and columns.

    Args:
        named: the same table by the name it had before.
        is_own: tells of a column and a kind whether it is to be listed.
        checks: the names of those to be listed.
    """
    for name, text, _ in table.checks:
        if name not in checks:
            continue
        begin = f"ALTER TABLE {named.sql}"
        create = f"{begin} ADD CONSTRAINT {quote_identifier(name)} {text};"
        drop = f"{begin} DROP CONSTRAINT {quote_identifier(name)};"
        yield _make_definition(table, named, ("CHECK CONSTRAINT", name), create, drop)
    for column in table.columns:
        begin = f"ALTER TABLE {named.sql} ALTER COLUMN {quote_identifier(column.name)}"
        for kind, create, drop in _list_of_column(column):
            if is_own(column, kind):
                yield _make_definition(table, named, (kind, column.name), f"{begin} {create};", f"{begin} {drop};")


def _list_of_column(column: Column) -> Iterator[tuple[str, str, str]]:
    if column.not_null:
        yield "NOT NULL", "SET NOT NULL", "DROP NOT NULL"
    if column.default is not None and not column.generated:
        yield "DEFAULT", f"SET DEFAULT {column.default}", "DROP DEFAULT"
    if column.storage:
        yield "STORAGE", f"SET STORAGE {column.storage}", "SET STORAGE DEFAULT"
    if column.compression:
        yield "COMPRESSION", f"SET COMPRESSION {column.compression}", "SET COMPRESSION default"
    if column.statistics is not None:
        yield "STATISTICS TARGET", f"SET STATISTICS {column.statistics}", "SET STATISTICS -1"
    if column.options:
        names = ", ".join(each.partition("=")[0] for each in column.options.split(", "))
        yield "COLUMN OPTIONS", f"SET ({column.options})", f"RESET ({names})"


def _make_definition(table: Table, named: Table, what: tuple[str, str], create: str, drop: str) -> Definition:
    """Return one that belongs to a table, known by what the table was called before; `what` is its kind and name."""
    kind, name = what
    late = kind != "DEFAULT"
    return Definition(kind, named.schema, f"{named.name} {name}", table.owner, create, drop, 0, 0, late)
