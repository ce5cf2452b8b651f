"""What a person did while the journal's server was away; the rule: recorded here at once, merged there once, shown so.

A spool is a journal in a file of its own, with a chain of its own. Its events are appended to the server's chain with
the time at which they were, and with their place in the spool as `spooled`; then the file is closed and put aside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from backout.errors import Busy
from backout.journal import lease as leases
from backout.journal import schema
from backout.journal.chain import COLUMNS
from backout.journal.execute import make_abort_entry
from backout.journal.ledger import find_newest
from backout.journal.rows import decode_columns, decode_json_object
from backout.journal.store import Entry
from backout.model.person import SPOOLED
from backout.model.value import Value

if TYPE_CHECKING:
    from pathlib import Path

    from backout.journal.lease import Holder
    from backout.journal.sqlite_store import SqliteStore
    from backout.journal.store import Store, Transaction
    from backout.model.incident.incident import Event

MERGED = "journal.merged"
"""The kind of the event that ends a merge; its data: `spool` (the hash of its first event), `seq`, `host`, `events`."""


class _Merge(msgspec.Struct):
    spool: str
    seq: int


class Merged(Value, frozen=True):
    """What a merge did.

    Args:
        events: how many came to the server now.
        environments: of which.
    """

    events: int
    environments: tuple[str, ...]


def merge(spool: SqliteStore, target: Store, me: Holder, *, actor: str) -> Merged:
    """Append the spool's events to the server's journal, each once, in one transaction, and close the spool.

    A run that the server's journal has open in such an environment was overtaken: without a driver it is aborted.

    Raises:
        Busy: a run is under way in the spool, or there; nothing was merged.
        JournalUnavailable: one of the two cannot be used.
    """
    events = spool.events(f"SELECT {COLUMNS} FROM event ORDER BY seq", ())  # noqa: S608 constant columns
    environments = tuple(dict.fromkeys(event.environment for event in events))
    _refuse_driven(spool, environments)
    done = 0
    if events:
        with target.write("merge") as transaction:
            after = _find_merged(transaction, events[0].hash)
            left = [event for event in events if event.seq > after]
            for environment in dict.fromkeys(event.environment for event in left if event.run):
                _end_overtaken(transaction, environment, me, actor)
            for event in left:
                _append(transaction, event)
            if left:
                data = {"spool": events[0].hash, "seq": left[-1].seq, "host": me.name, "events": len(left)}
                transaction.append(Entry(MERGED, data=data), environment=left[-1].environment, actor=actor)
            done = len(left)
    _close(spool)
    return Merged(done, environments)


def _refuse_driven(spool: SqliteStore, environments: tuple[str, ...]) -> None:
    with spool.reading() as connection:
        for environment in environments if connection is not None else ():
            assert connection is not None
            lease = leases.read(connection, environment)
            if lease is not None and lease.is_live(leases.make_own_holder(), spool.read_now(connection)):
                raise Busy(f"run {lease.run} is under way without the journal: {lease.who()}", where=environment)


def _find_merged(transaction: Transaction, spool: str) -> int:
    """Return up to which event the spool was merged already."""
    rows = transaction.connection.execute("SELECT data FROM event WHERE kind = ? ORDER BY seq", (MERGED,)).fetchall()
    found = [decode_columns(decode_json_object(text, "a merge"), _Merge, "a merge") for (text,) in rows]
    return max((each.seq for each in found if each.spool == spool), default=0)


def _end_overtaken(transaction: Transaction, environment: str, me: Holder, actor: str) -> None:
    record = find_newest(transaction.connection, environment)
    if record is None or record.is_over:
        return
    lease = leases.read(transaction.connection, environment)
    if lease is not None and lease.is_live(me, transaction.now):
        raise Busy(
            f"run {record.id}, which was overtaken while the journal was away, is under way: {lease.who()}",
            where=environment,
            hint=f"backout runs abort {record.id}",
        )
    transaction.append(make_abort_entry(record), environment=environment, actor=actor)


def _append(transaction: Transaction, event: Event) -> None:
    data: dict[str, object] = {**event.data, SPOOLED: {"seq": event.seq, "hash": event.hash}}
    entry = Entry(event.kind, event.run, event.step, data)
    transaction.append(entry, environment=event.environment, actor=event.actor, at=event.at)


def _close(spool: SqliteStore) -> None:
    with spool.write("merged") as transaction:
        for statement in () if spool.is_closed() else schema.CLOSING:
            transaction.connection.execute(statement, (transaction.now,) if "?" in statement else ())
    spool.close()


def put_aside(path: Path, at: float) -> Path:
    """Rename a spool that was merged, so that the next one begins anew; return where it is kept."""
    kept = path.with_name(f"{path.stem}.merged-{round(at)}{path.suffix}")
    return path.rename(kept)
