"""The journal's tables on a Postgres server; the rule: the row of the head is the lock of the one writer.

Each transaction stands for itself: nothing is kept in a session, so any pooler may stand between. The time is the
server's, taken behind the lock, so no machine's clock decides about a lease.

What this process has written or seen last is remembered, and looked for in each transaction: a server that does not
have it (a replica that was promoted without it, a restored copy) voids every lease that this process had been given.

That is at least as strong as remembering the commit's place in the WAL and the time line. All that decides is an event:
a lease is taken, and handed on, in the transaction that appends one. What else is written beside them can be lost: a
heartbeat (the lease runs out sooner, and its next holder appends), a lease that was given back (it runs out). And an
event is missed as well where a server was put back by other means than its WAL, or has other events in its place.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

from backout.journal import postgres_schema as schema
from backout.journal.chain import COLUMNS, ChainReport, check
from backout.journal.lease import extend_and_hash
from backout.journal.postgres_errors import explain
from backout.journal.postgres_tables import make_tables
from backout.journal.rows import JournalUnavailable, decode_columns, reading
from backout.journal.store import Roles, Store, Transaction, make_newer_error, read_head
from backout.model.value import Value
from backout.ports.journal_link import LinkError, Trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from backout.journal.chain import WrittenRow
    from backout.journal.store import Head, Mask
    from backout.model.incident.incident import Event
    from backout.ports.journal_link import Connection, JournalLink

T = TypeVar("T")
# The time is asked for outside of the part that waits for the lock.
_LOCK: Final = (
    "WITH locked AS MATERIALIZED (SELECT seq, hash, moving FROM backout.head FOR UPDATE) SELECT seq, hash,"
    " extract(epoch FROM clock_timestamp())::float8, (SELECT max(version) FROM backout.schema_version), moving,"
    " session_user::text FROM locked"
)
_LOOK: Final = (
    "SELECT seq, hash, extract(epoch FROM clock_timestamp())::float8,"
    " (SELECT max(version) FROM backout.schema_version), moving, session_user::text FROM backout.head"
)
_NOW: Final = "SELECT extract(epoch FROM clock_timestamp())::float8"
_TIMELINE: Final = "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"
_FENCES: Final = 32
"""Bits of a fence's number that count within a time line."""
_PAGE: Final = 2000
_SETTLES_S: Final = 12.0
"""How long it is asked whether a commit happened whose answer was lost: a server that crashed is back by then, and one
that only lost us ends our transaction before (`idle_in_transaction_session_timeout`)."""
_POLL_S: Final = 0.2


class _Start(Value, frozen=True):
    """What a transaction begins with: the head, the server's time, and the role that the server will say writes in it.

    Args:
        writer: None while a journal is moved here: its events were written elsewhere.
    """

    head: Head
    now: float
    writer: str | None


