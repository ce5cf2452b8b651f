"""The content of a whole cluster at one moment, as sums of hashes by part of each table; and rereading those parts.

A physical copy keeps, with every row, the id of the transaction that wrote it. So of a server that goes on from a copy
the rows that are older than the copy's last transaction are compared, and what others wrote since is left out. A row's
part of its table depends on the hash of the whole row: a changed row leaves its part and appears in another one, where
no row can have been added under an old id.

Source: PostgreSQL 18, "System Columns", "Transaction ID Wraparound" (raw xmin outlives freezing), "The Cumulative
Statistics System", "Timelines" (history files).
"""

# ruff: noqa: S608 - statements are put together from names that the catalog itself gave, each quoted

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from backout.model.value import Value
from backout.providers.postgres.comparison.copy_tables import CATALOGS, SEQUENCES, TABLES, Part, write_row_text
from backout.providers.postgres.server.message import get_message
from backout.providers.postgres.server.plain import POWER, make_lock_statement, write_foreign_code
from backout.providers.postgres.server.session import LETS_IN, open_working

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import psycopg

    from backout.model.plan import Json

PARTS: Final = 4096
_PAGE: Final = 8192
_CONNECT_S: Final = 5.0
_WHERE: Final = """
SELECT (SELECT system_identifier FROM pg_control_system())::text,
  ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int,
  (pg_snapshot_xmin(pg_current_snapshot())::text::bigint & 4294967295)::bigint
"""
_HISTORY: Final = (
    "SELECT pg_read_file('pg_wal/' || upper(lpad(to_hex(%s::int), 8, '0')) || '.history', 0, 100000, true)"
)
_UNDER_WAY: Final = """
SELECT number & 4294967295 FROM (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS first) AS at,
  generate_series(greatest(3, first - 20000), first - 1) AS number
WHERE first & 4294967295 = %(xid)s AND pg_xact_status(number::text::xid8) IN ('aborted', 'in progress')
"""
"""What was under way at a copy's target is rolled back there, and may have committed on the server it was made of."""
_COUNTED: Final = """
SELECT current_setting('track_counts') = 'on', (SELECT xact_commit FROM pg_stat_database
  WHERE datname = current_database())
"""
_ABOUT: Final = "SELECT greatest(0, reltuples)::bigint FROM pg_class WHERE oid = %s::oid"
_REMOVED: Final = "SELECT n_tup_upd + n_tup_del FROM pg_stat_all_tables WHERE relid = %s::oid"
_ADDED: Final = "SELECT n_tup_ins + n_tup_upd FROM pg_stat_all_tables WHERE relid = %s::oid"
_ADMITTED: Final = "SELECT has_database_privilege(%s::name, 'CONNECT')"
_SIZES: Final = "SELECT oid::bigint, pg_table_size(oid) FROM pg_class WHERE oid = ANY(%s::oid[])"
_DENIED: Final = "42501"
_DAMAGED: Final = ("58", "XX")
"""SQLSTATE classes for a file that cannot be read, and for one with invalid content."""


