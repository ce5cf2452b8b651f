"""The adapter of the part of the port Runs that reads, on a store; the rule: no more is read than is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.errors import UsageError
from backout.journal import lease as leases
from backout.journal.ledger import load, load_all
from backout.journal.stored_counts import StoredCounts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from backout.journal.history import RunRecord
    from backout.journal.lease import Lease
    from backout.journal.store import Store
    from backout.model.incident.incident import Run
    from backout.model.plan import Json
    from backout.ports.journal_link import Connection

_NEWEST = "SELECT max(seq) FROM event WHERE run = ? AND kind <> 'step.progress'"
_PAGES = (1, 24, 200)
"""How many runs are read at once, the last number again and again: most who ask want the newest one, or a few."""


class StoredRuns(StoredCounts):
    """Runs as they are read.

    Args:
        lease_ttl_s: how long a lease lasts that is not renewed, in seconds.
        host: this machine's name in leases, None: what the system says.
    """

    def __init__(self, store: Store, *, lease_ttl_s: float, host: str | None) -> None:
        super().__init__(store)
        self._ttl_s, self._host = lease_ttl_s, host
        self._recalled: tuple[RunRecord, list[tuple[int | None]]] | None = None

    def walk_history(self, environment: str | None = None) -> Iterator[tuple[Run, Mapping[str, Json]]]:
        """Yield runs and their results, newest first, see `ports.Runs.walk_history`; read a page at a time.

        Those that are submitted meanwhile are left out.
        """
        condition, values = ("AND environment = ?", (environment,)) if environment is not None else ("", ())
        before, number = 2**62, 0
        while True:
            size = _PAGES[min(number, len(_PAGES) - 1)]
            query = (
                f"SELECT seq, run FROM event WHERE kind = 'run.submitted' {condition} AND seq < ?"  # noqa: S608
                f" ORDER BY seq DESC LIMIT {size}"
            )
            with self._store.explaining(), self._store.reading() as connection:
                found = connection.execute(query, (*values, before)).fetchall() if connection else []
                records = load_all(connection, [str(run) for _, run in found]) if connection else []
                page = self._as_runs(connection, records) if connection else []
            yield from ((run, record.results) for run, record in zip(page, records, strict=True))
            if len(found) < size:
                return
            before, number = found[-1][0], number + 1

    def walk_runs(self, environment: str | None = None) -> Iterator[Run]:
        """Yield runs, newest first, see `ports.Runs.walk_runs`."""
        return (run for run, _ in self.walk_history(environment))

    def runs(self, environment: str | None = None) -> tuple[Run, ...]:
        """Return all runs, newest first."""
        return tuple(self.walk_runs(environment))

    def count_runs(self, environment: str) -> int:
        """Return how many runs an environment has had. Raises JournalUnavailable."""
        query = "SELECT count(*) FROM event WHERE kind = 'run.submitted' AND environment = ?"
        found = self._store.rows(query, (environment,))
        return int(found[0][0]) if found else 0

    def find(self, run: str) -> Run | None:
        """Return one run by id or unambiguous prefix. Raises UsageError naming the runs that an ambiguous one fits."""
        with self._store.reading() as connection:
            record = self._find(run) if connection else None
            return self._as_run(record) if record else None

    def result(self, run: str, action: str) -> Json:
        """Return the recorded result of the run's last completed step of that action; None when there is none."""
        record = self._recall(run)
        return None if record is None else record.results.get(action)

    def _load(self, run: str) -> RunRecord | None:
        with self._store.reading() as connection:
            return load(connection, run) if connection else None

    def _find(self, run: str) -> RunRecord | None:
        """Return the run of this id, or the only one whose id begins so; those are looked for among all runs."""
        found = self._load(run) if run else None
        if found is not None or not run:
            return found
        query = "SELECT run FROM event WHERE kind = 'run.submitted' AND substr(run, 1, ?) = ? ORDER BY seq"
        ids = [str(row[0]) for row in self._store.rows(query, (len(run), run))]
        if len(ids) > 1:
            raise UsageError(f"{run!r} is not one run: it may be {', '.join(ids)}", hint="backout runs list")
        return self._load(ids[0]) if ids else None

    def _recall(self, run: str) -> RunRecord | None:
        """Return the run as `_find` does; the one that was asked for last is read again only if it went on."""
        newest, last = self._store.rows(_NEWEST, (run,)), self._recalled
        if last is not None and last[0].id == run and last[1] == newest:
            return last[0]
        found = self._find(run)
        self._recalled = (found, newest) if found is not None else None
        return found

    def _as_run(self, record: RunRecord) -> Run:
        """Return the run of a record that was read here."""
        with self._store.reading() as connection:
            return self._as_runs(connection, [record])[0] if connection else record.run("")

    def _as_runs(self, connection: Connection, records: list[RunRecord]) -> list[Run]:
        """Return the runs of the records, with who drives each of them now."""
        names = {record.environment for record in records}
        known = {name: leases.read(connection, name) for name in names}
        now = self._store.read_now(connection) if any(known.values()) else 0.0
        return [self._add_holder(record, known[record.environment], now) for record in records]

    def _add_holder(self, record: RunRecord, lease: Lease | None, now: float) -> Run:
        if lease is None or lease.run != record.id or lease.holder is None:
            return record.run("")
        live = lease.is_live(self._me(), now)
        return record.run(str(lease.holder) if live else "", lease.expires_at - self._ttl_s)

    def _me(self) -> leases.Holder:
        return leases.make_own_holder(self._host)
