"""Port BranchReader: reads a vendor's side branches, and finds what was committed between two of them.

A branch is a copy of the storage, so its rows carry the ids of the live database's transactions, and its commit log
shows for each whether it was committed by then. Nothing is written there. Source: PostgreSQL 18, "Transaction ID and
Snapshot Information Functions" (pg_xact_status, pg_current_snapshot), "Committed Transaction Information Functions".
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from backout.errors import Refused
from backout.model.database.rescue import Written
from backout.providers.postgres.restore.live import CATALOG_XIDS, COMMIT_TIME
from backout.providers.postgres.restore.side_looking import look_at
from backout.providers.postgres.server.session import reading
from backout.providers.postgres.tls.dsn import make_connection_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.model.database.recovery import SideLook

__all__ = ["CONNECT_S", "PostgresBranches"]
CONNECT_S: Final = 60
"""A branch's compute sleeps until it is asked."""
_UNFINISHED: Final = 100_000
"""How many ids before the first branch are checked too: their transactions were under way then."""
_MOST: Final = 2_000_000
_IDS: Final = 1 << 32
_COMMITTED: Final = f"""
SELECT id, at FROM (
  SELECT i AS id, ({COMMIT_TIME.format(xid="(i %% 4294967296)::text")}) AS at,
    pg_xact_status(i::text::xid8) = 'committed' AS committed
  FROM generate_series(%s::bigint, %s::bigint - 1) AS i
) AS ids WHERE committed
"""  # noqa: S608 - our own words


class PostgresBranches:
    """Side branches, each by its connection string."""

    def next_xid(self, url: str) -> int:
        """Return the first id that no transaction has got."""
        with _reading(url) as connection:
            row = connection.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint").fetchone()
            return int(row[0])

    def look(self, url: str, relation: str, migration: str) -> SideLook:
        """Return what it shows, read-only."""
        with _reading(url) as connection:
            return look_at(connection, relation, migration)

    def list_committed_between(self, before: tuple[str, int], after: tuple[str, int]) -> tuple[Written, ...]:
        """Return what is committed in the second and not in the first, in the order of the ids.

        Raises:
            Refused: too many transactions lie between them.
            ProviderUnavailable: one does not answer.
            AuthError: one refuses the role.
        """
        first, end = max(3, before[1] - _UNFINISHED), after[1]
        if end - before[1] > _MOST:
            raise Refused(
                f"{end - before[1]:,} transactions lie between the two branches: whose the damage is cannot be told",
                options=("Name the transaction, or look at a side branch and copy rows by hand.",),
            )
        with _reading(before[0]) as connection:
            there = dict(connection.execute(_COMMITTED, (first, before[1])).fetchall())
        with _reading(after[0]) as connection:
            found = connection.execute(_COMMITTED, (first, end)).fetchall()
            schema = {int(xid) for (xid,) in connection.execute(CATALOG_XIDS)}
        return tuple(
            Written(xid % _IDS, at, changes_schema=xid % _IDS in schema)
            for xid, at in found
            if xid not in there or there[xid] != at
        )


@contextmanager
def _reading(url: str) -> Iterator[Any]:
    import psycopg

    try:
        with reading(url, connect_timeout_s=CONNECT_S, statement_timeout_s=0.0, lock_timeout_s=10.0) as made:
            yield made
    except psycopg.Error as error:
        raise make_connection_error(error, url, "the side branch") from None  # its text may quote the connection string
