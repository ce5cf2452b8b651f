"""The table in which a migration tool keeps its history: its identity, its owner, and its rows.

The table is the application's, so nothing of it is planned or evaluated: it is found in the catalog, must be an
ordinary table of a role that may have created it, and leaves the server by COPY, which reads stored rows and calls
nothing but the output functions of their types. A view, a foreign table, a rule are refused by COPY itself, should one
take the place of the table in between. What is computed from the rows is computed here.

Sources: Prisma's schema engine, table `_prisma_migrations` (2026-11): `finished_at` is null while a migration runs or
after it failed; `rolled_back_at` is set by `prisma migrate resolve --rolled-back`, and such a row counts no more.
Alembic documentation, "Tutorial": `alembic_version` holds the heads and nothing else. Django, `MigrationRecorder`:
`django_migrations` has a row for each migration of each application, its own applications included. drizzle-orm 0.45.4
and 1.0.0-rc.4, `migrate` of its Postgres dialect: `drizzle.__drizzle_migrations` has the SHA-256 of each file and, as
`created_at`, the milliseconds at which the file was generated, not applied. PostgreSQL 18,
COPY: "COPY TO can be used only with plain tables"; "System Information Functions" (pg_has_role, aclexplode).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.decoding import parse_moment
from backout.errors import ProviderUnavailable
from backout.model.database.migrations import make_stamp_key
from backout.model.database.schema import AppliedMigration
from backout.model.value import Value
from backout.providers.postgres.schema.quoting import quote_literal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backout.providers.postgres.server.pinned import Row

SESSION_SCHEMAS: Final = (
    "SELECT pg_catalog.set_config('backout.schemas', "
    "pg_catalog.array_to_string(pg_catalog.current_schemas(false), E'\\x01'), true)"
)
"""Keeps for the transaction which schemas the session looks into, before it looks into pg_catalog alone."""

_PLACE: Final = """
WITH found AS MATERIALIZED (
  SELECT t.tool, c.oid, c.relkind::text AS kind, c.relowner AS owner, c.relforcerowsecurity AS forced, n.nspname,
    n.oid AS schema, n.nspowner
  FROM (VALUES {tables}) AS t(name, tool, home)
  CROSS JOIN LATERAL unnest(CASE WHEN t.home IS NULL THEN {schemas} ELSE ARRAY[t.home] END)
    WITH ORDINALITY AS s(name, place)
  JOIN pg_namespace AS n ON n.nspname = s.name
  JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = t.name
  WHERE {usable}
  ORDER BY t.tool, s.place LIMIT 1
), judged AS MATERIALIZED (
  SELECT *, CASE WHEN kind <> 'r' THEN false
    WHEN pg_has_role(owner, nspowner, 'MEMBER') THEN true
    WHEN current_setting('is_superuser') = 'off' AND pg_has_role(owner, 'MEMBER') THEN true
    ELSE pg_has_role(owner, (SELECT datdba FROM pg_database WHERE datname = current_database()), 'MEMBER')
      OR EXISTS (SELECT FROM pg_namespace AS n, aclexplode(n.nspacl) AS a
        WHERE n.oid = schema AND a.privilege_type = 'CREATE' AND CASE a.grantee WHEN 0 THEN EXISTS (
          SELECT FROM pg_class AS o WHERE o.relnamespace = schema AND o.relowner = owner AND o.relkind = 'r'
          AND o.oid <> found.oid) ELSE pg_has_role(owner, a.grantee, 'MEMBER') END)
    END AS trusted
  FROM found
)
SELECT tool::text, nspname::text, kind, pg_get_userbyid(owner)::text, trusted::text, oid::text,
  CASE WHEN trusted
    THEN set_config('search_path', 'pg_catalog, ' || quote_ident(nspname) || ', pg_temp', true) END,
  CASE WHEN trusted AND NOT forced AND has_schema_privilege(owner, schema, 'USAGE') AND pg_has_role(owner,
      CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END)
    THEN set_config('role', pg_get_userbyid(owner)::text, true) END
