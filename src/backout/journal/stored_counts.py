"""The adapter of the port CountsStore on a store: counts, and what detectors keep, which are no history."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from backout.journal import counts as counts_table
from backout.journal.rows import DamagedRow
from backout.journal.worker_leases import check_duty

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backout.journal.lease import Lease
    from backout.journal.ledger import Ledger
    from backout.journal.store import Store, Transaction
    from backout.model.guard.signals import Counts
    from backout.model.plan import Json


class StoredCounts:
    """What is kept beside the events: it may be deleted, and replaced by what is newer.

    Attributes:
        duty: the lease of a worker, without which nothing is written; None: no worker's.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._ledger: Ledger | None = None
        self.duty: Lease | None = None

    def keep(self, environment: str, counts: Sequence[Counts]) -> None:
        """Store counts; a row for the same version and second replaces the earlier one."""
        if counts:
            with self._write("counts", chained=False) as transaction:
                counts_table.keep(transaction, environment, counts)

    def load_counts(self, environment: str, since: int, until: int) -> tuple[Counts, ...]:
        """Return the stored counts of the seconds in [since, until), by second and version."""
        with self._store.reading() as connection:
            return counts_table.read_counts(connection, environment, since, until) if connection else ()

    def save_checkpoint(self, run: str, name: str, data: Json) -> None:
        """Store the newest state of a detector. Raises Busy when the run was driven here and is taken over."""
        ledger = self._ledger
        with self._write("checkpoint", chained=False) as transaction:
            if ledger is not None and ledger.run == run:
                ledger.renew(transaction)
            counts_table.save_checkpoint(transaction, run, name, data)

    def load_checkpoint(self, run: str, name: str) -> Json:
        """Return the newest state or None."""
        query = "SELECT data FROM checkpoint WHERE run = ? AND name = ?"
        try:
            return self._store.json(query, (run, name), f"the checkpoint {name}")
        except DamagedRow:
            return None  # it is not history: what cannot be read counts as never stored

    def list_checkpoints(self) -> Iterator[tuple[str, str, float, Json]]:
        """Yield (run, name, Unix seconds, state) of each checkpoint that is kept."""
        for run, name, at in self._store.rows("SELECT run, name, at FROM checkpoint ORDER BY at, run, name"):
            yield run, name, at, self.load_checkpoint(run, name)

    def prune(self, older_than: float) -> int:
        """Delete counts and checkpoints from before that time (Unix seconds), no events; return how many rows went."""
        with self._write("prune", chained=False) as transaction:
            return counts_table.prune(transaction, older_than)

    @contextmanager
    def _write(self, name: str, *, chained: bool = True) -> Iterator[Transaction]:
        """Open a transaction, see `Store.write`. Raises Busy when this process is not on duty any more."""
        with self._store.write(name, chained=chained) as transaction:
            if self.duty is not None:
                check_duty(transaction.connection, self.duty)
            yield transaction