class Limits(Value, frozen=True):
    """How much of a cluster is read, smallest tables first.

    Args:
        whole_bytes: a table up to this size is read whole, of a larger one `stripes` with this many pages each.
        all_bytes: of all tables together.
    """

    whole_bytes: int = 64 << 20
    all_bytes: int = 1 << 30
    stripes: int = 32
    stripe_pages: int = 128

    def stripes_of(self, size_bytes: int) -> list[list[int]]:
        """Return the pages of a large table that are read: [first, behind the last], evenly spread.

        >>> Limits().stripes_of(128 << 20)[:2], len(Limits().stripes_of(128 << 20))
        ([[0, 128], [524, 652]], 32)
        """
        gap = (size_bytes // _PAGE - self.stripe_pages) / (self.stripes - 1)
        return [[begin := round(number * gap), begin + self.stripe_pages] for number in range(self.stripes)]

    def read_of(self, size_bytes: int) -> int:
        """Return how many bytes of a table of that size are read."""
        return size_bytes if size_bytes <= self.whole_bytes else self.stripes * self.stripe_pages * _PAGE


class Bound(Value, frozen=True):
    """Which rows count: older than `xid`, and not of the transactions that were under way then (32 bits each)."""

    xid: int
    running: tuple[int, ...]

    def holds(self) -> str:
        """Return the condition on a row of `t`."""
        older = f"age(t.xmin) > age('{self.xid}'::xid)"
        if not self.running:
            return older
        return f"({older} AND t.xmin <> ALL('{{{','.join(map(str, self.running))}}}'::xid[]))"


@contextmanager
def session_with(url: str, database: str = "") -> Iterator[psycopg.Connection[Any]]:
    """Yield a session that only reads. Raises psycopg.Error; its text may quote the connection string."""
    more: dict[str, Any] = {"dbname": database} if database else {}
    settings = {"default_transaction_read_only": "on"}
    with open_working(url, connect_timeout_s=_CONNECT_S, lock_timeout_s=2.0, settings=settings, **more) as connection:
        yield connection


def list_databases(connection: Any) -> list[str]:
    """Return the names of the databases that sessions are let into."""
    return [str(name) for (name,) in connection.execute(LETS_IN)]


def admits(connection: Any, database: str) -> bool:
    """Whether the session's role may connect to a database."""
    (may,) = connection.execute(_ADMITTED, (database,)).fetchone()
    return bool(may)


def read_standing(connection: Any) -> dict[str, Json]:
    """Return who a server is: system identifier, timeline, that timeline's history, and the bound of old rows."""
    import psycopg

    identifier_, timeline, xid = connection.execute(_WHERE).fetchone()
    try:
        (history,) = connection.execute(_HISTORY, (timeline,)).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        history = None
    running: list[Json] = [int(number) for (number,) in connection.execute(_UNDER_WAY, {"xid": xid})]
    return {
        "system_identifier": identifier_,
        "timeline": timeline,
        "history": history,
        "xid": xid,
        "running": running,
    }


class ClusterReader:
    """Reads the parts of one database after another.

    Args:
        progress: hears (what is done, tables so far, tables in all).
    """

    def __init__(self, bound: Bound, progress: Callable[[str, int, int], None], limits: Limits) -> None:
        self._bound = bound
        self._progress = progress
        self._limits = limits

    def note(self, connection: Any, room: int, *, shared: bool) -> tuple[dict[str, Json], int]:
        """Return what the session's database holds, and how many bytes may still be read.

        Args:
            shared: whether what all databases share is read, too.
        """
        counts, commits = connection.execute(_COUNTED).fetchone()
        parts = self._parts(connection, shared=shared)
        found: dict[str, Json] = {}
        for number, part in enumerate(parts):
            self._progress("hashing rows", number, len(parts))
            room -= self._limits.read_of(part.size_bytes)
            if part.size_bytes > self._limits.whole_bytes:
                part = part.select_pages(self._limits.stripes_of(part.size_bytes))  # noqa: PLW2901 the same, read otherwise
            told = {**part.record(), **self._sums(connection, part, reads=room >= 0)}
            if part.pages is not None:
                (told["about"],) = connection.execute(_ABOUT, (part.oid,)).fetchone() or (0,)
            found[part.shown] = told
        sequences: dict[str, Json] = {
            str(oid): [name, step, cycles, last, node]
            for oid, name, step, cycles, last, node in connection.execute(SEQUENCES)
        }
        return {"counts": counts, "commits": commits, "tables": found, "sequences": sequences}, room

    def read(self, connection: Any, part: Part) -> dict[str, Json]:
        """Return the sums of one table, as `note` does."""
        return self._sums(connection, part, reads=True)

    def examples(self, connection: Any, part: Part, which: tuple[Sequence[int], Sequence[int]], most: int) -> list[str]:
        """Return keys of old rows of a table; `which`: with these hashes, or in these parts."""
        key = write_row_text(part.key or part.columns[:1])
        hashes, numbers = (f"ANY('{{{','.join(map(str, each))}}}'::int8[])" for each in which)
        told = f"({self._hash(part)} = {hashes} OR ({self._hash(part)} & {PARTS - 1}) = {numbers})"
        found: list[str] = []
        for where in part.ranges():
            query = f"SELECT {key} FROM ONLY {part.sql} AS t WHERE {where} AND {self._bound.holds()} AND {told}"
            found += [str(text)[1:-1] for (text,) in connection.execute(f"{query} ORDER BY 1 LIMIT {most}")]
        return found[:most]

    # --- one table ----------------------------------------------------------------------------------------------

    def _parts(self, connection: Any, *, shared: bool) -> list[Part]:
        made = [Part(*row) for row in connection.execute(TABLES)]
        catalogs = [each for each in CATALOGS if shared or not each.shared]
        sizes = dict(connection.execute(_SIZES, ([each.oid for each in catalogs],)).fetchall())
        ours = (each.part(sizes.get(each.oid, 0)) for each in catalogs)
        return [*ours, *sorted(made, key=lambda each: (each.size_bytes, each.shown))]

    def _sums(self, connection: Any, part: Part, *, reads: bool) -> dict[str, Json]:
        """Return {reason} or {removed, newer, sums {part: [rows, sum]}}; `damaged` where the server cannot read it."""
        import psycopg

        why = part.reason or ("" if reads else "for the time that it would take")
        if why:
            return {"reason": why}
        try:
            with connection.transaction():
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                if why := self._strange(connection, part):
                    return {"reason": why}
                (removed,) = connection.execute(_REMOVED, (part.oid,)).fetchone() or (0,)
                sums: dict[int, list[int]] = {}
                for where in part.ranges():
                    for number, rows, total in connection.execute(self._query(part, where)):
                        known = sums.setdefault(number, [0, 0])
                        known[0], known[1] = known[0] + rows, known[1] + int(total or 0)
        except psycopg.Error as error:
            damaged = (error.sqlstate or "")[:2] in _DAMAGED
            denied = error.sqlstate == _DENIED
            failed = not (part.catalog and denied)
            return {"reason": get_message(error), "failed": failed, "damaged": damaged, "denied": denied}
        newer = sums.pop(-1, [0, 0])[0]
        shown: dict[str, Json] = {str(number): [rows, str(total)] for number, (rows, total) in sorted(sums.items())}
        return {"removed": int(removed or 0), "newer": newer, "sums": shown}

    def _strange(self, connection: Any, part: Part) -> str:
        """Return why a table is not asked about by a session that may more than its owner; "" when it is."""
        if part.catalog:
            return ""
        (power,) = connection.execute(f"SELECT {POWER}").fetchone()
        if not power:
            return ""
        connection.execute(make_lock_statement(part.sql))  # no code can be attached to it meanwhile
        (why,) = connection.execute(write_foreign_code(f"{part.oid}::oid", every_type=False)).fetchone() or (None,)
        return "" if why is None else f"a superuser does not run {why}, which belongs to another role"

    def _query(self, part: Part, where: str) -> str:
        old = self._bound.holds()
        return (
            f"SELECT CASE WHEN hash IS NULL THEN -1 ELSE hash & {PARTS - 1} END, count(*), sum(hash)::text FROM "
            f"(SELECT CASE WHEN {old} THEN {self._hash(part)} END AS hash FROM ONLY {part.sql} AS t "
            f"WHERE {where}) AS rows GROUP BY 1"
        )

    def _hash(self, part: Part) -> str:
        return f"hashtextextended({write_row_text(part.columns)}, 7)"


def count_removed_since(connection: Any, oid: int) -> int:
    """Return how many rows of a table were updated or deleted by the server's own statistics; 0 of one it forgot."""
    (removed,) = connection.execute(_REMOVED, (oid,)).fetchone() or (0,)
    return int(removed or 0)


def count_added_since(connection: Any, oid: int) -> int:
    """Return how many row versions a table got by the server's own statistics; 0 of one it forgot."""
    (added,) = connection.execute(_ADDED, (oid,)).fetchone() or (0,)
    return int(added or 0)


def count_transactions(connection: Any) -> tuple[bool, int]:
    """Return whether the server keeps statistics of tables, and how many transactions it counted in the database."""
    counts, commits = connection.execute(_COUNTED).fetchone()
    return bool(counts), int(commits)


def label_table(database: str, table: str, *, several: bool) -> str:
    """Return a table as it is shown; with its database where there are several."""
    return f"{database}: {table}" if several else table
