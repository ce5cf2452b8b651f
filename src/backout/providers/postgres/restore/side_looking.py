"""Reads a copy of the database, and ends the prepared transaction that it must not keep."""

from __future__ import annotations

from typing import Any, Final

from backout.errors import BackoutError
from backout.model.database.recovery import DatabaseRead, SideLook
from backout.providers.postgres.backup.dump_contents import read_contents
from backout.providers.postgres.restore.live import find_head, find_oid, is_applied
from backout.providers.postgres.server.session import LETS_IN, open_working, reading

_LOOK_S: Final = 60.0


def roll_back_prepared(dsn: str, xid: int | None) -> None:
    """Roll the transaction back that the target is before, if it was prepared; others are their coordinators' own."""
    from psycopg import sql

    if xid is None:
        return
    with open_working(dsn) as connection:
        query = "SELECT gid, database FROM pg_prepared_xacts WHERE transaction::text = %s"
        found = connection.execute(query, (str(xid),)).fetchall()
    for gid, database in found:
        with open_working(dsn, dbname=database, settings={"default_transaction_read_only": "off"}) as connection:
            connection.execute(sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(gid)))


def read_all(dsn: str) -> tuple[DatabaseRead, ...]:
    """Read every row of every database; the server reads, nothing is sent.

    Raises:
        BackoutError: what cannot be read, in Postgres' words.
    """
    import psycopg

    found = []
    with reading(dsn, statement_timeout_s=_LOOK_S) as connection:
        databases = [str(row[0]) for row in connection.execute(LETS_IN).fetchall()]
    for name in databases:
        try:
            with reading(dsn, dbname=name, statement_timeout_s=0.0) as connection:
                tables = read_contents(connection, checksums=False)
        except psycopg.Error as error:
            raise BackoutError(f"database {name} cannot be read: {str(error).strip()}", where=name) from None
        found.append(DatabaseRead(name, len(tables), sum(table.rows for table in tables)))
    return tuple(found)


def look_at(connection: Any, relation: str, migration: str) -> SideLook:
    """Return what a copy of the database shows, in a transaction of `session.reading`."""
    applied = bool(migration) and is_applied(connection, migration)
    oid = _find_oid(connection, relation)
    there = not relation or bool(oid) or _has_column(connection, relation)
    return SideLook(there, oid, applied, find_head(connection))


def _find_oid(connection: Any, relation: str) -> int:
    """Return the object id of a table, 0 when there is none of that name."""
    if not relation or relation.count(".") > 1:  # that is a column
        return 0
    return find_oid(connection, relation) or 0


def _has_column(connection: Any, relation: str) -> bool:
    """Whether `relation` names a column of a table that is there."""
    table, _, column = relation.rpartition(".")
    oid = find_oid(connection, table) if table else None
    query = "SELECT 1 FROM pg_attribute WHERE attrelid = %s::oid AND attname = %s AND NOT attisdropped"
    return oid is not None and connection.execute(query, (oid, column)).fetchone() is not None
