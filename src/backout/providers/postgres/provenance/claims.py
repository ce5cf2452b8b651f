"""Notes for the second check on rows that others write during a rescue: by key, and by the server's own count.

Without it, where others wrote to the table at that time, the origin of a row that differs is unknown.

Source: PostgreSQL 18, "The Cumulative Statistics System" (pg_stat_xact_user_tables), "System Columns" (xmin).
"""

# ruff: noqa: S608 - statements are put together from names that the catalog itself gave, each quoted

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backout.providers.postgres.provenance.evidence import format_array, write_written_since
from backout.providers.postgres.provenance.packing import pack_numbers
from backout.providers.postgres.schema.quoting import quote_identifier
from backout.providers.postgres.schema.rowsql import build_key_condition, name_old

if TYPE_CHECKING:
    from collections.abc import Collection

    from backout.providers.postgres.rescue.scope import Session, Work
    from backout.providers.postgres.schema.definitions import Table


def list_claimed(session: Session, work: Work) -> dict[str, int]:
    """Return the keys, in hexadecimal, of rows about to be updated that others wrote since the damage, and the ids.

    They lie in `backout_todo`, and are locked.
    """
    there = (
        f"JOIN ONLY {work.table.sql} l ON {build_key_condition(work.key, 'o_')} WHERE {write_written_since(session)}"
    )
    query = f"SELECT {_write_key(work)}, l.xmin::text::bigint FROM backout_todo t {there}"
    return {str(key): int(xid) for key, xid in session.live.execute(query).fetchall()}


def list_keys(session: Session, work: Work) -> list[str]:
    """Return the keys, in hexadecimal, of all rows in `backout_todo`."""
    query = f"SELECT {_write_key(work)} FROM backout_todo t"
    return [str(key) for (key,) in session.live.execute(query).fetchall()]


def put_back(live: Any, work: Work, ids: Collection[int], rows: str = "backout_todo t", prefix: str = "n_") -> str:
    """Return hashes of the keys of rows that were just inserted, as the table itself shows them, packed.

    Asked in the transaction that inserted them: what is missing later was removed by others.

    Args:
        ids: under which they were inserted.
        rows: the temporary table that holds what was to be.
    """
    key = ", ".join(f"l.{quote_identifier(name)}" for name in work.key)
    query = (
        f"SELECT hashtextextended(ROW({key})::text, 1) FROM {rows} JOIN ONLY {work.table.sql} l "
        f"ON {build_key_condition(work.key, prefix)} WHERE l.xmin = ANY('{format_array(ids)}'::xid[])"
    )
    return pack_numbers(number for (number,) in live.execute(query).fetchall())


def count_rows_made(live: Any, table: Table) -> dict[str, Any]:
    """Return how many rows a table holds that was just made again, and a sum of their hashes, by which columns."""
    columns = [column.name for column in table.columns if not column.generated]
    row = ", ".join(f"l.{quote_identifier(name)}" for name in columns)
    query = f"SELECT count(*), coalesce(sum(hashtextextended(ROW({row})::text, 1)), 0)::text FROM ONLY {table.sql} l"
    rows, added = live.execute(query).fetchone()
    return {"rows": rows, "sum": added, "columns": columns}


def count_deleted_so_far(live: Any) -> dict[int, int]:
    """Return how many rows of which tables the server counts as deleted in this session, as yet unreported."""
    query = "SELECT relid::bigint, n_tup_del FROM pg_stat_xact_user_tables WHERE n_tup_del > 0"
    return dict(live.execute(query).fetchall())


def _write_key(work: Work) -> str:
    key = ", ".join(f"t.{name_old(name)}" for name in work.key)
    return f"encode(convert_to(ROW({key})::text, 'UTF8'), 'hex')"
