"""A rescue's records for its undo, and which of them took effect: a transaction that was rolled back wrote nothing.

An entry is durable before the COMMIT that it belongs to, so there may be one for a transaction that never
committed: the process was killed, a lock was not to be had, a check at the end failed. The server knows how it ended.

Source: PostgreSQL 18, "Transaction ID and Snapshot Information Functions" (pg_xact_status, which forgets after a
while), "pg_locks" (a transaction holds a lock on its own id, and on that of each of its savepoints), "Timelines".
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any, Final

from backout.decoding import decode_json
from backout.errors import BackoutError
from backout.model.database.wal import parse_lsn
from backout.model.value import Value
from backout.private import open_unlinked
from backout.providers.postgres.provenance.packing import unpack_numbers
from backout.providers.postgres.schema.rowsql import KeyColumn

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

BETWEEN: Final = "between"
"""The file that holds, by table, the keys of rows that good transactions wrote between bad ones."""
AWAY: Final = "away"
"""The file that holds, by table, hashes of the keys of rows that stay away, since others removed them."""
WRITERS: Final = "writers"
"""The file that holds, one a line, the ids under which a rescue wrote."""
PLACES: Final = "places"
"""The file that holds, a line for each such id, on which timeline and how far in its WAL that was."""
COMMITTED: Final = "committed"
"""The file that holds the numbers of the entries whose transactions are known to have been committed."""
DAMAGE: Final = "damage"
"""The file that holds, one a line, the ids of the damage that a rescue is of."""
RENUMBERED: Final = "renumbered-{}.tsv"
"""The file that holds the old and the new numbers of rows of a table, by its object id."""
UNDONE: Final = "undone"
"""The file that is there once an undo of a rescue has begun."""
_WRITER: Final = (
    "SELECT transactionid::text FROM pg_locks WHERE locktype = 'transactionid' AND pid = pg_backend_pid() "
    "AND mode = 'ExclusiveLock' AND granted"
)
_PLACE: Final = (
    "SELECT ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint, "
    "pg_current_wal_insert_lsn()::text"
)
_HISTORY: Final = "SELECT pg_read_file(%s::text, 0, 1000000, true)"
_ENDS_S: Final = 30.0
"""A transaction whose client was killed ends when the server is done with the statement."""


class Past(Value, frozen=True):
    """The timelines that the live cluster has followed.

    Args:
        timeline: the current one.
        switches: by timeline, up to which place in its WAL; None where that may not be read.
    """

    timeline: int
    switches: Mapping[int, int] | None

    @classmethod
    def read(cls, live: Any) -> Past:
        """Ask the live server; reading the history takes a superuser, or pg_read_server_files."""
        import psycopg

        timeline, _ = _read_place(live)
        try:
            (text,) = live.execute(_HISTORY, (f"pg_wal/{timeline:08X}.history",)).fetchone()
        except psycopg.errors.InsufficientPrivilege:
            return cls(timeline, {} if timeline == 1 else None)
        lines = (line.split() for line in (text or "").splitlines())
        return cls(timeline, {int(line[0]): parse_lsn(line[1]) for line in lines if line and line[0].isdecimal()})

    def holds(self, timeline: int, lsn: int) -> bool | None:
        """Whether what was written there has happened in this cluster; None when unknown."""
        if timeline == self.timeline:
            return True
        if self.switches is None:
            return None
        return lsn <= self.switches.get(timeline, -1)


class Kept:
    """The folder in which a rescue keeps what it replaced: numbered entries, each durable before its commit."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _sync(folder.parent)
        self._writers: set[int] = set()
        self._next = 1 + max((int(path.stem) for path in folder.glob("*.json")), default=0)

    @property
    def writers(self) -> frozenset[int]:
        """The ids under which this process wrote."""
        return frozenset(self._writers)

    @property
    def is_undone(self) -> bool:
        """Whether an undo of this rescue was begun."""
        return (self.folder / UNDONE).exists()

    @property
    def damage(self) -> frozenset[int]:
        """The ids of the damage that the rescue is of; none where it was not noted."""
        path = self.folder / DAMAGE
        return frozenset(map(int, path.read_text(encoding="ascii").split())) if path.exists() else frozenset()

    def note_damage(self, xids: Collection[int]) -> None:
        """Keep which damage the rescue is of."""
        write_durably(self.folder / DAMAGE, "".join(f"{xid}\n" for xid in sorted(xids)).encode())

    def note_undone(self) -> None:
        """Keep that an undo begins."""
        write_durably(self.folder / UNDONE, b"")

    def write(self, live: Any, entry: dict[str, Any], content: Sequence[bytes] = ()) -> None:
        """Keep an entry of the transaction that is open, and the rows that belong to it, as COPY wrote them."""
        number, self._next = self._next, self._next + 1
        (xid,) = live.execute("SELECT pg_current_xact_id()::text").fetchone()
        timeline, lsn = _read_place(live)
        whole = {**entry, "transaction": str(xid), "timeline": timeline, "lsn": lsn}
        write_durably(self.folder / f"{number:06}.copy", b"".join(content))
        write_durably(self.folder / f"{number:06}.json", json.dumps(whole).encode())

    def note_writer(self, live: Any) -> None:
        """Record the ids under which this transaction writes, to distinguish its rows from those of others.

        A savepoint has an id of its own, which is known while it lasts alone: by the lock that it holds on it.
        """
        found = {int(xid) for (xid,) in live.execute(_WRITER).fetchall()} - self._writers
        if not found:
            return
        timeline, lsn = _read_place(live)
        _append(self.folder / PLACES, (f"{xid} {timeline} {lsn}" for xid in sorted(found)))
        _append(self.folder / WRITERS, map(str, sorted(found)))
        self._writers |= found

    def note_between(self, oid: int, keys: Collection[str]) -> None:
        """Keep which rows of a table good transactions wrote between bad ones, by key in hexadecimal."""
        path, known = self.folder / BETWEEN, self._by_table(BETWEEN)
        write_durably(path, json.dumps({**known, str(oid): sorted(keys)}).encode())

    def note_away(self, oid: int, hashes: str) -> None:
        """Keep which rows of a table stay away, since others removed them: hashes of their keys, packed."""
        path, known = self.folder / AWAY, self._by_table(AWAY)
        write_durably(path, json.dumps({**known, str(oid): [*known.get(str(oid), ()), hashes]}).encode())

    def away(self) -> dict[int, frozenset[int]]:
        """Return those hashes, by table's object id."""
        known = self._by_table(AWAY)
        return {int(oid): frozenset[int]().union(*map(unpack_numbers, parts)) for oid, parts in known.items()}

    def list_keys(self, oid: int, lines: str) -> Path:
        """Keep a list of keys of a table for a person to read, and return its file."""
        path = self.folder / f"newer-{oid}.txt"
        write_durably(path, lines.encode())
        return path

    def note_renumbered(self, live: Any, oid: int, column: str, numbers: Mapping[int, int]) -> Path:
        """Keep which numbers old rows of a table get for theirs, for a person to read as well; return the file.

        Args:
            column: what it is of, such as `public.orders.id`.
            numbers: the new ones by the old ones.
        """
        timeline, lsn = _read_place(live)
        path = self.locate_renumbered(oid)
        head = json.dumps({"column": column, "timeline": timeline, "lsn": lsn})
        lines = (f"{old}\t{new}\n" for old, new in sorted(numbers.items()))
        write_durably(path, f"{head}\n{''.join(lines)}".encode())
        return path

    def locate_renumbered(self, oid: int) -> Path:
        """Return the file that holds the new numbers of a table's rows."""
        return self.folder / RENUMBERED.format(oid)

    def renumbered(self, live: Any) -> dict[int, dict[int, int]]:
        """Return those numbers by the table's object id, where they were given out in this cluster's past."""
        found, past = {}, None
        for path in sorted(self.folder.glob(RENUMBERED.format("*"))):
            past = past or Past.read(live)
            head, numbers = read_renumbered(path)
            if past.holds(int(head["timeline"]), int(head["lsn"])) is True:
                found[int(path.stem.rpartition("-")[2])] = numbers
        return found

    def settle(self, live: Any) -> None:
        """Ask the server how the transactions of the entries ended, and keep it: it forgets.

        Raises:
            BackoutError: one of them is still under way.
        """
        past, known = Past.read(live), self._read_committed()
        names = [path.stem for path in sorted(self.folder.glob("*.json"))]
        found = [name for name in names if name not in known and _is_committed(live, past, self._entry(name)) is True]
        if found:
            _append(self.folder / COMMITTED, found)

    def entries(self, live: Any) -> tuple[list[tuple[dict[str, Any], bytes]], list[dict[str, Any]]]:
        """Return what happened, with its rows, and the entries for which that is no longer known; newest first."""
        found, unknown = [], []
        for path, entry, did in [*self._list_transactions(live)][::-1]:
            if did:
                found.append((entry, path.read_bytes()))
            elif did is None:
                unknown.append(entry)
        return found, unknown

    def list_committed(self, live: Any) -> Iterator[tuple[dict[str, Any], Path]]:
        """Yield the entries that are known to have happened, oldest first, each with the file that holds its rows.

        Raises:
            BackoutError: a transaction of the rescue is still under way.
        """
        yield from ((entry, path) for path, entry, did in self._list_transactions(live) if did)

    def _list_transactions(self, live: Any) -> Iterator[tuple[Path, dict[str, Any], bool | None]]:
        """Yield the file of rows and the entry of each transaction, and whether it was committed; oldest first."""
        past, known = None, self._read_committed()
        for path in sorted(self.folder.glob("*.json")):
            past = past or Past.read(live)
            entry = self._entry(path.stem)
            did = _has_happened(past, entry) if path.stem in known else _is_committed(live, past, entry)
            yield path.with_suffix(".copy"), entry, did

    def _by_table(self, name: str) -> dict[str, list[str]]:
        path = self.folder / name
        return decode_json(path.read_bytes(), dict[str, list[str]], what=name) if path.exists() else {}

    def has(self, live: Any, **wanted: object) -> bool:
        """Whether something with these values has happened."""
        entries, _ = self.entries(live)
        return any(all(entry.get(k) == v for k, v in wanted.items()) for entry, _ in entries)

    def _entry(self, name: str) -> dict[str, Any]:
        path = self.folder / f"{name}.json"
        return decode_json(path.read_bytes(), dict[str, Any], what="what a rescue kept", where=str(path))

    def _read_committed(self) -> frozenset[str]:
        path = self.folder / COMMITTED
        return frozenset(path.read_text(encoding="ascii").split()) if path.exists() else frozenset()


