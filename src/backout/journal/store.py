"""Where events are kept, whichever database it is; the rule: one writer at a time, each change is a transaction.

What is the same on all of them is here; `sqlite_store` and `postgres_store` are the two there are.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from msgspec import field

from backout.journal.chain import COLUMNS, format_canonical, hash_row
from backout.journal.lease import extend_all
from backout.journal.rows import (
    DamagedRow,
    JournalUnavailable,
    decode_columns,
    decode_event,
    decode_json_object,
    decode_json_value,
)
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from backout.journal.chain import ChainReport
    from backout.model.incident.incident import Event
    from backout.model.plan import Json
    from backout.ports.journal_link import Connection

Mask = Callable[[object], object]
Head = tuple[int, str]
"""(seq, hash) of the newest event, (0, "") when there is none."""


class Entry(Value, frozen=True):
    """An event to be appended; the store adds its place in the chain."""

    kind: str
    run: str = ""
    step: int | None = None
    data: Mapping[str, object] = field(default_factory=dict)


class Transaction:
    """One open write transaction; `events` collects what was appended.

    Args:
        now: Unix seconds, by the clock that decides about leases.
        head: read already, or None.
        history: see `Store.history`.
        writer: the role that the server will say wrote what is appended; None: it says nothing.
    """

    def __init__(
        self,
        connection: Connection,
        now: float,
        mask: Mask,
        *,
        head: Head | None = None,
        history: int = 0,
        writer: str | None = None,
    ) -> None:
        self.connection = connection
        self.now = now
        self.mask = mask
        self.head = head
        self.history = history
        self.writer = writer
        self.events: list[Event] = []

    def append(self, entry: Entry, *, environment: str, actor: str, at: float | None = None) -> Event:
        """Append one event to the chain, its texts masked. Raises TypeError when its data is not JSON.

        Args:
            at: when it was, Unix seconds; None: now.
        """
        text = format_canonical(self.mask(entry.data), entry.kind)
        if self.head is None:
            self.head = read_head(self.connection)
        seq, before = self.head[0] + 1, self.head[1]
        at = self.now if at is None else at
        row = (seq, at, environment, entry.run, entry.step, entry.kind, text, str(self.mask(actor)), before)
        event = append_row(self.connection, (*row, hash_row(row, self.writer)), self.writer)
        self.head = (seq, event.hash)
        self.events.append(event)
        return event


def append_row(connection: Connection, row: Sequence[Any], writer: str | None = None) -> Event:
    """Append a row that is a link of the chain already; the tables refuse one that does not follow the newest.

    Args:
        writer: whom the server writes beside it; nobody here can choose that.
    """
    event = decode_event((*row, writer))
    connection.execute(f"INSERT INTO event ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", tuple(row))  # noqa: S608
    connection.execute("UPDATE head SET seq = ?, hash = ?", (row[0], row[-1]))
    return event


def read_head(connection: Connection) -> Head:
    """Return the newest link of the chain."""
    head = connection.execute("SELECT seq, hash FROM head").fetchone()
    found: Head = decode_columns(head, tuple[int, str], "the head of the chain")
    return found


class Roles(Value, frozen=True):
    """Roles of the journal's database.

    Args:
        own: the one that this process has logged in with, "" where there are none.
        vouched: those, of the ones asked about, that can write nothing in another's name.
    """

    own: str = ""
    vouched: frozenset[str] = frozenset()


class Store(ABC):
    """The tables of a journal, opened at their first use; reading a journal that does not exist creates nothing.

    Usable from several threads. Whatever the database says leaves as JournalUnavailable.

    Args:
        now: Unix seconds.
        mask: takes every secret out of JSON values before they are written: what is in the chain stays there.
        crash_point: called with a name before and after each commit; tests die there.
    """

    HAS_PART: ClassVar[str]
    """The condition that a certain text is in that of an event's data.

    The database decodes nothing of it: Postgres refuses to for an escaped NUL, which one event with the log line of an
    application would have made of every later look at its kind.
    """

    def __init__(self, mask: Mask, crash_point: Callable[[str], None] | None) -> None:
        self.mask = mask
        self._crash_point = crash_point

    @property
    @abstractmethod
    def place(self) -> str:
        """Where it is, without secrets: a file, or a server and a database."""

    @property
    def only_read(self) -> JournalUnavailable | None:
        """Return why it is read as it is and cannot be written; None while no reason is known."""
        return None

    @property
    def history(self) -> int:
        """Which history it is that this process has seen: another number after the database lost a part of it.

        A lease of an earlier one is void: somebody else may have been given it since.
        """
        return 0

    @abstractmethod
    def write(self, name: str, *, chained: bool = True) -> AbstractContextManager[Transaction]:
        """Open a transaction that is committed at the end of the block, and rolled back by any exception.

        Args:
            chained: only one such transaction is open at a time. Without it nothing may be appended: for what is
                decided by the single row that it changes, such as a heartbeat, or is no history.
        """

    @abstractmethod
    def reading(self) -> AbstractContextManager[Connection | None]:
        """Lend the connection for several reads, or None when the journal does not exist yet."""

    @abstractmethod
    def read_now(self, connection: Connection) -> float:
        """Return the time by the clock that decides about leases, Unix seconds."""

    @abstractmethod
    def verify(self) -> ChainReport:
        """Check every event against the hash chain.

        Raises:
            JournalUnavailable: the tables are damaged, or cannot be read.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the connection; the next use opens it again."""

    @abstractmethod
    def _explain(self, error: Exception) -> JournalUnavailable | None:
        """Return what an error of the database means, and what to do; None for one that is not its own."""

    @abstractmethod
    def _explain_setting_aside(self) -> str:
        """Return how to put damaged tables aside."""

    def is_append_only(self) -> bool | None:
        """Return whether this user may only append; None when there is no journal yet. The owner of a file may do all.

        Raises:
            JournalUnavailable: it cannot be read.
        """
        with self.reading() as connection:
            return None if connection is None else False

    def read_roles(self, _connection: Connection, _asked: Iterable[str] = ()) -> Roles:
        """Return who writes here, and for which roles the journal vouches: a file knows none.

        Args:
            _asked: the roles that it is asked about, besides the own one.
        """
        return Roles()

    def extend_leases(
        self, connection: Connection, prefixes: Sequence[str], host: str, now: float, expires_at: float
    ) -> str | None:
        """Move the expiry of all leases that a process holds, and return a hash of who holds which, see `lease`.

        None where the database makes no such hash: they are to be read.
        """
        del now
        extend_all(connection, prefixes, host, expires_at)
        return None

    def find_least_fence(self, _connection: Connection) -> int:
        """Return the number that the next fence has to be above, beside those that the leases have had."""
        return 0

    def rows(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query; none when the journal does not exist yet."""
        with self.reading() as connection:
            return connection.execute(query, values).fetchall() if connection else []

    def events(self, query: str, values: Sequence[object]) -> list[Event]:
        """Return the events of a query over all columns; none when the journal does not exist yet."""
        with self.explaining():
            return [decode_event(row) for row in self.rows(query, values)]

    def json(self, query: str, values: Sequence[object], what: str) -> Json:
        """Return the JSON value that a query finds, None when there is none."""
        with self.explaining():
            rows = self.rows(query, values)
            return decode_json_value(rows[0][0], what) if rows else None

    def json_object(self, query: str, values: Sequence[object], what: str) -> Mapping[str, Json] | None:
        """Return the JSON object that a query finds, None when there is none."""
        with self.explaining():
            rows = self.rows(query, values)
            return decode_json_object(rows[0][0], what) if rows else None

    @contextlib.contextmanager
    def explaining(self) -> Iterator[None]:
        """Have whatever the database says in the block, and rows that are not as we write them, explained.

        Raises:
            JournalUnavailable: such an error was raised.
        """
        try:
            yield
        except DamagedRow as error:
            if error.where is None:
                error.what = f"the journal is damaged: {error.what}"
                error.where, error.hint = self.place, self._explain_setting_aside()
            raise
        except (OverflowError, UnicodeEncodeError) as error:  # the database has no room for the value
            what = "the journal cannot keep a value: it is too large, or no text"
            raise JournalUnavailable(what, where=self.place) from error
        except Exception as error:
            meaning = self._explain(error)
            if meaning is None:
                raise
            raise meaning from error

    def _crash(self, name: str) -> None:
        if self._crash_point is not None:
            self._crash_point(name)


def make_newer_error(version: int, known: int, place: str) -> JournalUnavailable:
    """Return the error of a process that meets tables of a later version than it knows."""
    return JournalUnavailable(
        f"the journal was written by a newer backout (schema {version}, this one knows {known})",
        where=place,
        hint="upgrade backout on this machine; nothing was changed",
    )
