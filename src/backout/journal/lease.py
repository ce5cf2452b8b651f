"""Who drives runs in an environment; the rule: every take raises the fence, and a write with an old one is refused.

A lease runs out by itself (a dead host); on the same host the file lock shows at once that its holder is gone.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import sys
import threading
from contextlib import suppress
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, Self

import msgspec

from backout.errors import BackoutError, Busy
from backout.journal.rows import Name, decode_columns
from backout.model.clock import to_utc
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backout.ports.journal_link import Connection

_COMMAND_CHARACTERS = 120
_MACHINE = "#"
"""What stands in a host before that which tells machines of the same name apart."""


def format_rfc3339(at: float) -> str:
    """Return Unix seconds as RFC 3339 UTC, to the second.

    >>> format_rfc3339(0.0)
    '1970-01-01T00:00:00Z'
    """
    return to_utc(at).strftime("%Y-%m-%dT%H:%M:%SZ")


class Holder(Value, frozen=True):
    """A process; `start` tells it from a later one with the same pid, "" where the system does not say."""

    host: str
    pid: int
    start: str
    command: str = ""

    def __str__(self) -> str:
        """Render the form of messages."""
        return f"pid {self.pid} on {self.name}" + (f" ({self.command})" if self.command else "")

    @property
    def name(self) -> str:
        """The machine's name alone, see `name_this_machine`."""
        return self.host.partition(_MACHINE)[0]

    def same_process(self, other: Holder) -> bool:
        """Whether both are the same process."""
        return (self.host, self.pid, self.start) == (other.host, other.pid, other.start)

    def is_alive(self) -> bool:
        """Whether exactly that process still runs; only meaningful on its own host."""
        found = _read_process_start(self.pid) if self.start else None
        return _has_process(self.pid) if found is None else found == self.start


def _read_process_start(pid: int) -> str | None:
    """Return when a process began, "" of a dead one; None: the system does not say (`hidepid`), or there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    # proc(5): field 3 is the state (Z: dead, not yet waited for), field 22 the start in ticks since boot.
    return "" if fields[0] in (b"Z", b"X") else fields[19].decode()


def _has_process(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@lru_cache(maxsize=1)
def _find_start(pid: int) -> str:
    return _read_process_start(pid) or ""


def name_this_machine() -> str:
    """Return a name that no other machine has, nor another container on this one: where pids mean the same processes.

    Two containers may have the same host name, and both a process 1.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
        space = os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116 - the link itself names it
    except OSError:
        boot, space = os.urandom(16), 0  # it is not known: nobody is on this machine then, and leases just run out
    told = hashlib.sha256(b"%s/%d" % (boot, space)).hexdigest()
    return f"{os.uname().nodename}{_MACHINE}{told[:12]}"


def make_own_holder(host: str | None = None) -> Holder:
    """Return this process, as a holder on `host` (by default this machine's name).

    Of its command line only the part before the first option is kept: an option may hold a secret.
    """
    typed = takewhile(lambda word: not word.startswith("-"), sys.argv[1:])
    words = shlex.join([Path(sys.argv[0]).name, *typed]) if sys.argv else ""
    words = words.encode("utf-8", "replace").decode()
    pid = os.getpid()
    return Holder(host or os.uname().nodename, pid, _find_start(pid), words[:_COMMAND_CHARACTERS])


class Lease(Value, frozen=True):
    """One environment's lease as stored; `holder` is None after a release."""

    environment: str
    fence: int
    run: str
    holder: Holder | None
    since: float
    expires_at: float

    def is_live(self, me: Holder, now: float) -> bool:
        """Whether a process drives the run, as far as a reader can tell without touching the lock."""
        if self.holder is None:
            return False
        return self.holder.is_alive() if self.holder.host == me.host else now < self.expires_at

    def is_free(self, me: Holder, now: float, *, locked: bool) -> bool:
        """Whether `me` may take it; `locked` says whether `me` got the file lock.

        On the holder's own host a live process is believed as long as it keeps the file lock, however late its
        heartbeat is (it may be stopped, not gone); from another host only the expiry counts.
        """
        if self.holder is None:
            return locked
        expired = self.expires_at <= now
        if self.holder.host != me.host:
            return expired
        alive = self.holder.is_alive()
        if locked:
            return expired or not alive or self.holder.same_process(me)
        return expired and not alive

    def who(self) -> str:
        """Return who holds it, and since when, for messages."""
        return (
            f"{self.holder}, since {format_rfc3339(self.since)}" if self.holder else "a process that is just starting"
        )


_Pid = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
_Row = tuple[Name, Annotated[int, msgspec.Meta(ge=0)], Name, Name, _Pid, Name, Name, float, float]
_COLUMNS = "environment, fence, run, host, pid, process_start, command, since, expires_at"


def read(connection: Connection, environment: str) -> Lease | None:
    """Return the environment's lease, or None when there never was one."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM lease WHERE environment = ?", (environment,)).fetchone()  # noqa: S608 constant columns
    return None if row is None else _decode(row)


def read_all(connection: Connection, prefix: str) -> list[Lease]:
    """Return the leases whose environment's name begins so, by name."""
    query = f"SELECT {_COLUMNS} FROM lease WHERE substr(environment, 1, ?) = ? ORDER BY environment"  # noqa: S608
    return [_decode(row) for row in connection.execute(query, (len(prefix), prefix)).fetchall()]


