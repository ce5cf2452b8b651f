"""The SQLite file of the journal; the rule: one writer at a time, each change is one durable transaction or nothing.

WAL with synchronous=FULL: what was committed survives the loss of power. Not for network disks.
"""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from backout.errors import BackoutError
from backout.journal import schema
from backout.journal.chain import COLUMNS, ChainReport, Row, canonical, check, link
from backout.journal.lock import FileLock
from backout.model.incident import Event
from backout.private import private_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


class JournalUnavailable(BackoutError):
    """The journal's file cannot be used now; whatever was being recorded is not recorded."""


Mask = Callable[[object], object]
_PRIMARY = 0xFF  # extended result codes keep the primary one in the low byte


def explain(error: sqlite3.Error, path: Path) -> JournalUnavailable:
    """Return what the error means, and what to do about it."""
    code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY
    where = str(path)
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return JournalUnavailable(
            f"the journal is damaged ({error}); nothing was changed",
            where=where,
            hint=f"look for unfinished work by hand (backout deployments list), then: mv {path} {path}.damaged",
        )
    if code == sqlite3.SQLITE_FULL:
        return JournalUnavailable(
            "the disk is full: the journal could not record, so the run stops here",
            where=where,
            hint="free some space, then type the same command again",
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return JournalUnavailable(
            "another process keeps the journal's file locked",
            where=where,
            hint=f"find it (fuser {path}), then type the same command again",
        )
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return JournalUnavailable(
            f"the journal cannot be opened for writing ({error})",
            where=where,
            hint=f"check who owns it: ls -l {path.parent}",
        )
    hint = f"look at the disk and at the files: ls -l {path.parent}"
    return JournalUnavailable(f"the journal cannot be used ({error})", where=where, hint=hint)


@dataclass(frozen=True, slots=True)
class Entry:
    """An event to be appended; the store adds its place in the chain."""

    kind: str
    run: str = ""
    step: int | None = None
    data: Mapping[str, object] = field(default_factory=dict)


class Transaction:
    """One open write transaction; `events` collects what was appended."""

    def __init__(self, connection: sqlite3.Connection, now: float, mask: Mask) -> None:
        self.connection = connection
        self.now = now
        self.mask = mask
        self.events: list[Event] = []

    def append(self, entry: Entry, *, environment: str, actor: str) -> Event:
        """Append one event to the chain, its texts masked. Raises TypeError when its data is not JSON."""
        text = canonical(self.mask(entry.data), entry.kind)
        seq, before = self.connection.execute("SELECT seq, hash FROM head").fetchone()
        seq += 1
        row = (seq, self.now, environment, entry.run, entry.step, entry.kind, text, str(self.mask(actor)), before)
        own = link(row)
        self.connection.execute(f"INSERT INTO event ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, own))  # noqa: S608
        self.connection.execute("UPDATE head SET seq = ?, hash = ?", (seq, own))
        event = event_of((*row, own))
        self.events.append(event)
        return event


def event_of(row: Row) -> Event:
    """Return the event of a stored row."""
    return Event(row[0], row[1], row[2], row[3], row[4], row[5], json.loads(row[6]), row[7], row[9])


class Store:
    """The file, opened at its first use; reading a journal that does not exist creates nothing.

    Usable from several threads. Every sqlite3.Error leaves as JournalUnavailable.

    Args:
        path: the database file. now: Unix seconds. mask: takes every secret out of JSON values before they are
            written: what is once in the chain stays. busy_timeout_s: how long another writer is waited for.
        crash_point: called with a name before and after each commit; tests die there.
    """

    def __init__(
        self,
        path: Path,
        now: Callable[[], float],
        *,
        mask: Mask = lambda value: value,
        busy_timeout_s: float = 15.0,
        crash_point: Callable[[str], None] | None = None,
    ) -> None:
        self.path = path
        self._now = now
        self._mask = mask
        self._busy_timeout_s = busy_timeout_s
        self._crash_point = crash_point
        self._connection: sqlite3.Connection | None = None
        self._mutex = threading.RLock()

    @contextmanager
    def write(self, name: str) -> Iterator[Transaction]:
        """Open a transaction that is committed at the end of the block, and rolled back by any exception."""
        with self._mutex, self._explained():
            connection = self._open(create=True)
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield Transaction(connection, float(self._now()), self._mask)
                self._crash(f"before commit: {name}")
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:  # an error, or a commit that was refused
                    connection.execute("ROLLBACK")
            self._crash(f"after commit: {name}")

    def rows(self, query: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query; none when the journal does not exist yet."""
        with self._mutex, self._explained():
            if self._connection is None and not self._exists():
                return []
            return self._open(create=False).execute(query, values).fetchall()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection | None]:
        """Lend the connection for several reads, or None when the journal does not exist yet."""
        with self._mutex, self._explained():
            absent = self._connection is None and not self._exists()
            yield None if absent else self._open(create=False)

    def verify(self) -> ChainReport:
        """Check every event against the hash chain, and the file against SQLite's own integrity check."""
        with self._mutex, self._explained():
            if self._connection is None and not self._exists():
                return ChainReport(0)
            connection = self._open(create=False)
            found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if found != "ok":
                raise explain(_damaged(found), self.path)
            connection.execute("BEGIN")  # one snapshot for the rows and their head
            try:
                head = connection.execute("SELECT seq, hash FROM head").fetchone()
                return check(connection.execute(f"SELECT {COLUMNS} FROM event ORDER BY seq"), head)  # noqa: S608
            finally:
                connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._mutex:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def __del__(self) -> None:
        # sqlite3 holds a connection and its statements in a cycle, which would stay open until a collection.
        self.close()

    def _crash(self, name: str) -> None:
        if self._crash_point is not None:
            self._crash_point(name)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise explain(error, self.path) from error

    def _exists(self) -> bool:
        # An empty file is what a crash leaves between creating it and its first table.
        try:
            return self.path.stat().st_size > 0
        except FileNotFoundError:
            return False
        except OSError as error:
            raise unreachable(error, self.path) from error

    def _open(self, *, create: bool) -> sqlite3.Connection:
        if self._connection is None:
            if create:
                self._create_file()
            connection = sqlite3.connect(
                f"file:{_uri_path(self.path)}?mode=rw",
                uri=True,
                timeout=self._busy_timeout_s,
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _create_file(self) -> None:
        try:
            private_folder(self.path.parent)
            # SQLite gives its -wal and -shm files the mode of the database.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            raise unreachable(error, self.path) from error

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA synchronous=FULL")
        version = _version(connection)
        if version > schema.VERSION:
            raise JournalUnavailable(
                f"the journal was written by a newer backout (schema {version}, this one knows {schema.VERSION})",
                where=str(self.path),
                hint="upgrade backout on this machine; nothing was changed",
            )
        if version < schema.VERSION:
            self._migrate(connection)

    def _migrate(self, connection: sqlite3.Connection) -> None:
        # Going over to WAL does not wait for another process that does the same: the file lock does.
        lock = FileLock(self.path.with_name(f"{self.path.name}.lock"))
        lock.take(wait=True)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("BEGIN IMMEDIATE")
            try:
                for statement in schema.VERSION_TABLE:
                    connection.execute(statement)
                for version in range(_version(connection), schema.VERSION):
                    for statement in schema.MIGRATIONS[version]:
                        connection.execute(statement)
                    connection.execute("INSERT INTO schema_version VALUES (?, ?)", (version + 1, float(self._now())))
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        finally:
            lock.free()


def _version(connection: sqlite3.Connection) -> int:
    known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'schema_version'").fetchone()
    return connection.execute("SELECT COALESCE(MAX(version), 0) FROM schema_version").fetchone()[0] if known else 0


def _uri_path(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def unreachable(error: OSError, path: Path) -> JournalUnavailable:
    """Return what the system's refusal of a file means."""
    if error.errno == errno.ENOSPC:
        full = sqlite3.OperationalError("disk full")
        full.sqlite_errorcode = sqlite3.SQLITE_FULL
        return explain(full, path)
    what = f"the journal cannot be reached ({error.strerror})"
    return JournalUnavailable(what, where=str(path), hint=f"check who owns it: ls -ld {path.parent}")


def _damaged(found: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(found)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error
