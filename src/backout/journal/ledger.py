"""What the holder of a lease may write; the rule: each write re-checks the fence in its own transaction."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout import __version__
from backout.journal import lease as leases
from backout.journal.approvals import make_request_data
from backout.journal.history import RunRecord, fold, make_plan_data
from backout.journal.rows import decode_event
from backout.journal.store import Entry, Store, Transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from backout.journal.lease import Holder, Lease
    from backout.journal.people import People
    from backout.model.incident.incident import Event
    from backout.model.plan import Json, Plan
    from backout.ports.journal_link import Connection

# The condition is written as in the partial index, or SQLite does not use it.
# All columns: on a server there is one more than in a file, the last.
_OF_RUN = "SELECT * FROM event WHERE run = ? AND kind <> 'step.progress' ORDER BY seq"
_PROGRESS = "SELECT data FROM event WHERE run = ? AND step = ? AND kind = 'step.progress' ORDER BY seq DESC LIMIT 1"
_ABORT = "SELECT 1 FROM event WHERE run = ? AND kind <> 'step.progress' AND kind = 'run.asked' AND data LIKE ? LIMIT 1"

_PAUSE = (
    "SELECT data FROM event WHERE run = ? AND kind <> 'step.progress' AND kind = 'run.asked' "
    "AND (data LIKE ? OR data LIKE ?) ORDER BY seq DESC LIMIT 1"
)


def load(connection: Connection, run: str) -> RunRecord | None:
    """Return the run with exactly this id, or None."""
    return fold(decode_event(row) for row in connection.execute(_OF_RUN, (run,))).get(run)


def load_all(connection: Connection, runs: Sequence[str]) -> list[RunRecord]:
    """Return the runs with exactly these ids, in this order; those that there are not are left out."""
    if not runs:
        return []
    places = ", ".join("?" * len(runs))
    query = f"SELECT * FROM event WHERE run IN ({places}) AND kind <> 'step.progress' ORDER BY seq"  # noqa: S608
    found = fold(decode_event(row) for row in connection.execute(query, runs))
    return [found[run] for run in runs if run in found]


def find_newest(connection: Connection, environment: str) -> RunRecord | None:
    """Return the run submitted last: the only one that can be unfinished, as no other is accepted before its end."""
    query = "SELECT run FROM event WHERE kind = 'run.submitted' AND environment = ? ORDER BY seq DESC LIMIT 1"
    row = connection.execute(query, (environment,)).fetchone()
    return load(connection, str(row[0])) if row else None


def is_leaving(store: Store, environment: str, me: Holder) -> bool:
    """Whether the holder of a file lock has nothing left to drive: its run is over, or it was killed.

    A killed process counts as dead when its first thread is gone; its files close with the last one (the heart).
    """
    with store.reading() as connection:
        lease = leases.read(connection, environment) if connection else None
        if connection is None or lease is None or lease.holder is None:
            return lease is not None  # given back, the lock not yet; without any lease it is just starting
        if lease.holder.host != me.host:
            return False
        run = load(connection, lease.run)
    return not lease.holder.is_alive() or (run is not None and run.is_over)


def make_submission(connection: Connection, plan: Plan, reason: str, request: int = 0) -> Entry:
    """Return the entry that accepts the plan, the whole plan in it, under an id that no run has.

    The id is drawn, not taken from the plan: two machines may make the same plan at once, and each tells its own
    deployments from the other's by the run in their messages.

    Args:
        request: the number of the request on the pages that it is done for, 0 for none.
    """
    run = f"{plan.kind}-{os.urandom(4).hex()}"
    while connection.execute("SELECT 1 FROM event WHERE run = ? LIMIT 1", (run,)).fetchone():
        run = f"{plan.kind}-{os.urandom(4).hex()}"
    data = {
        "plan": make_plan_data(plan),
        "hash": plan.hash,
        "reason": reason,
        "cause": plan.cause,
        "version": __version__,
        **make_request_data(request),
    }
    return Entry("run.submitted", run, data=data)


class Ledger:
    """The journal in the hands of the lease's holder.

    Args:
        notify: sees each event after its commit.
        ttl_s: every write moves the lease's expiry this far ahead.
        history: the one that the lease is of, see `Store.history`.
    """

    def __init__(
        self,
        store: Store,
        lease: Lease,
        *,
        history: int,
        ttl_s: float,
        actor: str,
        notify: Callable[[Event], None] | None,
    ) -> None:
        self._store = store
        self._history = history
        self._ttl_s = ttl_s
        self._actor = actor
        self._notify = notify
        self.lease = lease

    @property
    def run(self) -> str:
        """Id of the run that is being driven."""
        return self.lease.run

    def load(self) -> RunRecord:
        """Return the run being driven as recorded now."""
        with self._store.reading() as connection:
            record = load(connection, self.run) if connection else None
        assert record is not None, self.run
        return record

    def look(
        self, read_people: Callable[[Store, Connection, str, RunRecord], People]
    ) -> tuple[RunRecord, float, People]:
        """Return the run being driven as recorded now, the journal's time, and who had to do with it."""
        with self._store.reading() as connection:
            record = load(connection, self.run) if connection else None
            assert connection is not None
            assert record is not None, self.run
            people = read_people(self._store, connection, record.environment, record)
            return record, self._store.read_now(connection), people

    def record(self, *entries: Entry) -> None:
        """Append the entries in one transaction. Raises Busy when the lease was taken over."""
        with self._store.write("+".join(entry.kind for entry in entries)) as transaction:
            self.renew(transaction)
            for entry in entries:
                transaction.append(entry, environment=self.lease.environment, actor=self._actor)
        self.tell(transaction.events)

    def hand_over(self, entry: Entry, plan: Plan, reason: str) -> None:
        """End this run with `entry` and go on with a new one of the same environment, in one transaction."""
        before = self.lease
        with self._store.write(f"{entry.kind}+run.ok+run.submitted") as transaction:
            self._check_history(transaction)
            leases.check(transaction.connection, before)
            successor = make_submission(transaction.connection, replace(plan, cause=before.run), reason)
            for step in (entry, Entry("run.ok", before.run, data={"next": successor.run}), successor):
                transaction.append(step, environment=before.environment, actor=self._actor)
            lease = replace(before, run=successor.run, expires_at=transaction.now + self._ttl_s)
            leases.write(transaction.connection, lease)
        self.lease = lease
        self.tell(transaction.events)

    def renew(self, transaction: Transaction) -> None:
        """Check the fence and move the expiry within a transaction. Raises Busy when the lease was taken over."""
        self._check_history(transaction)
        leases.extend(transaction.connection, self.lease, transaction.now + self._ttl_s)

    def _check_history(self, transaction: Transaction) -> None:
        if transaction.history != self._history:
            raise leases.make_forgotten_error(self.lease)

    def beat(self) -> None:
        """Move the expiry while a step is silent."""
        with self._store.write("heartbeat", chained=False) as transaction:
            self.renew(transaction)

    def check(self) -> None:
        """Raise Busy when the lease was taken over."""
        with self._store.reading() as connection:
            if connection:
                leases.check(connection, self.lease)

    def release(self) -> None:
        """Give the lease back if it is still ours."""
        with self._store.write("release", chained=False) as transaction:
            leases.release(transaction.connection, self.lease)

    def tell(self, events: list[Event]) -> None:
        """Show committed events to the listeners."""
        if self._notify is not None:
            for event in events:
                self._notify(event)

    def abort_asked(self) -> bool:
        """Whether an abort of this run was requested."""
        return bool(self._store.rows(_ABORT, (self.run, '%"what":"abort"%')))

    def pause_asked(self) -> bool:
        """Whether a pause of this run was requested, and it was not resumed since."""
        newest = self._store.rows(_PAUSE, (self.run, '%"what":"pause"%', '%"what":"resume"%'))
        return bool(newest) and '"what":"pause"' in str(newest[0][0])

    def last_progress(self, step: int) -> Mapping[str, Json] | None:
        """Return the newest progress of the step, over all attempts."""
        return self._store.json_object(
            _PROGRESS, (self.run, step), f"the progress of step {step + 1} of run {self.run}"
        )