def read_own_ids(folder: Path, live: Any) -> frozenset[int]:
    """Return the ids under which rescues and their undos wrote rows of this cluster.

    After a restore of the whole to a moment before, ids come again: they then belong to other transactions.

    Args:
        folder: in which each of them has a folder.
    """
    found: set[int] = set()
    past: Past | None = None
    for path in sorted(folder.glob(f"*/{WRITERS}")):
        past = past or Past.read(live)
        ids = {int(line) for line in path.read_text(encoding="ascii").splitlines() if line.isdecimal()}
        found |= ids - _read_foreign_ids(path.with_name(PLACES), past)
    return frozenset(found)


def read_renumbered(path: Path) -> tuple[dict[str, Any], dict[int, int]]:
    """Return what a file of new numbers is of: column, timeline, lsn; and the new numbers by the old ones."""
    head, *lines = path.read_text(encoding="utf-8").splitlines()
    pairs = (line.split("\t") for line in lines)
    return decode_json(head, dict[str, Any], what="new numbers", where=str(path)), {int(o): int(n) for o, n in pairs}


def encode_key(key: Sequence[KeyColumn]) -> dict[str, Any]:
    """Return what an entry keeps of a key."""
    return {"key": list(key), "equals": [each.equals for each in key]}


def get_kept_key(entry: dict[str, Any]) -> list[KeyColumn]:
    """Return the key of an entry; one of an earlier version compares by operators of Postgres's own."""
    key = [KeyColumn.of(str(name)) for name in entry["key"]]
    for column, operator in zip(key, entry.get("equals", ()), strict=False):
        column.equals = str(operator)
    return key


