"""The adapter of the ports Journal, Runs, Marks and CountsStore on a store; the rule: readers start nothing."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from backout.errors import Busy, PartlyDone, UsageError
from backout.journal import lease as leases
from backout.journal import marks as mark_events
from backout.journal.chain import format_canonical
from backout.journal.execute import Driver, make_abort_entry, refuse_unknown, resume_hint
from backout.journal.gate import Gate, refuse_unprovable
from backout.journal.ledger import Ledger, find_newest, is_leaving, load, make_submission
from backout.journal.lock import FileLock, make_lock_path
from backout.journal.requests import make_request
from backout.journal.rows import JournalUnavailable, decode_json_object
from backout.journal.sqlite_store import make_unreachable_error
from backout.journal.store import Entry
from backout.journal.stored_runs import StoredRuns
from backout.journal.worker_leases import read_guards
from backout.model.approval import IN_A_FILE
from backout.model.person import Delegation
from backout.model.witness import Witness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from backout.journal.chain import ChainReport
    from backout.journal.history import RunRecord
    from backout.journal.lease import Lease
    from backout.journal.stop import StopRequest
    from backout.journal.store import Store
    from backout.model.approval import ApprovalRule
    from backout.model.incident.incident import Event, Run
    from backout.model.plan import Json, Plan
    from backout.model.version import Mark, VersionMark
    from backout.ports import AnyAction, Clock

_NO_DELEGATION = Delegation()
_PAGE = 500
_LEAVING_TRIES, _LEAVING_POLL_S = 50, 0.02


class StoredJournal(StoredRuns):
    """The journal in a store, whose tables are made at the first write; for several threads, one drive at a time.

    Args:
        locks: the folder of the environments' file locks, which tell of a holder on this machine at once; None: the
            lease alone decides, and `host` is a name that no other process has.
        lease_ttl_s: how long to wait for a silent holder on another host.
        stop: asked at every step boundary.
        host: this machine's name in leases, by default what the system says.
        approvals: what has to be approved before it changes anything.
        delegation: who acts for somebody else here.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        locks: Path | None,
        lease_ttl_s: float = 30.0,
        stop: StopRequest | None = None,
        host: str | None = None,
        approvals: ApprovalRule | None = None,
        delegation: Delegation = _NO_DELEGATION,
    ) -> None:
        super().__init__(store, lease_ttl_s=lease_ttl_s, host=host)
        self._clock = clock
        self._locks = locks
        self._stop = stop
        self._gate = Gate(approvals, delegation)

    # --- Journal ----------------------------------------------------------------------------------------------------

    def submit(self, plan: Plan, *, actor: str, reason: str) -> str:
        """Accept a plan, see `ports.Journal.submit`.

        Raises:
            Busy: another run of the environment is not over.
        """
        with self._write("run.submitted") as transaction:
            last = find_newest(transaction.connection, plan.environment)
            if last is not None and not last.is_over:
                if last.hash == plan.hash:
                    return last.id
                raise self._busy(last, leases.read(transaction.connection, plan.environment), transaction.now)
            entry = make_submission(transaction.connection, plan, reason, self._gate.delegation.request)
            transaction.append(entry, environment=plan.environment, actor=actor)
        return entry.run

    def drive(
        self, run: str, actions: Mapping[str, AnyAction], *, actor: str, notify: Callable[[Event], None] | None = None
    ) -> Run:
        """Drive the run and its successors to the end, see `ports.Journal.drive`.

        A run that is over is returned as it is. A run that was aborted in the meantime is returned, not raised.

        Raises:
            Busy: another process drives it.
            Interrupted: it was stopped, at a step boundary.
            JournalUnavailable: the journal cannot be used.
            PartlyDone: on the way it could not be used any more; `hint` resumes.
            Refused: an open step is not known to this version.
            UsageError: there is no such run.
            BackoutError: the step's own, when it ended the run.
        """
        record = self._existing(run)
        while not record.is_over:  # twice when another holder handed over just before us, and died
            refuse_unknown(record, actions)
            with self._holding(record, actor, notify) as ledger:
                try:
                    run = Driver(ledger, actions, self._stop, self._gate).drive()
                except JournalUnavailable as error:
                    resume = resume_hint(ledger.run)
                    hint = f"{error.hint}; then: {resume}" if error.hint else resume
                    raise PartlyDone(error.what, where=error.where, hint=hint) from error
            record = self._existing(run)
        return self._as_run(record)

    def events(
        self, *, run: str | None = None, environment: str | None = None, kind: str | None = None, after: int = 0
    ) -> Iterator[Event]:
        """Yield events in order, filtered; `kind` may end in `*`. Events written meanwhile are seen too."""
        wanted = {"run = ?": run, "environment = ?": environment}
        if kind is not None and kind.endswith("*"):
            wanted[f"substr(kind, 1, {len(kind) - 1}) = ?"] = kind[:-1]
        elif kind is not None:
            wanted["kind = ?"] = kind
        wanted = {condition: value for condition, value in wanted.items() if value is not None}
        where = " AND ".join(["seq > ?", *wanted])
        query = f"SELECT * FROM event WHERE {where} ORDER BY seq LIMIT {_PAGE}"  # noqa: S608 no value in it
        while found := self._store.events(query, (after, *wanted.values())):
            yield from found
            after = found[-1].seq

    def note(self, environment: str, kind: str, key: str, data: Mapping[str, Json], *, actor: str) -> Event | None:
        """Record an event that belongs to no run, see `ports.Journal.note`."""
        key = str(self._store.mask(key))
        query = f"SELECT data FROM event WHERE environment = ? AND kind = ? AND {self._store.HAS_PART}"  # noqa: S608
        values = (environment, kind, f'"key":{format_canonical(key)}')
        with self._write("note") as transaction:
            found = transaction.connection.execute(query, values).fetchall()
            if any(decode_json_object(row[0], "the data of an event").get("key") == key for row in found):
                return None
            return transaction.append(Entry(kind, data={**data, "key": key}), environment=environment, actor=actor)

    def read_rows(self) -> Iterator[tuple[Any, ...]]:
        """Yield every event as it is stored, in order. Raises JournalUnavailable."""
        after = 0
        while found := self._store.rows(f"SELECT * FROM event WHERE seq > ? ORDER BY seq LIMIT {_PAGE}", (after,)):  # noqa: S608
            yield from found
            after = found[-1][0]

    def read_witness(self) -> Witness | None:
        """Return which event is the newest one now, None where there is none. Raises JournalUnavailable."""
        found = self._store.rows("SELECT event.hash, head.hash FROM event, head WHERE event.seq = 1")
        return Witness.of(*found[0]) if found else None

    def verify_chain(self) -> ChainReport:
        """Check every event against the hash chain. Raises JournalUnavailable when its tables are damaged."""
        return self._store.verify()

    def find_newest(self) -> int:
        """Return the place of the newest event, 0 where there is none. Raises JournalUnavailable."""
        found = self._store.rows("SELECT seq FROM head")
        return int(found[0][0]) if found else 0

    def read_workers(self) -> dict[str, str]:
        """Return which worker guards each environment, see `worker_leases.read_guards`."""
        return read_guards(self._store)

    def is_append_only(self) -> bool | None:
        """Return whether this user may only append; None when there is no journal yet."""
        return self._store.is_append_only()

    def close(self) -> None:
        """Close the store; the next use opens it again."""
        self._store.close()

    @property
    def only_read(self) -> JournalUnavailable | None:
        """Return why the journal can be read but not written, as far as reading it has shown; else None."""
        return self._store.only_read

    # --- Runs -------------------------------------------------------------------------------------------------------

    def ask(self, run: str, what: str, *, actor: str, reason: str, on_behalf_of: str | None = None) -> None:
        """Record a request, see `journal.requests`.

        A request to a run that handed over applies to the run that continues it. Raises Refused when the run is over,
        or not in the state that the request is about; UsageError for an unknown run or request.

        `on_behalf_of`: the role of the login that approves, "" for none, where this process is the pages; else None.
        """
        record = self._existing(run)
        with self._write("run.asked") as transaction:
            found = load(transaction.connection, record.id) or record
            people = self._gate.read_people(self._store, transaction.connection, found.environment, found, on_behalf_of)
            request = make_request(found, what, reason, self._gate, now=transaction.now, people=people)
            transaction.append(request, environment=record.environment, actor=actor)
        if what == "abort":
            self._abort_unheld(record, actor)

    def check_approvable(self, plan: Plan) -> None:
        """Raise Refused when nobody's approval of a plan could be proven, see `ports.Runs`."""
        if self._gate.asks_for_second(plan):
            self.check_asker(plan.environment)

    def check_asker(self, environment: str, on_behalf_of: str | None = None) -> None:
        """Raise Refused where the journal does not vouch for who would ask for a plan that a second person approves."""
        why = IN_A_FILE
        with self._store.reading() as connection:
            if connection is not None:
                people = self._gate.read_people(self._store, connection, environment, None, on_behalf_of)
                why = people.find_unprovable(people.own)
        if why:
            raise refuse_unprovable(environment, why)

    # --- Marks ------------------------------------------------------------------------------------------------------

    def mark(self, environment: str, mark: VersionMark, *, actor: str) -> None:
        """Record a mark; the same mark by the same run on the same version once, a person's (no run) every time."""
        ledger = self._ledger
        with self._write("mark") as transaction:
            if ledger is not None and ledger.lease.environment == environment:
                ledger.renew(transaction)
            same = (mark.mark, mark.version, mark.run)
            known = mark_events.read(transaction.connection, environment)
            if not mark.run or all((m.mark, m.version, m.run) != same for m in known):
                transaction.append(mark_events.make_entry(mark), environment=environment, actor=actor)
        if ledger is not None:
            ledger.tell(transaction.events)

    def marks(self, environment: str) -> tuple[VersionMark, ...]:
        """Return all marks, oldest first."""
        with self._store.reading() as connection:
            return mark_events.read(connection, environment) if connection else ()

    def find_mark(self, environment: str, version: str, mark: Mark) -> VersionMark | None:
        """Return the latest such mark of this version, or None."""
        return next((m for m in reversed(self.marks(environment)) if (m.version, m.mark) == (version, mark)), None)

    # --- inside -----------------------------------------------------------------------------------------------------

    def _existing(self, run: str) -> RunRecord:
        """Return the run, or the last one that it handed over to. Raises UsageError for an unknown one."""
        record = self._find(run)
        while record is not None and record.successor:
            record = self._load(record.successor)
        if record is None:
            what = f"there is no run {run!r} in the journal"
            raise UsageError(what, where=self._store.place, hint="backout runs list")
        return record

    def _take(self, lock: FileLock, environment: str) -> bool:
        """Return whether the lock was acquired; waits up to a second for a holder that is just leaving."""
        try:
            for _ in range(_LEAVING_TRIES):
                if lock.take():
                    return True
                if not is_leaving(self._store, environment, self._me()):
                    return False
                self._clock.sleep(_LEAVING_POLL_S)
            return lock.take()
        except OSError as error:
            raise make_unreachable_error(error, lock.path) from error

    @contextmanager
    def _holding(
        self, record: RunRecord, actor: str, notify: Callable[[Event], None] | None = None
    ) -> Iterator[Ledger]:
        """Hold the environment's file lock and lease, with a heartbeat. Raises Busy when another process holds them."""
        lock = None if self._locks is None else FileLock(make_lock_path(self._locks, record.environment))
        locked = lock is None or self._take(lock, record.environment)
        try:
            ledger, driven = self._acquire(record, actor, notify, locked=locked)
            self._ledger = ledger
            try:
                with leases.Heartbeat(ledger.beat, self._ttl_s / 3):
                    ledger.tell([driven])
                    yield ledger
            finally:
                self._ledger = None
                # A lease that cannot be given back runs out, and the kernel frees the file lock in any case.
                with suppress(JournalUnavailable):
                    ledger.release()
        finally:
            if lock is not None:
                lock.free()

    def _acquire(
        self, record: RunRecord, actor: str, notify: Callable[[Event], None] | None, *, locked: bool
    ) -> tuple[Ledger, Event]:
        me = self._me()
        with self._write("run.driven") as transaction:
            now = transaction.now
            before = leases.read(transaction.connection, record.environment)
            if not (before.is_free(me, now, locked=locked) if before else locked):
                raise self._busy(record, before, now, driven=True)
            least = self._store.find_least_fence(transaction.connection)
            fence = max(before.fence if before else 0, least) + 1
            lease = leases.Lease(record.environment, fence, record.id, me, now, now + self._ttl_s)
            leases.write(transaction.connection, lease)
            data = {"fence": fence, "host": me.name, "pid": me.pid, "command": me.command}
            if before and before.holder:
                data["instead_of"] = str(before.holder)
            entry = Entry("run.driven", record.id, data=data)
            driven = transaction.append(entry, environment=record.environment, actor=actor)
            history = transaction.history
        return Ledger(self._store, lease, history=history, ttl_s=self._ttl_s, actor=actor, notify=notify), driven

    def _busy(self, record: RunRecord, lease: Lease | None, now: float, *, driven: bool = False) -> Busy:
        if driven or (lease is not None and lease.is_live(self._me(), now)):
            who = f"driven by {lease.who() if lease else 'a process that is just starting'}"
            hint = f"wait for it, or: backout runs abort {record.id}"
        else:
            who = "no process drives it"
            hint = f"{resume_hint(record.id)}, or: backout runs abort {record.id}"
        what = f"{record.environment} is kept by run {record.id}, {record.doing()}; {who}"
        return Busy(what, where=record.environment, hint=hint)

    def _abort_unheld(self, record: RunRecord, actor: str) -> None:
        """End the run now if no process drives it; its holder, if there is one, obeys at the next boundary."""
        with suppress(Busy), self._holding(record, actor) as ledger:
            now = ledger.load()
            if not now.is_over:
                ledger.record(make_abort_entry(now))