class PostgresStore(Store):
    """The schema `backout` of the database that the link leads to; see `Store`.

    Args:
        now: Unix seconds, in place of the server's clock; for tests.
        before_making: called before the tables are made in a database that has none; refuses by raising.
        patience_s: how long a server that answered before is waited for, before a transaction begins: it is restarted,
            or a replica takes over.
        settles_s: how long it is asked whether a commit happened whose answer was lost.
        mover: the journal that is moved here (`move.py`).
    """

    HAS_PART = "strpos(data, ?) > 0"

    def __init__(
        self,
        link: JournalLink,
        *,
        mask: Mask = lambda value: value,
        now: Callable[[], float] | None = None,
        before_making: Callable[[], None] = lambda: None,
        crash_point: Callable[[str], None] | None = None,
        patience_s: float = 15.0,
        settles_s: float = _SETTLES_S,
        mover: str = "",
    ) -> None:
        super().__init__(mask, crash_point)
        self._mover = mover
        self._link = link
        self._now = now
        self._before_making = before_making
        self._patience_s = patience_s
        self._settles_s = settles_s
        self._has_answered = False
        self._mutex = threading.RLock()
        self._in_transaction = False
        self._seen: Head = (0, "")
        self._history = 0

    @property
    def place(self) -> str:
        """The server and the database."""
        return self._link.place

    @property
    def history(self) -> int:
        """See `Store.history`."""
        return self._history

    @contextlib.contextmanager
    def write(self, name: str, *, chained: bool = True) -> Iterator[Transaction]:
        """Open a transaction, see `Store.write`."""
        with self._mutex, self.explaining():
            start = self._begin_writing(chained=chained)
            now = start.now if self._now is None else float(self._now())
            transaction = Transaction(
                self._link, now, self.mask, head=start.head, history=self._history, writer=start.writer
            )
            try:
                yield transaction
                assert chained or not transaction.events, name
                self._crash(f"before commit: {name}")
                self._commit(transaction.events)
            except BaseException:
                self._end()
                raise
            self._in_transaction = False
            self._seen = transaction.head or self._seen
            self._crash(f"after commit: {name}")

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection | None]:
        """Lend the connection, see `Store.reading`; within a transaction of this thread it is that one."""
        with self._mutex, self.explaining():
            if self._in_transaction:
                yield self._link
                return
            found = self._begin(_LOOK, makes=False)
            try:
                yield None if found is None else self._link
            finally:
                self._end()

    def rows(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query, see `Store.rows`; in one exchange with the server, where the tables are ours."""
        with self._mutex, self.explaining():
            if not self._in_transaction:
                try:
                    first, found = self._ask(lambda: self._link.read(_LOOK, query, values))
                    if self._read_start(first)[1] == schema.VERSION:
                        return found
                except LinkError as error:
                    if error.trouble in (Trouble.NOT_REACHED, Trouble.WAITED):
                        raise
            return super().rows(query, values)  # step by step: what is missing is made first, or told

    def read_now(self, connection: Connection) -> float:
        """Return the server's time."""
        return float(connection.execute(_NOW).fetchone()[0] if self._now is None else self._now())

    def read_roles(self, _connection: Connection, _asked: Iterable[str] = ()) -> Roles:
        """Return who writes here, and which roles may only append: nothing stands there in their names but their own.

        Args:
            _asked: the roles that it is asked about, besides the own one.
        """
        (own,) = self._link.execute("SELECT session_user::text").fetchone()
        found = self._link.execute(schema.VOUCHED, ([own, *_asked],))
        return Roles(own, frozenset(name for (name,) in found))

    def extend_leases(
        self, connection: Connection, prefixes: Sequence[str], host: str, now: float, expires_at: float
    ) -> str | None:
        """Move the expiry of all leases that a process holds, and return a hash of who holds which."""
        return extend_and_hash(connection, prefixes, host, now, expires_at)

    def find_least_fence(self, _connection: Connection) -> int:
        """Return a number above every fence of an earlier time line of the server, 0 where it does not tell its own.

        A promoted replica begins a new one, and may never have seen the newest leases: their numbers are not given
        out a second time.
        """
        with self._savepoint():
            (name,) = self._link.execute(_TIMELINE).fetchone()
            return (int(name, 16) - 1) << _FENCES
        return 0

    @contextlib.contextmanager
    def _savepoint(self) -> Iterator[None]:
        """Have the transaction go on after a statement that the server refuses."""
        self._link.execute("SAVEPOINT asked")
        try:
            yield
        except LinkError as error:
            if error.trouble is Trouble.NOT_REACHED:
                raise
            self._link.execute("ROLLBACK TO SAVEPOINT asked")

    def verify(self) -> ChainReport:
        """Check every event against the hash chain; all of it is of one moment."""
        with self._mutex, self.explaining():
            if self._begin(_LOOK, makes=False, snapshot=True) is None:
                return ChainReport(0)
            try:
                head = read_head(self._link)
                with reading("an event"):
                    return check(self._read_rows(), head)
            finally:
                self._end()

    def _read_rows(self) -> Iterator[WrittenRow]:
        after = 0
        query = f"SELECT {COLUMNS}, writer FROM event WHERE seq > ? ORDER BY seq LIMIT {_PAGE}"  # noqa: S608
        while found := self._link.execute(query, (after,)).fetchall():
            yield from found
            after = found[-1][0]

    def is_append_only(self) -> bool | None:
        """Return whether this role may only append; None when there is no journal yet."""
        with self.reading() as connection:
            return None if connection is None else not connection.execute(schema.OWNS).fetchone()[0]

    def close(self) -> None:
        """Close the connection; the next use opens it again."""
        with self._mutex:
            self._link.close()

    # --- transactions -----------------------------------------------------------------------------------------------

    def _begin_writing(self, *, chained: bool) -> _Start:
        """Begin a transaction; return what it begins with."""
        found = self._begin(_LOCK if chained else _LOOK, makes=True)
        assert found is not None
        try:
            self._check_memory(found.head)
        except BaseException:
            self._end()
            raise
        return found

    def _check_memory(self, head: Head) -> None:
        """Raise JournalUnavailable when the server does not have what this process has written or seen last."""
        seq, own = self._seen
        if head != self._seen and seq:
            row = self._link.execute("SELECT hash FROM event WHERE seq = ?", (seq,)).fetchone()
            if row is None or row[0] != own:
                self._seen, self._history = head, self._history + 1
                raise JournalUnavailable(
                    f"the journal's server no longer has event {seq}, which it had confirmed: it was restored, or a"
                    " replica took over that lacks what was written last; nothing was recorded, and every lease that"
                    " this process had is void",
                    where=self.place,
                    hint="look what it lacks (backout runs list, backout deployments list) before you go on",
                )
        self._seen = head

    def _begin(self, question: str, *, makes: bool, snapshot: bool = False) -> _Start | None:
        """Begin a transaction, the tables made or migrated; None when there are none and they are not to be made."""
        for _ in range(3):
            try:
                row = self._ask(lambda: self._link.begin(question, snapshot=snapshot))
            except LinkError as error:
                if error.trouble is not Trouble.ABSENT:
                    raise
                if not makes:
                    return None
                make_tables(self._link, self._before_making)
                continue
            self._in_transaction = True
            try:
                start, version = self._read_start(row)
            except BaseException:
                self._end()
                raise
            if version == schema.VERSION:
                return start
            self._end()
            make_tables(self._link, self._before_making)
        raise JournalUnavailable("the journal's tables cannot be made", where=self.place)

    def _ask(self, ask: Callable[[], T]) -> T:
        """Return what is asked for in a new transaction; a server that is away is waited for, once."""
        until = time.monotonic() + (self._patience_s if self._has_answered else 0.0)
        while True:
            try:
                found = ask()
            except LinkError as error:
                self._link.rollback()
                if error.trouble is not Trouble.NOT_REACHED or time.monotonic() > until:
                    self._has_answered = False
                    raise
                time.sleep(_POLL_S)
            else:
                self._has_answered = True
                return found

    def _read_start(self, row: object) -> tuple[_Start, int]:
        """Return what a transaction begins with, and the version of the tables. Raises JournalUnavailable."""
        kinds = tuple[int, str, float, int, str, str]
        seq, own, now, version, moving, role = decode_columns(row, kinds, "the head of the chain")
        if version > schema.VERSION:
            raise make_newer_error(version, schema.VERSION, self.place)
        if moving not in ("", self._mover):
            raise JournalUnavailable(
                "a journal is being moved there, and not all of it is there yet",
                where=self.place,
                hint="backout journal move  # on the machine that has the file, until it says that it is done",
            )
        return _Start((seq, own), now, None if moving else role), version

    def _end(self) -> None:
        """End the transaction, if there is one, without any effect."""
        self._in_transaction = False
        self._link.rollback()

    def _commit(self, events: list[Event]) -> None:
        """Commit; where the answer is lost, look whether it happened before anything is concluded."""
        try:
            self._link.commit()
        except LinkError as error:
            if error.trouble is not Trouble.NOT_REACHED or not events or not self._was_committed(events[-1], error):
                raise

    def _was_committed(self, event: Event, lost: LinkError) -> bool:
        """Return whether the event is in the chain; behind the lock of the head, so that nobody commits it later.

        Raises:
            JournalUnavailable: it cannot be seen now.
        """
        until = time.monotonic() + self._settles_s
        while True:
            try:
                self._link.begin(_LOCK)
                row = self._link.execute("SELECT hash FROM event WHERE seq = ?", (event.seq,)).fetchone()
            except LinkError as error:
                if time.monotonic() > until:
                    found = explain(error, self.place)
                    found.what = f"{found.what}; whether event {event.seq} was recorded is not known"
                    raise found from lost
                time.sleep(_POLL_S)
            else:
                return row is not None and row[0] == event.hash
            finally:
                self._link.rollback()

    def _explain(self, error: Exception) -> JournalUnavailable | None:
        return explain(error, self.place) if isinstance(error, LinkError) else None

    def _explain_setting_aside(self) -> str:
        return (
            "look for unfinished work (backout deployments list), then: ALTER SCHEMA backout RENAME TO backout_damaged"
        )
