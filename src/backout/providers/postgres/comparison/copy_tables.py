"""The tables and catalogs by which a cluster's copy is compared, and how each is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self

from msgspec.structs import replace

from backout.model.value import Value
from backout.providers.postgres.schema.quoting import quote_identifier

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backout.model.plan import Json

TABLES: Final = """
SELECT c.oid::bigint, n.nspname::text, c.relname::text, coalesce(pg_relation_filenode(c.oid), 0)::bigint,
  pg_table_size(c.oid), array_agg(a.attname::text ORDER BY a.attnum), array_agg(a.atttypid::bigint ORDER BY a.attnum),
  coalesce((SELECT array_agg(b.attname::text ORDER BY b.attnum) FROM pg_index i JOIN pg_attribute b
    ON b.attrelid = c.oid AND b.attnum = ANY(i.indkey) WHERE i.indrelid = c.oid AND i.indisprimary), '{}'),
  CASE WHEN c.relkind = 'm' THEN 'a materialized view, whose rows are its query''s'
    WHEN c.relpersistence = 'u' THEN 'unlogged: no WAL holds its rows' ELSE '' END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> 'v'
WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
GROUP BY c.oid, n.nspname, c.relname
"""
SEQUENCES: Final = """
SELECT c.oid::bigint, format('%I.%I', n.nspname, c.relname), s.seqincrement, s.seqcycle, pg_sequence_last_value(c.oid),
  coalesce(pg_relation_filenode(c.oid), 0)::bigint
FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relpersistence = 'p'
"""
NEW_ENTRY: Final = "SELECT age(xmin) <= age('{xid}'::xid) FROM pg_class WHERE oid = %s::oid"
"""Whether the catalog's entry for a relation was changed since."""


class Part(Value, frozen=True):
    """A table and how to read it; the arguments are the columns of `TABLES`.

    Args:
        node: its file's number.
        types: of the columns, by object id.
        pages: None where all of it is read.
    """

    oid: int
    schema: str
    name: str
    node: int
    size_bytes: int
    columns: Sequence[str]
    types: Sequence[int]
    key: Sequence[str]
    reason: str = ""
    pages: Sequence[Sequence[int]] | None = None
    catalog: bool = False

    @property
    def sql(self) -> str:
        """Its name as SQL."""
        return f"{quote_identifier(self.schema)}.{quote_identifier(self.name)}"

    @property
    def shown(self) -> str:
        """Its name as a person types it."""
        return f"catalog {self.name}" if self.catalog else f"{self.schema}.{self.name}"

    def select_pages(self, pages: Sequence[Sequence[int]]) -> Self:
        """Return it with only these pages read."""
        return replace(self, pages=pages)

    def ranges(self) -> list[str]:
        """Return the conditions on `t` of the pages that are read, one a query."""
        if self.pages is None:
            return ["true"]
        return [f"t.ctid >= '({begin},0)' AND t.ctid < '({end},0)'" for begin, end in self.pages]

    def record(self) -> dict[str, Json]:
        """Return it as a note keeps it."""
        return {
            "oid": self.oid,
            "schema": self.schema,
            "name": self.name,
            "node": self.node,
            "columns": [*self.columns],
            "types": [*self.types],
            "key": [*self.key],
            "pages": None if self.pages is None else [[*each] for each in self.pages],
            "catalog": self.catalog,
        }

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Self:
        """Return it from a note."""
        names = ("oid", "schema", "name", "node", "columns", "types", "key", "pages", "catalog")
        return cls(size_bytes=0, **{name: told[name] for name in names})


class Catalog(Value, frozen=True):
    """One of Postgres' own tables, by the columns that only definitions change, never maintenance."""

    oid: int
    name: str
    columns: str
    shared: bool = False

    def part(self, size_bytes: int) -> Part:
        """Return how it is read."""
        columns = self.columns.split()
        return Part(self.oid, "pg_catalog", self.name, 0, size_bytes, columns, [], columns[:1], catalog=True)


CATALOGS: Final = (
    Catalog(2615, "pg_namespace", "nspname nspowner nspacl"),
    Catalog(
        1259,
        "pg_class",
        "relname oid relnamespace reltype relowner relkind relpersistence relispartition relreplident relrowsecurity "
        "relforcerowsecurity relnatts reloptions relacl",
    ),
    Catalog(
        1249,
        "pg_attribute",
        "attname attrelid atttypid attnum attnotnull atthasdef attidentity attgenerated attisdropped attcollation "
        "attacl attoptions",
    ),
    Catalog(2604, "pg_attrdef", "oid adrelid adnum adbin"),
    Catalog(
        2606,
        "pg_constraint",
        "conname connamespace contype conrelid contypid conkey confrelid confkey convalidated condeferrable conbin",
    ),
    Catalog(2610, "pg_index", "indexrelid indrelid indisunique indisprimary indisvalid indisready indkey indpred"),
    Catalog(
        1255,
        "pg_proc",
        "proname oid pronamespace proowner prosrc proargtypes prorettype prosecdef proconfig proacl",
    ),
    Catalog(1247, "pg_type", "typname oid typnamespace typowner typtype typbasetype typnotnull"),
    Catalog(3501, "pg_enum", "enumlabel enumtypid enumsortorder"),
    Catalog(2620, "pg_trigger", "tgname tgrelid tgfoid tgtype tgenabled"),
    Catalog(2618, "pg_rewrite", "rulename ev_class ev_type ev_enabled ev_action"),
    Catalog(3256, "pg_policy", "polname polrelid polcmd polpermissive polroles polqual polwithcheck"),
    Catalog(2611, "pg_inherits", "inhrelid inhparent inhseqno"),
    Catalog(3079, "pg_extension", "extname extowner extversion"),
    Catalog(2613, "pg_largeobject", "loid pageno data"),
    Catalog(2995, "pg_largeobject_metadata", "oid lomowner lomacl"),
    Catalog(
        1260,
        "pg_authid",
        "rolname rolsuper rolcreaterole rolcreatedb rolcanlogin rolreplication rolbypassrls",
        shared=True,
    ),
    Catalog(1261, "pg_auth_members", "roleid member admin_option", shared=True),
    Catalog(1262, "pg_database", "datname datdba encoding datistemplate datallowconn datacl", shared=True),
    Catalog(2964, "pg_db_role_setting", "setdatabase setrole setconfig", shared=True),
)


def write_row_text(names: Sequence[str]) -> str:
    """Return a row of `t` as Postgres itself prints it: by the types' own output functions, and never by a cast."""
    return f"ROW({', '.join(f't.{quote_identifier(name)}' for name in names)})::text"
