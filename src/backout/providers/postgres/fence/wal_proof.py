"""Reads the WAL behind a position from the running server, and judges who wrote to one database.

WAL moves on an idle server, and stands still while writers idle, so positions say nothing: each commit is looked at.
Source: PostgreSQL 18, pg_read_binary_file, pg_walfile_name; src/backend/access/transam/xact.c (a transaction with an
id writes a COMMIT record even if all it wrote was unlogged), src/backend/commands/analyze.c and vacuum.c (autovacuum
writes pg_statistic, pg_statistic_ext_data, and pg_class in place).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from backout.errors import BackoutError
from backout.model.database.wal import WalSegment, WalSpan, find_segment_begin, parse_lsn, show_lsn
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from backout.model.database.recovery import BaseBackup, Commit
    from backout.providers.postgres.provenance.wal_writes import RowWrite

_PAGE: Final = 8192
_SHARED: Final = 0
_PLACE: Final = """
SELECT s.setting::bigint * CASE s.unit WHEN 'B' THEN 1 WHEN '8kB' THEN 8192 ELSE 1 END,
  ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int, pg_current_wal_flush_lsn()::text,
  (SELECT system_identifier::text FROM pg_control_system())
FROM pg_settings AS s WHERE s.name = 'wal_segment_size'
"""
_FLUSH: Final = "SET LOCAL synchronous_commit = local"
_MESSAGE: Final = "SELECT pg_logical_emit_message(true, 'backout', ''), pg_current_xact_id()::text::bigint"
_STATISTICS: Final = """
SELECT pg_relation_filenode(c.oid)::bigint, c.relname = 'pg_class' FROM pg_class AS c
WHERE c.oid IN ('pg_statistic'::regclass, 'pg_statistic_ext_data'::regclass, 'pg_class'::regclass)
  OR c.oid IN (SELECT t.reltoastrelid FROM pg_class AS t
    WHERE t.oid IN ('pg_statistic'::regclass, 'pg_statistic_ext_data'::regclass))