FROM judged
"""
_SCHEMAS: Final = "string_to_array(current_setting('backout.schemas', true), E'\\x01')"
_KINDS: Final = {"v": "a view", "m": "a materialized view", "f": "a foreign table", "p": "a partitioned table"}
_MOST_LOGS: Final = 4000


class HistoryTable(Value, frozen=True):
    """The history table of one tool.

    Args:
        columns: what is read of a row; the first `needed` (None: all) tell whether it stands.
        applied: makes the migration out of these.
        order: sorts rows, oldest first.
        heads_only: a row is a head, not a migration that was applied.
        home: the schema in which the tool keeps it, "" for wherever the session looks.
        dated_by: the SQL of what names a row whose time the tool does not keep, "" where it does.
    """

    name: str
    columns: tuple[str, ...]
    applied: Callable[[Row], AppliedMigration]
    order: Callable[[Row], tuple[float | str, ...]]
    heads_only: bool = False
    needed: int | None = None
    home: str = ""
    dated_by: str = ""

    @property
    def copy(self) -> str:
        """The statement that reads it, once `write_place_query` was asked."""
        return f"COPY {self.name} ({', '.join(self.columns)}) TO STDOUT"

    @property
    def copy_needed(self) -> str:
        """The same, of the needed columns alone."""
        return f"COPY {self.name} ({', '.join(self.columns[: self.needed])}) TO STDOUT"


class Place(Value, frozen=True):
    """The place of a history, and its owner."""

    table: HistoryTable
    schema: str
    kind: str
    owner: str
    trusted: bool
    oid: int

    def check(self) -> None:
        """Raise ProviderUnavailable unless it may be taken for the history of migrations."""
        what = f"{self.schema}.{self.table.name}"
        if self.kind != "r":
            kind = _KINDS.get(self.kind, "no ordinary table")
            raise ProviderUnavailable(
                f"the migration history cannot be read: {what} is {kind}, which cannot be a history: its "
                "rows are computed",
                where="database",
                hint=f"look at it: psql -c '\\d+ {what}'",
            )
        if not self.trusted:
            raise ProviderUnavailable(
                f"the migration history cannot be read: {what} belongs to {self.owner}, who owns neither the database "
                "nor the schema, and was not granted CREATE in it",
                where="database",
                hint=f"if it is the history: GRANT CREATE ON SCHEMA {self.schema} TO {self.owner}",
            )


def write_place_query(tables: Sequence[HistoryTable], schema: str | None) -> str:
    """Return the question where the first of these histories lies.

    Asked in a transaction of ours that knows SESSION_SCHEMAS, it also lets the rest of the transaction find the table,
    and be its owner where that is more than nothing: so it comes right before the table's `copy`.
    """
    homes = ((table.name, f"{quote_literal(table.home)}" if table.home else "NULL::text") for table in tables)
    names = ", ".join(f"({quote_literal(name)}, {number}, {home})" for number, (name, home) in enumerate(homes))
    schemas = _SCHEMAS if schema is None else f"ARRAY[{quote_literal(schema)}]"
    # Looked for among others, one in a schema that is closed to the role is none; asked for, it is an error.
    usable = "has_schema_privilege(n.oid, 'USAGE')" if len(tables) > 1 else "true"
    return _PLACE.format(schemas=schemas, tables=names, usable=usable)


def parse_place(tables: Sequence[HistoryTable], row: Sequence[object]) -> Place:
    """Return what `write_place_query` found."""
    number, schema, kind, owner, trusted, oid = (str(value) for value in row[:6])
    return Place(tables[int(number)], schema, kind, owner, trusted == "true", int(oid))


def parse_applied(table: HistoryTable, rows: Sequence[Row]) -> tuple[AppliedMigration, ...]:
    """Return the migrations, oldest first. Raises ProviderUnavailable: a row is not in the tool's format."""
    try:
        return tuple(table.applied(row) for row in sorted(rows, key=table.order))
    except (ValueError, OverflowError, TypeError) as error:
        said = f"the migration history cannot be read: a row of {table.name} is not as its tool writes it: {error}"
        raise ProviderUnavailable(said[:300], where="database", hint="look at its rows") from None


def _parse_seconds(text: str | None) -> float | None:
    """Return a timestamp as Postgres writes it in ISO, in seconds; one without a zone is UTC."""
    return None if text is None else parse_moment(text, what="a time in the history of migrations", where="database")


def _parse_prisma(row: Row) -> AppliedMigration:
    name, started, finished, rolled_back, *more = row
    checksum, logs, steps = more or (None, None, None)
    return AppliedMigration(
        name or "",
        _parse_seconds(started) or 0.0,
        _parse_seconds(finished),
        _parse_seconds(rolled_back),
        checksum or "",
        (logs or "")[:_MOST_LOGS],
        None if steps is None else int(steps),
    )


def _parse_django(row: Row) -> AppliedMigration:
    _, app, name, applied = row
    at = _parse_seconds(applied)
    return AppliedMigration(f"{app}.{name}", at or 0.0, at)


def _parse_drizzle(row: Row) -> AppliedMigration:
    _, checksum, generated = row
    stamp = int(generated or 0)
    return AppliedMigration(make_stamp_key(stamp), 0.0, 0.0, checksum=checksum or "", dated=False, stamp=stamp)


def _parse_alembic(row: Row) -> AppliedMigration:
    return AppliedMigration(row[0] or "", 0.0, 0.0, dated=False)


PRISMA: Final = HistoryTable(
    "_prisma_migrations",
    ("migration_name", "started_at", "finished_at", "rolled_back_at", "checksum", "logs", "applied_steps_count"),
    _parse_prisma,
    lambda row: (_parse_seconds(row[1]) or 0.0, row[0] or ""),
    needed=4,
)
ALEMBIC: Final = HistoryTable(
    "alembic_version",
    ("version_num",),
    _parse_alembic,
    lambda row: (row[0] or "",),
    heads_only=True,
    dated_by="version_num",
)
DJANGO: Final = HistoryTable(
    "django_migrations", ("id", "app", "name", "applied"), _parse_django, lambda row: (float(row[0] or 0),)
)
DRIZZLE: Final = HistoryTable(
    "__drizzle_migrations",
    ("id", "hash", "created_at"),
    _parse_drizzle,
    lambda row: (float(row[0] or 0),),
    home="drizzle",
    dated_by="(created_at / 1000)::text",
)
HISTORIES: Final = (PRISMA, DJANGO, ALEMBIC, DRIZZLE)
HISTORY_TABLES: Final = frozenset(table.name for table in HISTORIES)