def write_durably(path: Path, content: bytes) -> None:
    """Write a file that is either not there or whole, also after the machine has lost its power.

    Only its owner may read it.
    """
    making = path.with_suffix(".making")
    with open(making, "wb", opener=open_unlinked) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    making.rename(path)
    _sync(path.parent)


def _append(path: Path, lines: Iterator[str] | Sequence[str]) -> None:
    is_new = not path.exists()
    with open(path, "a", encoding="ascii", opener=open_unlinked) as file:
        file.writelines(f"{line}\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        _sync(path.parent)


def _sync(folder: Path) -> None:
    """Let the names in a folder be durable as the files are."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_place(live: Any) -> tuple[int, int]:
    """Return on which timeline the server is, and how far its WAL goes."""
    timeline, lsn = live.execute(_PLACE).fetchone()
    return int(timeline), parse_lsn(str(lsn))


def _read_foreign_ids(path: Path, past: Past) -> set[int]:
    """Return the ids that are not known to have been given out in this cluster's past."""
    if not path.exists():  # an earlier version did not note it
        return set()
    lines = (line.split() for line in path.read_text(encoding="ascii").splitlines())
    return {int(xid) for xid, timeline, lsn in lines if past.holds(int(timeline), int(lsn)) is not True}


def _has_happened(past: Past, entry: Mapping[str, Any]) -> bool | None:
    return past.holds(int(entry["timeline"]), int(entry["lsn"]))


def _is_committed(live: Any, past: Past, entry: Mapping[str, Any]) -> bool | None:
    """Whether the transaction of an entry was committed; None when the server has forgotten it."""
    from psycopg.errors import InvalidParameterValue

    if "transaction" not in entry:  # of an earlier version, which did not note it
        return True
    if not (happened := _has_happened(past, entry)):
        return happened
    deadline = time.monotonic() + _ENDS_S
    while True:
        try:
            (status,) = live.execute("SELECT pg_xact_status(%s::text::xid8)", (entry["transaction"],)).fetchone()
        except InvalidParameterValue:  # it lies in the future
            return False
        if status != "in progress":
            return None if status is None else bool(status == "committed")
        if time.monotonic() > deadline:
            raise BackoutError(
                "a transaction of the rescue is still under way on the server",
                where="database",
                hint="try again when it has ended: SELECT pid, state, query FROM pg_stat_activity",
            )
        time.sleep(0.2)
