"""The SQLite file of the journal; the rule: one writer at a time, each change is one durable transaction or nothing.

WAL with synchronous=FULL: what was committed survives the loss of power. Not for network disks.
"""

from __future__ import annotations

import contextlib
import errno
import shlex
import sqlite3
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec import field

from backout.journal import schema
from backout.journal.chain import COLUMNS, ChainReport, check, format_canonical, hash_row
from backout.journal.lock import FileLock
from backout.journal.rows import (
    DamagedRow,
    JournalUnavailable,
    decode_columns,
    decode_event,
    decode_json_object,
    decode_json_value,
    reading,
)
from backout.model.setting import describe_setting
from backout.model.value import Value
from backout.private import create_database, make_private_folder
from backout.sqlite_words import quote_in_brackets

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from backout.model.incident.incident import Event
    from backout.model.plan import Json


Mask = Callable[[object], object]
_PRIMARY = 0xFF  # extended result codes keep the primary one in the low byte
_NO_ROOM = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR_WRITE,
        sqlite3.SQLITE_IOERR_SHMOPEN,
        sqlite3.SQLITE_IOERR_SHMSIZE,
        sqlite3.SQLITE_IOERR_TRUNCATE,
        sqlite3.SQLITE_IOERR_FSYNC,
        sqlite3.SQLITE_IOERR_DIR_FSYNC,
    }
)
"""A full disk; a quota and a limit on the size of files are told as errors of writing."""
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH})
"""Our statements never change, so one that fails to make sense has met tables that are not as we made them."""
_NOT_TO_WRITE = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM})
_HELD = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_ERRNO = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), sqlite3.SQLITE_FULL),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), sqlite3.SQLITE_READONLY),
}


def explain(error: sqlite3.Error, path: Path) -> JournalUnavailable:
    """Return what the error means, and what to do about it; nothing from the file is quoted."""
    code = getattr(error, "sqlite_errorcode", 0)
    said = quote_in_brackets(error)
    where = str(path)
    if code & _PRIMARY in _DAMAGED or "decode" in str(error):
        return JournalUnavailable(f"the journal is damaged{said}", where=where, hint=_explain_setting_aside(path))
    if code in _NO_ROOM or code & _PRIMARY == sqlite3.SQLITE_FULL:
        return JournalUnavailable(
            "the disk is full: the journal could not record, so the run stops here",
            where=where,
            hint="free some space, then type the same command again",
        )
    if code & _PRIMARY in _HELD:
        return JournalUnavailable(
            "another process keeps the journal's file locked",
            where=where,
            hint=f"find it (fuser {shlex.quote(str(path))}), then type the same command again",
        )
    if code & _PRIMARY in _NOT_TO_WRITE:
        return JournalUnavailable(
            f"the journal cannot be opened for writing{said}",
            where=where,
            hint=f"make it writable, then type the same command again: ls -la {shlex.quote(str(path.parent))}",
        )
    hint = f"look at the disk and at the files: ls -la {shlex.quote(str(path.parent))}"
    return JournalUnavailable(f"the journal cannot be used{said}", where=where, hint=hint)


def _explain_setting_aside(path: Path) -> str:
    """Return how to put a journal aside, with its side files: a new journal would read those."""
    kept, all_of_it = shlex.quote(str(path.parent / f"damaged-{path.stem}")), f"{shlex.quote(str(path))}*"
    return f"look for unfinished work (backout deployments list), then: mkdir -p {kept} && mv {all_of_it} {kept}/"


