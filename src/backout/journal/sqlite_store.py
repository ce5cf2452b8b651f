"""The SQLite file of the journal; the rule: one writer at a time, each change is one durable transaction or nothing.

WAL with synchronous=FULL: what was committed survives the loss of power. Not for network disks.
"""

from __future__ import annotations

import contextlib
import errno
import shlex
import sqlite3
import threading
from typing import TYPE_CHECKING

from backout.journal import schema
from backout.journal.chain import COLUMNS, ChainReport, check
from backout.journal.lock import FileLock
from backout.journal.rows import JournalUnavailable, decode_columns, reading
from backout.journal.store import Store, Transaction, make_newer_error, read_head
from backout.model.setting import describe_setting
from backout.private import create_database, make_private_folder
from backout.sqlite_words import quote_in_brackets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from backout.journal.store import Mask
    from backout.ports.journal_link import Connection

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


class SqliteStore(Store):
    """The file; see `Store`.

    Args:
        path: the database file.
        now: Unix seconds.
        busy_timeout_s: how long to wait for another writer.
        even_moved: whether it may be read after its events were moved to a server.
    """

    HAS_PART = "instr(data, ?) > 0"

    def __init__(
        self,
        path: Path,
        now: Callable[[], float],
        *,
        mask: Mask = lambda value: value,
        busy_timeout_s: float = 15.0,
        crash_point: Callable[[str], None] | None = None,
        even_moved: bool = False,
    ) -> None:
        super().__init__(mask, crash_point)
        self.path = path
        self._now = now
        self._busy_timeout_s = busy_timeout_s
        self._even_moved = even_moved
        self._connection: sqlite3.Connection | None = None
        self._frozen: sqlite3.Error | None = None
        self._mutex = threading.RLock()

    @property
    def place(self) -> str:
        """The file."""
        return str(self.path)

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
    def write(self, name: str, *, chained: bool = True) -> Iterator[Transaction]:  # noqa: ARG002 - the file has one writer
        """Open a transaction, see `Store.write`."""
        with self._mutex, self.explaining():
            connection = self._open(create=True)
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield Transaction(connection, float(self._now()), self.mask)
                self._crash(f"before commit: {name}")
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:  # an error, or a commit that was refused
                    connection.execute("ROLLBACK")
            self._crash(f"after commit: {name}")

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection | None]:
        """Lend the connection for several reads, or None when the journal does not exist yet."""
        with self._mutex, self.explaining():
            absent = self._connection is None and not self._exists()
            yield None if absent else self._open(create=False)

    def verify(self) -> ChainReport:
        """Check every event against the hash chain, and the file against SQLite's own integrity check.

        Raises:
            JournalUnavailable: the file is damaged, or cannot be read.
        """
        with self._mutex, self.explaining():
            if self._connection is None and not self._exists():
                return ChainReport(0)
            connection = self._open(create=False)
            found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if found != "ok":
                raise explain(_make_damaged_error(found), self.path)
            connection.execute("BEGIN")  # one snapshot for the rows and their head
            try:
                head = read_head(connection)
                with reading("an event"):
                    return check(connection.execute(f"SELECT {COLUMNS} FROM event ORDER BY seq"), head)  # noqa: S608
            finally:
                connection.execute("ROLLBACK")

    def is_closed(self) -> bool:
        """Return whether its events are kept elsewhere and it takes no more. Raises JournalUnavailable."""
        return bool(self.rows("SELECT 1 FROM schema_version WHERE version >= ?", (schema.MOVED,)))

    def read_now(self, _connection: Connection) -> float:
        """Return the time by this machine's clock: all who use the file are on it."""
        return float(self._now())

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._mutex:
            if self._connection is not None:
                self._connection.close()
                self._connection = self._frozen = None

    def __del__(self) -> None:
        # sqlite3 holds a connection and its statements in a cycle, which would stay open until a collection.
        self.close()

    def _explain(self, error: Exception) -> JournalUnavailable | None:
        return explain(self._frozen or error, self.path) if isinstance(error, sqlite3.Error) else None

    def _explain_setting_aside(self) -> str:
        return _explain_setting_aside(self.path)

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
        if version >= schema.MOVED:
            if self._even_moved:
                return
            raise make_moved_error(self.path)
        if version > schema.VERSION:
            raise make_newer_error(version, schema.VERSION, str(self.path))
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
        with self.explaining():
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


def make_moved_error(path: Path) -> JournalUnavailable:
    """Return the error of a file whose events were moved to a server."""
    return JournalUnavailable(
        "the journal was moved to a server; this file is only kept",
        where=str(path),
        hint=describe_setting("journal", url_env="BACKOUT_JOURNAL_URL"),
    )


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
