"""Tables and columns of a database, to find those that a transaction dropped, and to add them again.

Just before and just after the damage are copies of one cluster, so object ids are the same in both, and in the live
database: a table or column that is in the first and not in the second was dropped.

Source: PostgreSQL 18, "System Catalogs", "System Catalog Information
Functions".
"""

# ruff: noqa: S608 - statements are put together from names that the catalog itself gave, each quoted

from __future__ import annotations

from typing import Any, Final

from backout.model.value import Value
from backout.providers.postgres.schema.quoting import quote_identifier

_USER: Final = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
_CONSTANT: Final = r"""
d.adbin::text !~ 'SQLVALUEFUNCTION|NEXTVALUEEXPR|COERCEVIAIO|SUBLINK' AND NOT EXISTS (
  SELECT FROM regexp_matches(d.adbin::text, ':(?:op)?funcid (\d+)', 'g') AS called
  WHERE called[1]::oid NOT IN (SELECT p.oid FROM pg_proc p WHERE p.provolatile = 'i' AND p.oid < 16384))
"""
"""Whether an expression is the same in every row and at any time: none but immutable functions of Postgres itself."""
_TABLES: Final = f"""
SELECT c.oid::bigint, n.nspname, c.relname, coalesce(pg_relation_filenode(c.oid), 0)::bigint,
  coalesce(pg_relation_filenode(nullif(c.reltoastrelid, 0)), 0)::bigint, c.relkind,
  pg_get_userbyid(c.relowner)::text, c.relrowsecurity AND c.relforcerowsecurity
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND {_USER} ORDER BY 1
"""
_COLUMNS: Final = f"""
SELECT a.attrelid::bigint, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attgenerated,
  a.attidentity, pg_get_expr(d.adbin, d.adrelid), coalesce({_CONSTANT}, false), a.attislocal,
  CASE WHEN a.attcollation NOT IN (0, t.typcollation)
    THEN (SELECT format('%I.%I', m.nspname, x.collname) FROM pg_collation x JOIN pg_namespace m
      ON m.oid = x.collnamespace WHERE x.oid = a.attcollation) END,
  CASE WHEN a.attstorage <> t.typstorage THEN CASE a.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL'
    WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END END,
  CASE a.attcompression WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' END, nullif(a.attstattarget, -1),
  array_to_string(a.attoptions, ', '), a.attinhcount > 0, a.attnotnull AND (
    EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'n' AND k.conkey[1] = a.attnum
      AND k.coninhcount > 0 AND NOT k.conislocal)
    OR c.relispartition AND EXISTS (SELECT FROM pg_inherits i JOIN pg_attribute p ON p.attrelid = i.inhparent
      WHERE i.inhrelid = c.oid AND p.attname = a.attname AND p.attnotnull))
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped AND {_USER} ORDER BY 1, 2
"""
_CHECKS: Final = f"""
SELECT x.conrelid::bigint, x.conname, pg_get_constraintdef(x.oid), x.conislocal
FROM pg_constraint x JOIN pg_class c ON c.oid = x.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE x.contype = 'c' AND {_USER} ORDER BY 1, 2
"""


class Column(Value, frozen=True):
    """A column as it is defined.

    Args:
        generated: "" | s (stored) | v (virtual): it cannot be written.
        identity: "" | a (always) | d (by default).
        default: an expression or None; `constant` when every row has the same.
        local: it does not come from a parent.
        collation, storage, compression, statistics, options: None or "" where they are the type's own, or the server's.
        inherited: a parent has it, too.
        bound: it is NOT NULL because a parent's is, and cannot be otherwise. Before Postgres 18 an heir's can.
    """

    number: int
    name: str
    type: str
    not_null: bool
    generated: str
    identity: str
    default: str | None
    constant: bool = False
    local: bool = True
    collation: str | None = None
    storage: str | None = None
    compression: str | None = None
    statistics: int | None = None
    options: str | None = None
    inherited: bool = False
    bound: bool = False

    @property
    def plain_default(self) -> str | None:
        """The default when every row has the same: a constant."""
        return self.default if self.constant and not self.generated else None