class LeaseRow(NamedTuple):
    """What a worker reads of each lease, once a second: with many of them the rest is most of the work."""

    name: str
    fence: int
    run: str
    host: str
    expires: float


def read_rows(connection: Connection, prefixes: Sequence[str]) -> list[LeaseRow]:
    """Return the leases whose environment's name begins with one of these, as far as a worker needs them."""
    condition, values = _write_condition(prefixes)
    query = f"SELECT environment, fence, run, host, expires_at FROM lease WHERE {condition}"  # noqa: S608
    rows: list[LeaseRow] = decode_columns(connection.execute(query, values).fetchall(), list[LeaseRow], "the leases")
    return rows


def extend_all(connection: Connection, prefixes: Sequence[str], host: str, expires_at: float) -> None:
    """Move the expiry of all leases that a process holds whose environment's name begins with one of these.

    Args:
        host: a name that only that process has.
    """
    condition, values = _write_condition(prefixes)
    query = f"UPDATE lease SET expires_at = ? WHERE host = ? AND ({condition})"  # noqa: S608
    connection.execute(query, (expires_at, host, *values))


def extend_and_hash(connection: Connection, prefixes: Sequence[str], host: str, now: float, expires_at: float) -> str:
    """Do as `extend_all`, and return a hash of who holds which of them by which fence; in one exchange, on Postgres.

    Those are what is hashed that had not run out when the statement began, and those that it extends.
    """
    condition, values = _write_condition(prefixes)
    query = (
        f"WITH extended AS (UPDATE lease SET expires_at = ? WHERE host = ? AND ({condition}))"  # noqa: S608
        " SELECT coalesce(md5(string_agg(concat_ws(' ', environment, fence, run, host), ',' ORDER BY environment)), '')"
        f" FROM lease WHERE ({condition}) AND host <> '' AND (host = ? OR ? < expires_at)"
    )
    found: str = connection.execute(query, (expires_at, host, *values, *values, host, now)).fetchone()[0]
    return found


def _write_condition(prefixes: Sequence[str]) -> tuple[str, list[object]]:
    condition = " OR ".join(["substr(environment, 1, ?) = ?"] * len(prefixes))
    return condition, [value for prefix in prefixes for value in (len(prefix), prefix)]


def _decode(row: object) -> Lease:
    name, fence, run, host, pid, start, command, since, expires_at = decode_columns(row, _Row, "the lease")
    return Lease(name, fence, run, Holder(host, pid, start, command) if host else None, since, expires_at)


def write(connection: Connection, lease: Lease) -> None:
    """Store a taken lease; the fence must be higher than before (a trigger refuses a lower one)."""
    holder = lease.holder
    values = (holder.host, holder.pid, holder.start, holder.command) if holder else ("", 0, "", "")
    connection.execute(
        f"INSERT INTO lease ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (environment) DO UPDATE SET"  # noqa: S608
        " fence = excluded.fence, run = excluded.run, host = excluded.host, pid = excluded.pid,"
        " process_start = excluded.process_start, command = excluded.command, since = excluded.since,"
        " expires_at = excluded.expires_at",
        (lease.environment, lease.fence, lease.run, *values, lease.since, lease.expires_at),
    )


def extend(connection: Connection, lease: Lease, expires_at: float) -> None:
    """Move the expiry, or raise Busy when the lease is no longer this one; the check and the move are one statement."""
    changed = connection.execute(
        "UPDATE lease SET expires_at = ? WHERE environment = ? AND fence = ?",
        (expires_at, lease.environment, lease.fence),
    ).rowcount
    if not changed:
        raise make_lost_error(lease, read(connection, lease.environment))


def check(connection: Connection, lease: Lease) -> None:
    """Raise Busy when the lease is no longer this one."""
    now = read(connection, lease.environment)
    if now is None or now.fence != lease.fence:
        raise make_lost_error(lease, now)


def release(connection: Connection, lease: Lease) -> None:
    """Give the lease back; when it is no longer this one, nothing happens."""
    connection.execute(
        "UPDATE lease SET host = '', pid = 0, process_start = '', command = '', expires_at = 0"
        " WHERE environment = ? AND fence = ?",
        (lease.environment, lease.fence),
    )


def make_lost_error(lease: Lease, now: Lease | None) -> Busy:
    """Return the error of a process whose lease was taken over while it was silent."""
    by = f"run {now.run}, {now.who()}" if now and now.holder else "another process"
    return Busy(
        f"{lease.environment} was taken over by {by}, while this process was silent for too long; it stops here",
        where=lease.run,
        hint=f"backout runs show {lease.run}",
    )


def make_forgotten_error(lease: Lease) -> Busy:
    """Return the error of a process whose lease is of a history that the database does not have any more."""
    return Busy(
        f"the journal's server lost its newest events, so the lease of {lease.environment} is void; this process stops"
        " here",
        where=lease.run,
        hint="backout runs list  # what the journal knows now",
    )


class Heartbeat:
    """A thread that calls `beat` every `every_s` seconds until it leaves the `with` block.

    An error of one beat is not handled here: the next write of the run meets and reports it.
    """

    def __init__(self, beat: Callable[[], None], every_s: float) -> None:
        self._beat = beat
        self._every_s = every_s
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="backout-heartbeat", daemon=True)

    def __enter__(self) -> Self:
        """Start."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and wait for a beat that is under way."""
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(self._every_s):
            with suppress(BackoutError):
                self._beat()
