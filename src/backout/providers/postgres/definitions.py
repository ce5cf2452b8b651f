"""What a transaction took out of the catalog, seen from the databases just before and just after it, as SQL.

The two are copies of one cluster, so object ids are the same in both, and in the live database: an object that is in
the first and not in the second was dropped. Source: PostgreSQL 18, "System Catalogs", "System Catalog Information
Functions".
"""

# ruff: noqa: S608 - statements are put together from names that the catalog itself gave, each quoted

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from backout.providers.postgres.libpq import identifier

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
  array_to_string(a.attoptions, ', ')
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped AND {_USER} ORDER BY 1, 2
"""
_OTHERS: Final = f"""
SELECT x.oid::bigint, x.conrelid::bigint, 'constraint', x.conname, pg_get_constraintdef(x.oid),
  CASE x.contype WHEN 'f' THEN 3 WHEN 'c' THEN 2 ELSE 1 END, pg_get_userbyid(c.relowner)::text
FROM pg_constraint x JOIN pg_class c ON c.oid = x.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE x.contype IN ('p', 'u', 'x', 'f', 'c') AND x.conislocal AND {_USER}
UNION ALL
SELECT i.indexrelid::bigint, i.indrelid::bigint, 'index', c.relname, pg_get_indexdef(i.indexrelid), 2,
  pg_get_userbyid(c.relowner)::text
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE {_USER} AND i.indexrelid NOT IN (SELECT conindid FROM pg_constraint WHERE contype IN ('p', 'u', 'x'))
UNION ALL
SELECT c.oid::bigint, 0, 'view', format('%I.%I', n.nspname, c.relname),
  format('CREATE %s %I.%I AS %s', CASE c.relkind WHEN 'v' THEN 'VIEW' ELSE 'MATERIALIZED VIEW' END, n.nspname,
    c.relname, pg_get_viewdef(c.oid)), 4, pg_get_userbyid(c.relowner)::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('v', 'm') AND {_USER}
UNION ALL
SELECT t.oid::bigint, t.tgrelid::bigint, 'trigger', t.tgname, pg_get_triggerdef(t.oid), 5,
  pg_get_userbyid(c.relowner)::text
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT t.tgisinternal AND {_USER}
"""


@dataclass(frozen=True, slots=True)
class Column:
    """A column as it is defined.

    Args:
        generated: "" | s (stored) | v (virtual): it cannot be written. identity: "" | a (always) | d (by default).
        default: an expression or None; `constant` when every row has the same. local: it does not come from a parent.
        collation, storage, compression, statistics, options: None or "" where they are the type's own, or the server's.
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

    @property
    def plain_default(self) -> str | None:
        """The default when every row has the same: a constant."""
        return self.default if self.constant and not self.generated else None


@dataclass(frozen=True, slots=True)
class Table:
    """A table; `nodes` are its own file and its TOAST table's, `forced` whether row security holds for its owner."""

    oid: int
    schema: str
    name: str
    nodes: tuple[int, int]
    partitioned: bool
    columns: tuple[Column, ...]
    owner: str
    forced: bool

    @property
    def sql(self) -> str:
        """Its name as SQL."""
        return f"{identifier(self.schema)}.{identifier(self.name)}"

    @property
    def shown(self) -> str:
        """Its name as a person types it."""
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class Other:
    """A constraint, index, view or trigger; `table` is 0 for a view, `owner` the table's owner or the view's."""

    oid: int
    table: int
    kind: str
    name: str
    definition: str
    order: int
    owner: str


@dataclass(frozen=True, slots=True)
class Catalog:
    """What is defined in one database."""

    tables: dict[int, Table]
    others: dict[int, Other]


def catalog(connection: Any) -> Catalog:
    """Read it."""
    columns: dict[int, list[Column]] = {}
    for oid, *row in connection.execute(_COLUMNS):
        columns.setdefault(oid, []).append(Column(*row))
    tables = {
        oid: Table(oid, schema, name, (node, toast), kind == "p", tuple(columns.get(oid, ())), owner, forced)
        for oid, schema, name, node, toast, kind, owner, forced in connection.execute(_TABLES)
    }
    others = {row[0]: Other(*row) for row in connection.execute(_OTHERS)}
    return Catalog(tables, others)


def add_column(table: Table, column: Column) -> str:
    """Return the statement that adds a column again, without NOT NULL: rows that are newer have no value for it."""
    words = [f"ALTER TABLE {table.sql} ADD COLUMN {identifier(column.name)} {column.type}"]
    words += [f"COLLATE {column.collation}"] if column.collation else []
    if column.generated and column.default is not None:
        words.append(f"GENERATED ALWAYS AS ({column.default}) {'STORED' if column.generated == 's' else 'VIRTUAL'}")
    elif column.plain_default is not None:
        words.append(f"DEFAULT {column.plain_default}")
    return " ".join(words)


def finish_column(table: Table, column: Column) -> list[str]:
    """Return the statements that make a column what it was, once its rows have their values.

    An identity's sequence is an object of its own (`definition_entries`), and so is what NOT NULL it needs.
    """
    words = []
    if column.default is not None and column.plain_default is None and not column.generated:
        words.append(f"SET DEFAULT {column.default}")
    words += ["SET NOT NULL"] if column.not_null else []
    words += [f"SET STORAGE {column.storage}"] if column.storage else []
    words += [f"SET COMPRESSION {column.compression}"] if column.compression else []
    words += [f"SET STATISTICS {column.statistics}"] if column.statistics is not None else []
    words += [f"SET ({column.options})"] if column.options else []
    return [f"ALTER TABLE {table.sql} ALTER COLUMN {identifier(column.name)} {each}" for each in words]


def create(other: Other, table: Table | None) -> str:
    """Return the statement that makes it again."""
    if other.kind == "constraint" and table is not None:
        return f"ALTER TABLE {table.sql} ADD CONSTRAINT {identifier(other.name)} {other.definition}"
    return other.definition


def drop(other: Other, table: Table | None) -> str:
    """Return the statement that takes it away again."""
    if table is None:
        kind = "MATERIALIZED VIEW" if other.definition.startswith("CREATE MATERIALIZED") else "VIEW"
        return f"DROP {kind} IF EXISTS {other.name}"
    if other.kind == "constraint":
        return f"ALTER TABLE {table.sql} DROP CONSTRAINT IF EXISTS {identifier(other.name)}"
    if other.kind == "trigger":
        return f"DROP TRIGGER IF EXISTS {identifier(other.name)} ON {table.sql}"
    return f"DROP INDEX IF EXISTS {identifier(table.schema)}.{identifier(other.name)}"
