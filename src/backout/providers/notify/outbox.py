"""The durable outbox beside the journal: a stored notice is delivered, by this process or by the next one.

One SQLite file for all processes of a host, opened for each call. A row of `letter`, as the table is called since its
first version, is one notice for one channel. Its sender holds it while sending; a holder that died holds nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
import uuid
from typing import TYPE_CHECKING, Any, Final

import msgspec

from backout.decoding import Undecodable, decode_json, parse_whole
from backout.errors import OutboxUnavailable
from backout.model.incident.notice import Notice, NoticeKind, QueuedNotice, QueueState
from backout.private import create_database, make_private_folder
from backout.sqlite_words import quote_in_brackets

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

PER_WINDOW: Final = 10
WINDOW_S: Final = 600.0
"""The most messages through one channel about one environment; the last one sums up the rest."""
CRITICAL_EVERY_S: Final = 60.0
"""Beyond that, what waits for a person is summed up this often."""
HOLD_S: Final = 120.0
_KEEP_S: Final = 35 * 86_400.0
_BUSY_S: Final = 2.0
_NEVER: Final = float("inf")
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS notice (key TEXT PRIMARY KEY, at REAL NOT NULL, content TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS letter (
    key TEXT NOT NULL REFERENCES notice, channel TEXT NOT NULL, environment TEXT NOT NULL, kind TEXT NOT NULL,
    state TEXT NOT NULL, tries INTEGER NOT NULL, at REAL NOT NULL, why TEXT NOT NULL DEFAULT '',
    message TEXT NOT NULL DEFAULT '', holder TEXT NOT NULL DEFAULT '', held_until REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (key, channel)
);
"""
_LETTERS: Final = (
    "SELECT n.key, n.at, l.environment, n.content, l.channel, l.state, l.tries, l.at, l.why"
    " FROM letter l JOIN notice n USING (key)"
)
Row = tuple[Any, ...]
_MOST_PID: Final = 2**31