"""
_IN_PLACE: Final = "INPLACE"


class Findings(Value, frozen=True):
    """What was committed in a stretch of WAL.

    Args:
        commits: of all databases together.
        maintenance: those that touched the database, and only what autovacuum writes to.
        touched: those that touched it otherwise.
        unplaced: those that wrote nothing that shows in which database they were.
    """

    commits: int
    maintenance: int
    touched: tuple[Commit, ...]
    unplaced: tuple[Commit, ...]


class ServerWal:
    """Port Backups: the WAL that lies on a running server, from one position to where it is flushed to by now.

    Args:
        session: with the server; its role may execute pg_read_binary_file.
    """

    def __init__(self, session: Any, since_lsn: int) -> None:
        self._session = session
        self._since = since_lsn
        size, self.timeline, flushed, self._system = session.execute(_PLACE.encode()).fetchone()
        self._size, self.until_lsn = int(size), parse_lsn(flushed)

    def span(self) -> WalSpan:
        """Return the stretch."""
        return WalSpan(self.timeline, self._since, self.until_lsn, tuple(each.name for each in self.wal()))

    def backups(self) -> tuple[BaseBackup, ...]:
        """Return none."""
        return ()

    def wal(self) -> tuple[WalSegment, ...]:
        """Return the segments of the stretch."""
        first, last = self._since // self._size, max(self._since, self.until_lsn - 1) // self._size
        return tuple(self._segment(number) for number in range(first, last + 1))

    def _segment(self, number: int) -> WalSegment:
        in_file = (1 << 32) // self._size
        name = f"{self.timeline:08X}{number // in_file:08X}{number % in_file:08X}"
        begin = number * self._size
        end = min(begin + self._size, self.until_lsn)
        return WalSegment(name, self.timeline, begin, end, partial=end < begin + self._size)

    def unpack(self, backup: str, into: Path, progress: Callable[[int, int], None]) -> None:  # noqa: ARG002 the port's own
        """Raise BackoutError: there is no backup."""
        raise BackoutError("the server's WAL has no backups", where=backup)

    def fetch_wal(self, names: Sequence[str], into: Path, laid: Callable[[str], None] = lambda _name: None) -> None:
        """Lay these segments into a folder: of each its first page, and the pages of the stretch; the rest is zeros."""
        for name in names:
            begin = find_segment_begin(name, self._size)
            since = max(self._since - begin, 0) // _PAGE * _PAGE
            until = min(self.until_lsn - begin, self._size)
            with (into / name).open("wb") as file:
                file.truncate(self._size)
                for at, length in dict.fromkeys(((0, _PAGE), (since, until - since))):
                    file.seek(at)
                    file.write(self._read(name, at, length))
            laid(name)

    def _read(self, name: str, at: int, length: int) -> bytes:
        query = b"SELECT pg_read_binary_file('pg_wal/' || %s::text, %s::bigint, %s::bigint)"
        (content,) = self._session.execute(query, (name, at, length), binary=True).fetchone()
        return bytes(content)


def write_out_wal(session: Any) -> int:
    """Commit a transaction, so that all WAL before it is on the disk; return its id's lower 32 bits.

    One that has an id and wrote no WAL is not waited for: this one writes a message that nobody reads.
    """
    with session.transaction():
        session.execute(_FLUSH.encode())
        (_, xid) = session.execute(_MESSAGE.encode()).fetchone()
    return int(xid) & 0xFFFFFFFF


def read_statistics(session: Any) -> Mapping[int, bool]:
    """Return the file nodes of what autovacuum writes to in this database, and whether it does so only in place."""
    return {int(node): bool(in_place) for node, in_place in session.execute(_STATISTICS.encode()).fetchall()}


def judge_writes(
    database: int,
    statistics: Mapping[int, bool],
    commits: Iterable[Commit],
    writes: Iterable[RowWrite],
    own: Collection[int],
) -> Findings:
    """Return what was committed; transactions that were not do not count.

    Args:
        database: its object id.
        statistics: of `read_statistics`.
        own: ids of transactions of ours.
    """
    places: dict[int, set[int]] = {}
    touching: set[int] = set()
    for write in writes:
        places.setdefault(write.xid, set()).add(write.database)
        if write.database == database:
            only_in_place = statistics.get(write.node)
            if only_in_place is None or (only_in_place and write.kind != _IN_PLACE):
                touching.add(write.xid)
    count, maintenance = 0, 0
    touched: list[Commit] = []
    unplaced: list[Commit] = []
    for commit in commits:
        if commit.xid in own:
            continue
        count += 1
        ids = {commit.xid, *commit.subxids}
        where = set().union(*(places.get(each, ()) for each in ids))
        if ids & touching or commit.database == database:
            touched.append(commit)
        elif database in where:
            maintenance += 1
        elif not where - {_SHARED}:
            unplaced.append(commit)
    return Findings(count, maintenance, tuple(touched), tuple(unplaced))


def describe_findings(found: Findings, *, is_all_logged: bool) -> list[str]:
    """Return why these say that somebody else wrote, () where they do not.

    Args:
        is_all_logged: whether nothing can be written to the database that does not show in the WAL.
    """
    why = []
    if found.touched:
        first = found.touched[0]
        why.append(
            f"{_count(len(found.touched))} touched the database since the fence went up, the first of them "
            f"{first.xid} at {show_lsn(first.lsn)}"
        )
    if found.unplaced and not is_all_logged:
        first = found.unplaced[0]
        why.append(
            f"{_count(len(found.unplaced))} wrote nothing that the WAL shows, and may have written to an unlogged "
            f"table, the first of them {first.xid} at {show_lsn(first.lsn)}"
        )
    return why


def _count(number: int) -> str:
    return f"{number} committed transaction{'' if number == 1 else 's'}"