class Table(Value, frozen=True):
    """A table.

    Args:
        nodes: its own file and its TOAST table's.
        forced: whether row security holds for its owner, too.
        checks: the name and text of each check, and whether it does not come from a parent.
    """

    oid: int
    schema: str
    name: str
    nodes: tuple[int, int]
    partitioned: bool
    columns: tuple[Column, ...]
    owner: str
    forced: bool
    checks: tuple[tuple[str, str, bool], ...] = ()

    @property
    def sql(self) -> str:
        """Its name as SQL."""
        return f"{quote_identifier(self.schema)}.{quote_identifier(self.name)}"

    @property
    def shown(self) -> str:
        """Its name as a person types it."""
        return f"{self.schema}.{self.name}"


class Catalog(Value, frozen=True):
    """The tables of one database, by object id."""

    tables: dict[int, Table]


def read_catalog(connection: Any) -> Catalog:
    """Read it."""
    columns: dict[int, list[Column]] = {}
    for oid, *row in connection.execute(_COLUMNS):
        columns.setdefault(oid, []).append(Column(*row))
    checks: dict[int, list[tuple[str, str, bool]]] = {}
    for oid, *check in connection.execute(_CHECKS):
        checks.setdefault(oid, []).append((check[0], check[1], check[2]))
    tables = {
        oid: Table(
            oid,
            schema,
            name,
            (node, toast),
            kind == "p",
            tuple(columns.get(oid, ())),
            owner,
            forced,
            tuple(checks.get(oid, ())),
        )
        for oid, schema, name, node, toast, kind, owner, forced in connection.execute(_TABLES)
    }
    return Catalog(tables)


def add_column(table: Table, column: Column) -> str:
    """Return the statement that adds a column again, without NOT NULL: rows that are newer have no value for it."""
    words = [f"ALTER TABLE {table.sql} ADD COLUMN {quote_identifier(column.name)} {column.type}"]
    words += [f"COLLATE {column.collation}"] if column.collation else []
    if column.generated and column.default is not None:
        words.append(f"GENERATED ALWAYS AS ({column.default}) {'STORED' if column.generated == 's' else 'VIRTUAL'}")
    elif column.plain_default is not None:
        words.append(f"DEFAULT {column.plain_default}")
    return " ".join(words)


def finish_column(table: Table, column: Column) -> list[str]:
    """Return the statements that make a column what it was, once its rows have their values.

    An identity's sequence is an object of its own (`rescue_definitions`), and so is what NOT NULL it needs.
    """
    words = []
    if column.default is not None and column.plain_default is None and not column.generated:
        words.append(f"SET DEFAULT {column.default}")
    words += ["SET NOT NULL"] if column.not_null and not column.bound else []
    words += [f"SET STORAGE {column.storage}"] if column.storage else []
    words += [f"SET COMPRESSION {column.compression}"] if column.compression else []
    words += [f"SET STATISTICS {column.statistics}"] if column.statistics is not None else []
    words += [f"SET ({column.options})"] if column.options else []
    return [f"ALTER TABLE {table.sql} ALTER COLUMN {quote_identifier(column.name)} {each}" for each in words]


def find_shared_columns(before: Table, after: Table, live: Table) -> tuple[dict[str, str], list[tuple[Column, Column]]]:
    """Return the columns whose values can be compared, by what they are called live, and what they were called before.

    The damage left their name and type, or their old type has been restored since (see `find_back_again`); a column
    that was renamed since is the same one, by its number.
    And (then, now) of those whose type was changed since: values of the one may not fit the other.
    """
    was, then = ({column.number: column for column in table.columns} for table in (before, after))
    same = {number for number in was.keys() & then.keys() if _is_alike(was[number], then[number])}
    same |= find_back_again(before, after, live)
    present = {column.number for column in live.columns}
    by_name = {was[number].name: was[number] for number in same if number not in present}  # it was made again since
    shared: dict[str, str] = {}
    retyped = []
    for column in live.columns:
        old = was[column.number] if column.number in same else None
        if old is None and column.number not in was:
            old = by_name.get(column.name)
        if old is None or column.generated or old.generated:
            continue
        if old.type == column.type:
            shared[column.name] = old.name
        else:
            retyped.append((old, column))
    return shared, retyped


def find_back_again(before: Table, after: Table, live: Table) -> frozenset[int]:
    """Return the numbers of columns whose type the damage changed and that have had their old type restored since."""
    was, then, now = ({column.number: column for column in table.columns} for table in (before, after, live))
    return frozenset(
        number
        for number in was.keys() & then.keys() & now.keys()
        if was[number].type != then[number].type
        and _is_alike(was[number], now[number])
        and was[number].name == then[number].name
    )


def _is_alike(one: Column, other: Column) -> bool:
    return (one.name, one.type) == (other.name, other.type)
