"""What a copy of the database shows, and the prepared transaction that it must not keep."""

from __future__ import annotations

from typing import Any

from backout.model.recovery import SideLook
from backout.providers.postgres.live import head_of, is_applied


def roll_back_prepared(dsn: str, xid: int | None) -> None:
    """Roll the transaction back that the target is before, if it was prepared; others are their coordinators' own."""
    import psycopg  # noqa: PLC0415 - costs 0.1 s
    from psycopg import sql  # noqa: PLC0415 - same

    if xid is None:
        return
    with psycopg.connect(dsn, autocommit=True) as connection:
        query = "SELECT gid, database FROM pg_prepared_xacts WHERE transaction::text = %s"
        found = connection.execute(query, (str(xid),)).fetchall()
    for gid, database in found:
        with psycopg.connect(dsn, dbname=database, autocommit=True) as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute(sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(gid)))


def look_at(connection: Any, relation: str, migration: str) -> SideLook:
    """Return what a copy of the database shows, read-only."""
    connection.execute("SET default_transaction_read_only = on; SET lock_timeout = '2s'")
    applied = bool(migration) and is_applied(connection, migration)
    oid = _oid(connection, relation)
    there = not relation or bool(oid) or _has_column(connection, relation)
    return SideLook(there, oid, applied, head_of(connection))


def _oid(connection: Any, relation: str) -> int:
    """Return the object id of a table, 0 when there is none of that name."""
    if not relation or relation.count(".") > 1:  # to_regclass takes no column
        return 0
    row = connection.execute("SELECT coalesce(to_regclass(%s)::oid, 0)::bigint", (relation,)).fetchone()
    return int(row[0])


def _has_column(connection: Any, relation: str) -> bool:
    """Whether `relation` names a column of a table that is there."""
    table, _, column = relation.rpartition(".")
    query = "SELECT 1 FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = %s AND NOT attisdropped"
    return bool(table) and connection.execute(query, (table, column)).fetchone() is not None
