"""Definitions before the damage, after it, and live; pg_dump is asked only where the catalogs differ at all."""

# ruff: noqa: S608 - the names are ours

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from backout.errors import BackoutError
from backout.model.database.rescue import LeftOut
from backout.model.value import Value
from backout.providers.postgres.backup.dump_toc import list_definitions

if TYPE_CHECKING:
    from backout.providers.postgres.schema.definition_changes import Definitions
    from backout.providers.postgres.server.binaries import Binaries

_OWN: Final = 16384
"""The first object id that is not Postgres's own."""
_WHOLE: Final = (
    "pg_attrdef", "pg_constraint", "pg_default_acl", "pg_enum", "pg_event_trigger", "pg_extension",
    "pg_foreign_data_wrapper", "pg_foreign_server", "pg_foreign_table", "pg_inherits", "pg_namespace",
    "pg_partitioned_table", "pg_policy", "pg_publication", "pg_publication_rel", "pg_publication_namespace", "pg_range",
    "pg_seclabel", "pg_sequence", "pg_statistic_ext", "pg_trigger",
)  # fmt: skip
_WITH_OIDS: Final = {
    **dict.fromkeys(("pg_cast", "pg_collation", "pg_opclass", "pg_operator", "pg_proc", "pg_rewrite"), "oid"),
    **dict.fromkeys(("pg_ts_config", "pg_ts_dict", "pg_type"), "oid"),
    "pg_aggregate": "aggfnoid::oid",
    "pg_description": "objoid",
}
"""Most of their rows are Postgres's own."""
_TEMPORARY: Final = "relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname ~ '^pg_(temp|toast)')"
_PARTS: Final = (
    *(f"SELECT '{name}', sum(hashtextextended(t::text, 0)) FROM {name} t" for name in _WHOLE),
    *(
        f"SELECT '{name}', sum(hashtextextended(t::text, 0)) FROM {name} t WHERE {column} >= {_OWN}"
        for name, column in _WITH_OIDS.items()
    ),
    (
        "SELECT 'pg_class', sum(hashtextextended(ROW(oid, relname, relnamespace, reltype, reloftype, relowner, relam, "
        "relpersistence, relkind, relnatts, relrowsecurity, relforcerowsecurity, relreplident, relispartition, relacl, "
        f"reloptions, relpartbound)::text, 0)) FROM pg_class WHERE NOT {_TEMPORARY}"
    ),
    (
        "SELECT 'pg_attribute', sum(hashtextextended(ROW(attrelid, attname, atttypid, attnum, atttypmod, attnotnull, "
        "attidentity, attgenerated, attisdropped, attislocal, attinhcount, attcollation, attstorage, attcompression, "
        "attstattarget, attacl, attoptions)::text, 0)) FROM pg_attribute "
        f"WHERE attrelid >= {_OWN} AND attrelid NOT IN (SELECT oid FROM pg_class WHERE {_TEMPORARY})"
    ),
    (
        "SELECT 'pg_index', sum(hashtextextended(ROW(indexrelid, indrelid, indisunique, indisprimary, indimmediate, "
        "indisclustered, indisvalid, indisreplident, indkey, indclass, indexprs, indpred)::text, 0)) FROM pg_index "
        f"WHERE indexrelid >= {_OWN} AND indrelid NOT IN (SELECT oid FROM pg_class WHERE {_TEMPORARY})"
    ),
)
_UNREADABLE: Final = """
SELECT n.nspname::text, c.relname::text,
  format('"%s"."%s"', replace(n.nspname, '"', '""'), replace(c.relname, '"', '""'))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
AND NOT (has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE'))
"""


class Reading(Value, frozen=True):
    """The definitions that were read.

    Args:
        before, after, live: from pg_dump, empty where nothing differs.
        damaged: whether the damage changed any.
        left_out: what could not be read.
    """

    before: Definitions
    after: Definitions
    live: Definitions
    damaged: bool
    left_out: tuple[LeftOut, ...] = ()


class DefinitionReader(Value, frozen=True):
    """Reads the definitions.

    Args:
        dsns: those before the damage, after it, and live.
        connections: sessions with the same.
    """

    dsns: tuple[str, str, str]
    connections: tuple[Any, Any, Any]
    database: str
    binaries: Binaries

    def read(self) -> Reading:
        """Return them."""
        with ThreadPoolExecutor(len(self.connections)) as beside:
            before, after, live = beside.map(compute_fingerprint, self.connections)
        if before == after == live:
            return Reading({}, {}, {}, damaged=False)
        damaged = before != after
        dsns = self.dsns if damaged else (self.dsns[0], self.dsns[2])
        names, patterns = _list_unreadable(self.connections[2])
        try:
            with ThreadPoolExecutor(2) as beside:
                found = list(beside.map(lambda dsn: self._of(dsn, patterns), dsns))
        except BackoutError as error:
            return Reading({}, {}, {}, damaged, (LeftOut("definitions", error.what, seen=damaged),))
        apart = [_drop_tables(each, names) for each in found]
        left_out = tuple(
            LeftOut(f"table {schema}.{name}", "its definition may not be read", seen=False) for schema, name in names
        )
        return Reading(apart[0], apart[1] if damaged else apart[0], apart[-1], damaged, left_out if damaged else ())

    def live(self) -> Definitions:
        """Return what is live now. Raises BackoutError as `list_definitions`."""
        return read_live_definitions(self.dsns[2], self.connections[2], self.database, self.binaries)

    def _of(self, dsn: str, without: list[str]) -> Definitions:
        is_live = dsn == self.dsns[2]
        return list_definitions(
            dsn,
            self.database,
            self.binaries,
            without=without if is_live else (),
            lock_timeout_s=2.0 if is_live else 10.0,
        )


def read_live_definitions(dsn: str, connection: Any, database: str, binaries: Binaries) -> Definitions:
    """Return what the role may read of the live definitions. Raises BackoutError as `list_definitions`."""
    names, patterns = _list_unreadable(connection)
    return _drop_tables(list_definitions(dsn, database, binaries, without=patterns, lock_timeout_s=2.0), names)


def _list_unreadable(connection: Any) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the tables that may not be read, by schema and name, and as pg_dump is told to leave them out."""
    found = connection.execute(_UNREADABLE).fetchall()
    return [(schema, name) for schema, name, _ in found], [pattern for *_, pattern in found]


def compute_fingerprint(connection: Any) -> str:
    """Return what is the same in two copies of a cluster exactly when no definition differs."""
    there = {name for (name,) in connection.execute("SELECT relname FROM pg_class WHERE relnamespace = 11")}
    parts = " UNION ALL ".join(part for part in _PARTS if part.split("'")[1] in there)
    (found,) = connection.execute(f"SELECT string_agg(p::text, ',' ORDER BY p::text) FROM ({parts}) AS p").fetchone()
    return str(found)


def _drop_tables(definitions: Definitions, names: list[tuple[str, str]]) -> Definitions:
    """Return what does not belong to these tables."""
    if not names:
        return definitions

    def belongs(schema: str, name: str) -> bool:
        return any(
            schema == theirs and (name == table or name.startswith((f"{table} ", f"TABLE {table}", f"COLUMN {table}.")))
            for theirs, table in names
        )

    return {key: each for key, each in definitions.items() if not belongs(each.schema, each.name)}
