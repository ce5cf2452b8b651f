"""Moving a journal from its file to a server; the rule: the same events with the same hashes, or nothing is concluded.

Each event is checked against the chain before it is copied and read back from the server at the end. Killed anywhere,
the same command goes on where it was. While it moves, the server's journal is closed to everybody else; afterwards the
file is closed for good, in the transaction that has seen that all of it is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.errors import Busy, Refused, UsageError
from backout.journal import lease as leases
from backout.journal import schema
from backout.journal.chain import COLUMNS, hash_row
from backout.journal.rows import DamagedRow, JournalUnavailable
from backout.journal.store import append_row, read_head
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.journal.chain import Row
    from backout.journal.postgres_store import PostgresStore
    from backout.journal.sqlite_store import SqliteStore
    from backout.journal.store import Head
    from backout.ports.journal_link import Connection

_BATCH: Final = 500
"""Events of a transaction: each changes the row of the head, whose versions are only cleared away after it."""
_PAGE: Final = 5000
_ROWS: Final = f"SELECT {COLUMNS} FROM event WHERE seq > ? ORDER BY seq LIMIT {_BATCH}"  # noqa: S608
_COUNTS: Final = "environment, second, version, requests, errors, canceled, latency, routes, answers"
_CHECKPOINTS: Final = "run, name, at, data"


class Move(Value, frozen=True):
    """What there is to move, and what of it is there.

    Args:
        events: of the file.
        there: how many of them the server has.
        closed: whether the file is closed already.
    """

    events: int
    there: int
    closed: bool

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return self.closed and self.there == self.events


def read_identity(source: SqliteStore) -> str:
    """Return what tells this journal from every other: the hash of its first event, "" when it has none."""
    rows = source.rows("SELECT hash FROM event WHERE seq = 1")
    return str(rows[0][0]) if rows else ""


def look(source: SqliteStore, target: PostgresStore) -> Move:
    """Return what there is to do, and change nothing.

    Raises:
        Busy: a process drives a run on the file.
        Refused: the file is damaged, or the server has another history.
        JournalUnavailable: one of the two cannot be read.
    """
    found = source.verify()
    if not found.is_whole:
        raise Refused(
            f"the file is not as it was written: {found.why}", where=source.place, hint="backout audit verify"
        )
    closed = source.is_closed()
    if not closed:
        _refuse_driven(source)
    with target.reading() as connection:
        there = count_there(source, connection, found.count, target.place) if connection else 0
    return Move(found.count, there, closed)


def _refuse_driven(source: SqliteStore) -> None:
    with source.reading() as connection:
        if connection is None:
            return
        now, me = source.read_now(connection), leases.make_own_holder()
        for (name,) in connection.execute("SELECT environment FROM lease ORDER BY environment").fetchall():
            lease = leases.read(connection, name)
            if lease is not None and not lease.run and lease.is_live(me, now):
                raise Busy(f"a worker uses the file: {lease.who()}", where=source.place, hint="stop it first")
            if lease is not None and lease.is_live(me, now):
                raise Busy(
                    f"a run is under way in the file: {lease.run} in {name}, driven by {lease.who()}",
                    where=source.place,
                    hint=f"wait for it, or: backout runs abort {lease.run}",
                )


def count_there(source: SqliteStore, connection: Connection, events: int, place: str) -> int:
    """Return how many of the file's events are on the server.

    Raises:
        Refused: its journal does not begin as the file's.
    """
    seq, _ = read_head(connection)
    common = min(seq, events)
    own = source.rows("SELECT hash FROM event WHERE seq = ?", (common,))
    theirs = connection.execute("SELECT hash FROM event WHERE seq = ?", (common,)).fetchall()
    if [row[0] for row in own] != [row[0] for row in theirs] or (seq and not common):
        raise Refused(
            "the server has a journal with another history, and two cannot be made one",
            where=place,
            hint="name another database; or leave the file where it is, and put it away when it is not needed",
        )
    return common


def move(
    source: SqliteStore, target: PostgresStore, tell: Callable[[int, int], None] = lambda _done, _all: None
) -> Move:
    """Move the journal, or go on with a move that was interrupted, and return what is there then.

    Args:
        tell: called after each transaction with how many events are there, of how many.

    Raises:
        UsageError: there is no journal in the file.
        Busy, Refused, JournalUnavailable: as `look`; what was copied stays, and is gone on with.
    """
    before = look(source, target)
    if not before.events:
        raise UsageError("there is no journal to move", where=source.place)
    if before.is_done:
        return before
    with target.write("move: begin") as transaction:  # nobody has written since: the lock is ours
        if count_there(source, transaction.connection, before.events, target.place) < before.events:
            transaction.connection.execute("UPDATE head SET moving = ?", (read_identity(source),))
    while done := _copy_batch(source, target):
        tell(done, before.events)
    _copy_beside(source, target)
    with source.write("move: end") as closing:
        while _copy_batch(source, target):  # what was recorded meanwhile; nobody writes to the file any more
            pass
        newest = read_head(closing.connection)
        _read_back(target, newest)
        with target.write("move: all there") as transaction:
            _copy_leases(closing.connection, transaction.connection)
            transaction.connection.execute("UPDATE head SET moving = ''")
        for statement in () if before.closed else schema.CLOSING:
            closing.connection.execute(statement, (closing.now,) if "?" in statement else ())
    return Move(newest[0], newest[0], closed=True)


def _copy_batch(source: SqliteStore, target: PostgresStore) -> int:
    """Copy the next events; return how many are there then, 0 when there were none to copy."""
    with target.write("move: events") as transaction:
        assert transaction.head is not None
        seq, before = transaction.head
        rows: list[Row] = source.rows(_ROWS, (seq,))
        for row in rows:
            if row[0] != seq + 1 or row[8] != before or hash_row(row[:9]) != row[9]:
                raise DamagedRow(f"event {seq + 1} is not as it was written", where=source.place)
            append_row(transaction.connection, row)
            seq, before = row[0], row[9]
        transaction.head = (seq, before)
    return seq if rows else 0


def _read_back(target: PostgresStore, newest: Head) -> None:
    """Raise JournalUnavailable unless every event of the file is on the server, by its own chain."""
    found = target.verify()
    rows = target.rows("SELECT hash FROM event WHERE seq = ?", (newest[0],))
    if not found.is_whole or (newest[0] and [row[0] for row in rows] != [newest[1]]):
        why = found.why or f"event {newest[0]} is another one there"
        raise JournalUnavailable(
            f"the server does not have what was copied to it: {why}", where=target.place, hint="backout journal move"
        )


def _copy_beside(source: SqliteStore, target: PostgresStore) -> None:
    """Copy counts and checkpoints; what is there already is newer, or the same."""
    for table, columns, key in (
        ("counts", _COUNTS, ("environment", "second", "version")),
        ("checkpoint", _CHECKPOINTS, ("run", "name")),
    ):
        names, holes = ", ".join(key), ", ".join("?" for _ in key)
        page = f"SELECT {columns} FROM {table} WHERE ({names}) > ({holes}) ORDER BY {names} LIMIT {_PAGE}"  # noqa: S608
        put = (
            f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' for _ in columns.split(', '))})"  # noqa: S608
            f" ON CONFLICT ({names}) DO NOTHING"
        )
        after: tuple[object, ...] = ("", -1, "")[: len(key)] if table == "counts" else ("", "")
        while rows := source.rows(page, after):
            with target.write("move: beside", chained=False) as transaction:
                transaction.connection.executemany(put, rows)
            after = rows[-1][: len(key)]


def _copy_leases(source: Connection, target: Connection) -> None:
    """Give back on the server what was held in the file: the numbers of fences go on from there."""
    for (name,) in source.execute("SELECT environment FROM lease").fetchall():
        lease = leases.read(source, name)
        if lease is not None and leases.read(target, name) is None:
            leases.write(target, replace(lease, holder=None, expires_at=0.0))