class Outbox:
    """The file `path`, created with its folder at the first notice; `None`: in memory, for this process alone."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._me = f"{os.getpid()}:{uuid.uuid4().hex}"
        self._mutex = threading.Lock()
        self._memory: sqlite3.Connection | None = None

    @property
    def exists(self) -> bool:
        """Whether anything was ever kept in it."""
        return self._memory is not None if self.path is None else os.path.exists(self.path)  # noqa: PTH110 never raises

    def keep(self, notice: Notice, channels: Sequence[str], now: float) -> bool:
        """Keep a notice for these channels, durably; return False when it was there already.

        Raises:
            OutboxUnavailable: it is not kept.
        """
        content = json.dumps(msgspec.to_builtins(notice))
        with self._open(create=True) as db:
            new = db.execute("INSERT OR IGNORE INTO notice VALUES (?, ?, ?)", (notice.key, notice.at, content)).rowcount
            rows = [(notice.key, each, notice.environment, notice.kind, QueueState.WAITING, now) for each in channels]
            insert = "INSERT OR IGNORE INTO letter (key, channel, environment, kind, state, tries, at)"
            db.executemany(f"{insert} VALUES (?, ?, ?, ?, ?, 0, ?)", rows)
            old = (QueueState.WAITING, now - _KEEP_S)
            db.execute("DELETE FROM letter WHERE state != ? AND at < ?", old)
            db.execute("DELETE FROM notice WHERE key NOT IN (SELECT key FROM letter)")
        return bool(new)

    def take(self, channel: str, now: float) -> tuple[tuple[QueuedNotice, ...], float]:
        """Hold what is to be sent next as one message, and return it with the time at which to ask again.

        Without one the time is that of the next one that waits, or infinity.

        Raises:
            OutboxUnavailable: nothing is held.
        """
        if not self.exists:
            return (), _NEVER
        with self._open(create=False) as db:
            query = "SELECT key, environment, kind, at, holder, held_until FROM letter WHERE channel = ? AND state = ?"
            waiting = db.execute(f"{query} ORDER BY at, rowid", (channel, QueueState.WAITING)).fetchall()
            later = [max(row[3], self._held_until(row, now)) for row in waiting]
            due = [row for row, at in zip(waiting, later, strict=True) if at <= now]
            again = min((at for at in later if at > now), default=_NEVER)
            for environment in dict.fromkeys(row[1] for row in due):
                of_it = [row for row in due if row[1] == environment]
                chosen, free_at = _select_within_rate(of_it, _list_sent_at(db, channel, environment, now), now)
                if chosen:
                    return self._hold(db, channel, [row[0] for row in chosen], now), now
                again = min(again, free_at)
            return (), again

    def settle(self, queued: Sequence[QueuedNotice], state: QueueState, at: float, *, why: str = "") -> None:
        """Record how sending these notices, as one message, ended; they are held no longer.

        Raises:
            OutboxUnavailable: not recorded; they stay held until HOLD_S have passed.
        """
        message = uuid.uuid4().hex
        done = (
            "UPDATE letter SET state = ?, at = ?, why = ?, message = ?, tries = tries + 1, holder = '', held_until = 0"
        )
        rows = [(state, at, why, message, each.notice.key, each.channel, self._me) for each in queued]
        with self._open(create=False) as db:
            db.executemany(f"{done} WHERE key = ? AND channel = ? AND holder = ?", rows)

    def list_queued(self, environment: str | None = None, limit: int = 200) -> tuple[QueuedNotice, ...]:
        """Return the newest notices (about one environment), newest first. Raises OutboxUnavailable."""
        if not self.exists:
            return ()
        query = f"{_LETTERS} WHERE l.environment = ? OR ? IS NULL ORDER BY n.at DESC, n.rowid DESC, l.rowid LIMIT ?"
        with self._open(create=False) as db:
            rows = db.execute(query, (environment, environment, limit)).fetchall()
        return tuple(map(_read_queued_notice, rows))

    def counts(self) -> dict[QueueState, int]:
        """Return how many notices are in which state. Raises OutboxUnavailable."""
        if not self.exists:
            return {}
        with self._open(create=False) as db:
            rows = db.execute("SELECT state, COUNT(*) FROM letter GROUP BY state").fetchall()
        return {QueueState(state): count for state, count in rows}

    def __del__(self) -> None:
        if self._memory is not None:
            self._memory.close()

    def _hold(self, db: sqlite3.Connection, channel: str, keys: list[str], now: float) -> tuple[QueuedNotice, ...]:
        hold = "UPDATE letter SET holder = ?, held_until = ? WHERE key = ? AND channel = ?"
        db.executemany(hold, [(self._me, now + HOLD_S, key, channel) for key in keys])
        one = f"{_LETTERS} WHERE l.key = ? AND l.channel = ?"
        return tuple(_read_queued_notice(db.execute(one, (key, channel)).fetchone()) for key in keys)

    def _held_until(self, row: Row, now: float) -> float:
        """Return until when a living holder holds a notice; a holder that exceeds this is given up."""
        holder, until = row[4], row[5]
        if not holder or until <= now:
            return 0.0
        try:
            pid = parse_whole(holder.partition(":")[0], most=_MOST_PID)
        except Undecodable:
            return 0.0
        return float(until) if pid == os.getpid() or _lives(pid) else 0.0

    @contextlib.contextmanager
    def _open(self, *, create: bool) -> Iterator[sqlite3.Connection]:
        """Yield a connection inside a write transaction that is committed when the block ends."""
        try:
            with self._connect(create=create) as db:
                db.execute("BEGIN IMMEDIATE")
                try:
                    yield db
                    db.execute("COMMIT")
                finally:
                    if db.in_transaction:
                        db.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise OutboxUnavailable(self._explain(error)) from error
        except OSError as error:
            raise OutboxUnavailable(f"the outbox cannot be written ({error.strerror}): {self.path}") from error

    @contextlib.contextmanager
    def _connect(self, *, create: bool) -> Iterator[sqlite3.Connection]:
        if self.path is None:
            with self._mutex:  # one connection for all threads
                if self._memory is None:
                    self._memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
                    self._memory.executescript(_TABLES)
                yield self._memory
            return
        if create and not self.path.exists():
            make_private_folder(self.path.parent)
            create_database(self.path)
        db = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None)
        try:
            db.execute("PRAGMA synchronous=FULL")
            db.executescript(_TABLES)
            yield db
        finally:
            db.close()

    def _explain(self, error: sqlite3.Error) -> str:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return f"the outbox is damaged; move it away: mv {self.path} {self.path}.damaged"
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return f"another process keeps the outbox locked: {self.path}"
        return f"the outbox cannot be used{quote_in_brackets(error)}: {self.path}"


def _select_within_rate(due: list[Row], sent_at: list[float], now: float) -> tuple[list[Row], float]:
    """Return what to send as one message now, and when there is room again if that is nothing."""
    if len(sent_at) < PER_WINDOW - 1:
        return due[:1], now
    if len(sent_at) < PER_WINDOW:
        return due, now
    room_at = sent_at[-PER_WINDOW] + WINDOW_S
    if any(kind.is_critical for kind in NoticeKind if kind in {row[2] for row in due}):
        room_at = min(room_at, sent_at[-1] + CRITICAL_EVERY_S)
    return (due, now) if room_at <= now else ([], room_at)


def _list_sent_at(db: sqlite3.Connection, channel: str, environment: str, now: float) -> list[float]:
    """Return when messages were sent in the window, oldest first; a summary is one message."""
    query = "SELECT MIN(at) FROM letter WHERE channel = ? AND environment = ? AND state = ? AND at > ? GROUP BY message"
    values = (channel, environment, QueueState.DELIVERED, now - WINDOW_S)
    return sorted(row[0] for row in db.execute(query, values))


def _read_queued_notice(row: Row) -> QueuedNotice:
    key, told_at, environment, content, channel, state, tries, at, why = row
    try:
        notice = _decode_notice(decode_json(content, dict[str, Any]))
    except (Undecodable, ValueError, TypeError, KeyError):
        title, text = (
            "a notice that cannot be read here",
            "It was written by another version of backout, or is damaged.",
        )
        notice = Notice(NoticeKind.FAILED, environment, told_at, f"{environment}: {title}", text, key)
    return QueuedNotice(notice, channel, QueueState(state), tries, at, why)


def _decode_notice(content: dict[str, Any]) -> Notice:
    return Notice(**{**content, "kind": NoticeKind(content["kind"]), "next": tuple(content["next"])})


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
