"""What a rescue tells the second check of rows that others write while it runs: by key, and by the server's own count.

Without it, a row that differs may be anybody's where somebody wrote to the table at that time.

Source: PostgreSQL 18, "The Cumulative Statistics System" (pg_stat_xact_user_tables), "System Columns" (xmin).
"""

# ruff: noqa: S608 - statements are put together from names that the catalog itself gave, each quoted

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backout.providers.postgres.rescue_evidence import written_since
from backout.providers.postgres.rowsql import keyed, old

if TYPE_CHECKING:
    from backout.providers.postgres.rescue_scope import Session, Work


def somebodys(session: Session, work: Work) -> dict[str, int]:
    """Return the keys, in hexadecimal, of rows about to be updated that somebody wrote since the damage, and its id.

    They lie in `backout_todo`, and are locked.
    """
    there = f"JOIN ONLY {work.table.sql} l ON {keyed(work.key, 'o_')} WHERE {written_since(session)}"
    query = f"SELECT {_key(work)}, l.xmin::text::bigint FROM backout_todo t {there}"
    return {str(key): int(xid) for key, xid in session.live.execute(query).fetchall()}


def keys_of(session: Session, work: Work) -> list[str]:
    """Return the keys, in hexadecimal, of all rows in `backout_todo`."""
    query = f"SELECT {_key(work)} FROM backout_todo t"
    return [str(key) for (key,) in session.live.execute(query).fetchall()]


def deleted_so_far(live: Any) -> dict[int, int]:
    """Return how many rows of which tables the server counts as deleted in this session, as yet unreported."""
    query = "SELECT relid::bigint, n_tup_del FROM pg_stat_xact_user_tables WHERE n_tup_del > 0"
    return dict(live.execute(query).fetchall())


def _key(work: Work) -> str:
    key = ", ".join(f"t.{old(name)}" for name in work.key)
    return f"encode(convert_to(ROW({key})::text, 'UTF8'), 'hex')"
