"""Hyperdrive's rules for caching statements, and the cache; pure, with the clock passed in.

Source: Cloudflare, "Hyperdrive: query caching" (2026-07): reads are cached for `max_age`, and served for
`stale_while_revalidate` more while they are read anew; writes and statements that use a function which Postgres calls
volatile or stable are not. Functions are found by their text, so a name in a comment counts as well. Writes
invalidate nothing.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_AGE_S = 60.0
STALE_S = 15.0
LONGEST_ANSWER_BYTES = 50 * 1024 * 1024
_CACHE_BYTES = 64 * 1024 * 1024
_BLANKS = re.compile(r"\s+|--[^\n]*(?:\n|$)|/\*.*?\*/", re.DOTALL)
_LITERALS = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/|\$(\w*)\$.*?\$\1\$", re.DOTALL)
_READS = re.compile(r"\(*\s*(select|with|values|table)\b", re.IGNORECASE)
_WRITES = re.compile(
    r"\b(insert|update|delete|merge|truncate|create|alter|drop|grant|revoke|copy|call|lock|into"
    r"|for\s+(?:no\s+key\s+)?update|for\s+(?:key\s+)?share)\b",
    re.IGNORECASE,
)
_MOVING_WORDS = re.compile(
    r"\b(current_date|current_time|current_timestamp|localtime|localtimestamp|current_user|session_user|current_role"
    r"|current_catalog|current_schema|tablesample)\b",
    re.IGNORECASE,
)
_CALLS = re.compile(r"\b([a-z_][a-z0-9_]*)\s*\(", re.IGNORECASE)
_SESSION = re.compile(r"(set|reset|discard|listen|unlisten|prepare|deallocate|declare|load|do)\b", re.IGNORECASE)


class Policy(Value, frozen=True):
    """The caching and pooling of one configuration; the defaults are Hyperdrive's.

    Args:
        most_origins: connections to the database at once.
        slot_timeout_s: how long a session waits for one of them.
    """

    enabled: bool = True
    max_age_s: float = MAX_AGE_S
    stale_s: float = STALE_S
    most_origins: int = 60
    slot_timeout_s: float = 15.0


class Key(Value, frozen=True):
    """The identity of a query: its user and database, text, parameters and formats."""

    database: str
    user: str
    sql: bytes
    oids: tuple[int, ...] = ()
    formats: tuple[int, ...] = ()
    values: tuple[bytes | None, ...] = ()
    result_formats: tuple[int, ...] = ()


class Entry(Value, frozen=True):
    """An answer as messages: the description of its columns, its rows with the completion, its age."""

    columns: bytes
    rows: bytes
    stored_at: float
    describe: bytes = b""
    """ParameterDescription and RowDescription of the statement, where a client asked for it."""

    @property
    def size_bytes(self) -> int:
        """What it takes."""
        return len(self.columns) + len(self.rows) + len(self.describe)


@dataclass(slots=True)
class CacheCounts:
    """Counters of the cache."""

    hits: int = 0
    stale_hits: int = 0
    misses: int = 0
    uncacheable: int = 0


@dataclass(slots=True)
class QueryCache:
    """Entries by key, the least used ones evicted beyond 64 MB; `now` is a monotonic clock in seconds."""

    policy: Policy
    now: Callable[[], float]
    counts: CacheCounts = field(default_factory=CacheCounts)
    _entries: OrderedDict[Key, Entry] = field(default_factory=OrderedDict)
    _size_bytes: int = 0

    def find(self, key: Key) -> tuple[Entry, bool] | None:
        """Return (entry, whether it is stale), or None."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        age_s = self.now() - entry.stored_at
        if age_s > self.policy.max_age_s + self.policy.stale_s:
            self._remove(key)
            return None
        self._entries.move_to_end(key)
        return entry, age_s > self.policy.max_age_s

    def store(self, key: Key, entry: Entry) -> None:
        """Keep an answer, unless it is too large."""
        self._remove(key)
        if entry.size_bytes > LONGEST_ANSWER_BYTES:
            return
        self._entries[key] = entry
        self._size_bytes += entry.size_bytes
        while self._size_bytes > _CACHE_BYTES:
            self._remove(next(iter(self._entries)))

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()
        self._size_bytes = 0

    def _remove(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._size_bytes -= entry.size_bytes


def is_cacheable(sql: str, moving_functions: frozenset[str]) -> bool:
    """Whether Hyperdrive would cache this statement; `moving_functions` are Postgres's volatile and stable ones.

    >>> is_cacheable("SELECT * FROM models WHERE id = $1", frozenset({"now"}))
    True
    >>> is_cacheable("SELECT now()", frozenset({"now"})), is_cacheable("SELECT 1 -- not now()", frozenset({"now"}))
    (False, False)
    """
    start = _skip_blanks(sql)
    if not _READS.match(sql, start):
        return False
    bare = _LITERALS.sub(" ", sql)
    if _WRITES.search(bare) or bare.rstrip().rstrip(";").find(";") >= 0:
        return False
    if _MOVING_WORDS.search(sql):
        return False
    return not any(match.group(1).lower() in moving_functions for match in _CALLS.finditer(sql))


def changes_session(sql: str) -> bool:
    """Whether the statement may make this session's later answers differ from another's."""
    return bool(_SESSION.match(sql, _skip_blanks(sql))) or "set_config" in sql.lower()


def _skip_blanks(sql: str) -> int:
    at = 0
    while (blank := _BLANKS.match(sql, at)) and blank.end() > at:
        at = blank.end()
    return at
