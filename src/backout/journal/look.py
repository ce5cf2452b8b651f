"""Inspect the journal's file without changing it, not even the version of its tables."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time
from typing import TYPE_CHECKING, Final

from backout.journal import schema
from backout.journal.rows import JournalUnavailable, decode_columns
from backout.journal.sqlite_store import explain, make_moved_error, make_unreachable_error
from backout.model.checkup import JournalLook

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE_S: Final = 2.0
_FOR_GOOD: Final = frozenset(
    {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
)
"""Error codes that another way of opening would not change."""


def look_at_journal(path: Path) -> JournalLook:
    """Return the state of the journal: never raises, and waits at most two seconds for a writer."""
    free, place = _measure_free_bytes(path), str(path)
    emptied = False
    try:
        size = path.stat().st_size
        emptied = not size
    except FileNotFoundError:
        size = 0
    except OSError as error:
        return _describe_unusable(make_unreachable_error(error, path), path, free)
    if not size:
        refused = _cannot_be_made(path)
        hint = f"check who owns it: ls -ld {path.parent}" if refused else ""
        return JournalLook(
            place, exists=False, emptied=emptied, refused=refused, hint=hint, known=schema.VERSION, free_bytes=free
        )
    try:
        version, events, forbidden = _read_state(path)
    except sqlite3.Error as error:
        return _describe_unusable(explain(error, path), path, free)
    except JournalUnavailable as error:
        return _describe_unusable(error, path, free)
    except Exception as error:  # noqa: BLE001 a damaged file may hold anything
        return _describe_unusable(JournalUnavailable(f"the journal is damaged: {type(error).__name__}"), path, free)
    if version is not None and version >= schema.MOVED:
        return _describe_unusable(make_moved_error(path), path, free)
    return JournalLook(
        place,
        exists=True,
        hint="" if forbidden is None else forbidden.hint or "",
        version=version,
        known=schema.VERSION,
        events=events,
        refused="" if forbidden is None else str(forbidden.what),
        free_bytes=free,
    )


def _describe_unusable(error: JournalUnavailable, path: Path, free: int | None) -> JournalLook:
    what, hint = str(error.what), error.hint or ""
    return JournalLook(
        str(path), exists=True, problem=what, hint=hint, known=schema.VERSION, refused=what, free_bytes=free
    )


def _read_state(path: Path) -> tuple[int | None, int, JournalUnavailable | None]:
    """Return the version of the tables, how many events there are, and what forbids writing."""
    try:
        with contextlib.closing(_connect(path, "mode=rw")) as connection:
            return *_read(connection), _try_write(connection, path)
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _FOR_GOOD:
            raise
        # Side files are made even to read: without room, or without a right to, the file is read as it lies.
        with contextlib.closing(_connect(path, "mode=ro&immutable=1")) as connection:
            return *_read(connection), explain(error, path)


def _connect(path: Path, how: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, timeout=PATIENCE_S, isolation_level=None)


def _read(connection: sqlite3.Connection) -> tuple[int | None, int]:
    """Return the version of the tables and how many events there are; the newest event is read."""
    tables = {str(name) for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "schema_version" not in tables:
        if tables:
            raise JournalUnavailable(
                "the file is another program's database", hint="name another file as journal.path in backout.toml"
            )
        return None, 0
    newest = connection.execute("SELECT COALESCE(MAX(version), 0) FROM schema_version").fetchone()
    version = int(decode_columns(newest, tuple[int], "the version of its tables")[0])
    if version == 0 or version > schema.VERSION:
        return version, 0
    (seq,) = decode_columns(connection.execute("SELECT seq FROM head").fetchone(), tuple[int], "the head of the chain")
    connection.execute("SELECT data FROM event WHERE seq = ?", (seq,)).fetchall()
    _check_pages(connection)
    return version, int(seq)


def _check_pages(connection: sqlite3.Connection) -> None:
    """Have SQLite read every page, within the time allowed. Raises sqlite3.Error: one is damaged."""
    until = time.monotonic() + PATIENCE_S
    connection.set_progress_handler(lambda: time.monotonic() > until, 10_000)
    try:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", 0) != sqlite3.SQLITE_INTERRUPT:
            raise
        return  # a large file: the part that was read is intact
    finally:
        connection.set_progress_handler(None, 0)
    if found != "ok":
        damage = sqlite3.DatabaseError("a page is not as it was written")
        damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise damage


def _try_write(connection: sqlite3.Connection, path: Path) -> JournalUnavailable | None:
    """Begin a write transaction and roll it back: nothing is written, and an obstacle shows."""
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"PRAGMA user_version = {int(version)}")  # a file opened read-only takes none
        connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        return explain(error, path)
    return None


def _cannot_be_made(path: Path) -> str:
    folder = path.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
        return ""
    return f"the journal cannot be made: {folder} may not be written"


def _measure_free_bytes(path: Path) -> int | None:
    folder = path.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    with contextlib.suppress(OSError):
        return shutil.disk_usage(folder).free
    return None