class Entry(Value, frozen=True):
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
        text = format_canonical(self.mask(entry.data), entry.kind)
        head = self.connection.execute("SELECT seq, hash FROM head").fetchone()
        seq, before = decode_columns(head, tuple[int, str], "the head of the chain")
        seq += 1
        row = (seq, self.now, environment, entry.run, entry.step, entry.kind, text, str(self.mask(actor)), before)
        own = hash_row(row)
        self.connection.execute(f"INSERT INTO event ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, own))  # noqa: S608
        self.connection.execute("UPDATE head SET seq = ?, hash = ?", (seq, own))
        event = decode_event((*row, own))
        self.events.append(event)
        return event


class Store:
    """The file, opened at its first use; reading a journal that does not exist creates nothing.

    Usable from several threads. Every sqlite3.Error leaves as JournalUnavailable.

    Args:
        path: the database file.
        now: Unix seconds.
        mask: takes every secret out of JSON values before they are written: what is in the chain stays there.
        busy_timeout_s: how long to wait for another writer.
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
        self._frozen: sqlite3.Error | None = None
        self._mutex = threading.RLock()

    @property
    def only_read(self) -> JournalUnavailable | None:
        """Return why the file is read as it is and cannot be written; None while no reason is known."""
        if self._frozen is None:
            return None
        found, side = explain(self._frozen, self.path), self.path.with_name(f"{self.path.name}-wal")
        with contextlib.suppress(OSError):
            if side.stat().st_size:
                found.what += "; it is read without what was written last"
        return found

    @contextlib.contextmanager
    def write(self, name: str) -> Iterator[Transaction]:
        """Open a transaction that is committed at the end of the block, and rolled back by any exception."""
        with self._mutex, self._explain_errors():
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
        with self._mutex, self._explain_errors():
            if self._connection is None and not self._exists():
                return []
            return self._open(create=False).execute(query, values).fetchall()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection | None]:
        """Lend the connection for several reads, or None when the journal does not exist yet."""
        with self._mutex, self._explain_errors():
            absent = self._connection is None and not self._exists()
            yield None if absent else self._open(create=False)

    def verify(self) -> ChainReport:
        """Check every event against the hash chain, and the file against SQLite's own integrity check.

        Raises:
            JournalUnavailable: the file is damaged, or cannot be read.
        """
        with self._mutex, self._explain_errors():
            if self._connection is None and not self._exists():
                return ChainReport(0)
            connection = self._open(create=False)
            found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if found != "ok":
                raise explain(_make_damaged_error(found), self.path)
            connection.execute("BEGIN")  # one snapshot for the rows and their head
            try:
                newest = connection.execute("SELECT seq, hash FROM head").fetchone()
                head = decode_columns(newest, tuple[int, str], "the head of the chain")
                with reading("an event"):
                    return check(connection.execute(f"SELECT {COLUMNS} FROM event ORDER BY seq"), head)  # noqa: S608
            finally:
                connection.execute("ROLLBACK")

    def events(self, query: str, values: tuple[object, ...]) -> list[Event]:
        """Return the events of a query over all columns; none when the journal does not exist yet."""
        with self._explain_errors():
            return [decode_event(row) for row in self.rows(query, values)]

    def json(self, query: str, values: tuple[object, ...], what: str) -> Json:
        """Return the JSON value that a query finds, None when there is none."""
        with self._explain_errors():
            rows = self.rows(query, values)
            return decode_json_value(rows[0][0], what) if rows else None

    def json_object(self, query: str, values: tuple[object, ...], what: str) -> Mapping[str, Json] | None:
        """Return the JSON object that a query finds, None when there is none."""
        with self._explain_errors():
            rows = self.rows(query, values)
            return decode_json_object(rows[0][0], what) if rows else None

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._mutex:
            if self._connection is not None:
                self._connection.close()
                self._connection = self._frozen = None

    def __del__(self) -> None:
        # sqlite3 holds a connection and its statements in a cycle, which would stay open until a collection.
        self.close()

    def _crash(self, name: str) -> None:
        if self._crash_point is not None:
            self._crash_point(name)

    @contextlib.contextmanager
    def _explain_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise explain(self._frozen or error, self.path) from error
        except DamagedRow as error:
            if error.where is None:
                error.what = f"the journal is damaged: {error.what}"
                error.where, error.hint = str(self.path), _explain_setting_aside(self.path)
            raise
        except (OverflowError, UnicodeEncodeError) as error:  # of sqlite3, which has no room for the value
            what = "the journal cannot keep a value: it is too large, or no text"
            raise JournalUnavailable(what, where=str(self.path)) from error

    def _exists(self) -> bool:
        # An empty file is what a crash leaves between creating it and its first table.
        try:
            return self.path.stat().st_size > 0
        except FileNotFoundError:
            return False
        except OSError as error:
            raise make_unreachable_error(error, self.path) from error

    def _open(self, *, create: bool) -> sqlite3.Connection:
        if create and self._frozen is not None:
            self.close()  # what was in the way may be gone
        if self._connection is None:
            if create:
                self._create_file()
            try:
                self._connection = self._connect("mode=rw")
            except sqlite3.Error as error:
                if create or getattr(error, "sqlite_errorcode", 0) & _PRIMARY in _DAMAGED | _HELD:
                    raise
                # Side files are made even to read: without room, or without a right to, the file is read as it lies.
                self._connection, self._frozen = self._connect("mode=ro&immutable=1"), error
        return self._connection

    def _connect(self, how: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"file:{_quote_uri_path(self.path)}?{how}",
            uri=True,
            timeout=self._busy_timeout_s,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            self._prepare(connection, may_write="immutable" not in how)
        except BaseException:
            connection.close()
            raise
        return connection

    def _create_file(self) -> None:
        try:
            make_private_folder(self.path.parent)
            create_database(self.path)  # SQLite gives its -wal and -shm files the mode of the database
        except OSError as error:
            raise make_unreachable_error(error, self.path) from error

    def _prepare(self, connection: sqlite3.Connection, *, may_write: bool) -> None:
        connection.execute("PRAGMA synchronous=FULL")
        version = self._version(connection)
        if version > schema.VERSION:
            raise JournalUnavailable(
                f"the journal was written by a newer backout (schema {version}, this one knows {schema.VERSION})",
                where=str(self.path),
                hint="upgrade backout on this machine; nothing was changed",
            )
        if version < schema.VERSION and may_write:
            self._migrate(connection)

    def _version(self, connection: sqlite3.Connection) -> int:
        """Return the schema's version, 0 of an empty file. Raises JournalUnavailable: it is another program's."""
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables:
            return 0
        if "schema_version" not in tables:
            raise JournalUnavailable(
                "the file is another program's database; nothing was changed",
                where=str(self.path),
                hint=describe_setting("journal", path=".backout/own-journal.sqlite"),
            )
        with self._explain_errors():
            newest = connection.execute("SELECT COALESCE(MAX(version), 0) FROM schema_version").fetchone()
            return int(decode_columns(newest, tuple[int], "the version of its tables")[0])

    def _migrate(self, connection: sqlite3.Connection) -> None:
        # Going over to WAL does not wait for another process that does the same: the file lock does.
        lock = FileLock(self.path.with_name(f"{self.path.name}.lock"))
        try:
            lock.take(wait=True)
        except OSError as error:
            raise _translate_to_sqlite(error) from error
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("BEGIN IMMEDIATE")
            try:
                for statement in schema.VERSION_TABLE:
                    connection.execute(statement)
                for version in range(self._version(connection), schema.VERSION):
                    for statement in schema.MIGRATIONS[version]:
                        connection.execute(statement)
                    connection.execute("INSERT INTO schema_version VALUES (?, ?)", (version + 1, float(self._now())))
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        finally:
            lock.free()


def _quote_uri_path(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def make_unreachable_error(error: OSError, path: Path) -> JournalUnavailable:
    """Return the meaning of the system's refusal of a file."""
    if error.errno in _ERRNO:
        return explain(_translate_to_sqlite(error), path)
    what = f"the journal cannot be reached ({error.strerror})"
    return JournalUnavailable(what, where=str(path), hint=f"look at it: ls -ld {shlex.quote(str(path.parent))}")


def _translate_to_sqlite(error: OSError) -> sqlite3.OperationalError:
    """Return the system's refusal of a file as SQLite tells it of its own files."""
    made = sqlite3.OperationalError(error.strerror or "input/output error")
    made.sqlite_errorcode = _ERRNO.get(error.errno or 0, sqlite3.SQLITE_IOERR)
    return made


def _make_damaged_error(found: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(found)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error
