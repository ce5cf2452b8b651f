"""What a worker shares with the other ones: the journal's tables, and its leases there."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from backout.journal.lease import make_own_holder, name_this_machine
from backout.journal.stored import StoredJournal
from backout.journal.worker_leases import LEASE_S, WorkerLeases, read_guards
from backout.providers.clock import SystemClock
from backout.wiring.records import find_actor, open_journal, open_own_store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.config import Config
    from backout.journal.lease import Holder
    from backout.journal.stop import StopRequest


class WorkerJournal:
    """The journal of a worker: one connection to its tables, and a drive of its own for each environment.

    No file lock is taken: the expiry of the leases alone decides, also between the workers of one machine. A worker
    that is stopped (SIGSTOP) keeps its locks for ever, and its leases for `lease_s` seconds.

    Args:
        environments: those that it may guard.
        lease_s: how long its leases last without being renewed.
    """

    def __init__(self, config: Config, environments: Sequence[str], *, lease_s: float = LEASE_S) -> None:
        open_journal(config).close()  # what was recorded while the server was away is merged first
        self._store, self._lease_s = open_own_store(config), lease_s
        self._me = _make_holder()
        group = hashlib.sha256("\n".join(sorted(environments)).encode()).hexdigest()[:12]
        self.leases = WorkerLeases(self._store, self._me, environments, group=group, actor=find_actor(), ttl_s=lease_s)

    def open(self, config: Config, stop: StopRequest) -> StoredJournal:
        """Return the journal for one environment; `duty` is None until its lease is taken."""
        return StoredJournal(
            self._store,
            SystemClock(),
            locks=None,
            lease_ttl_s=self._lease_s,
            stop=stop,
            host=self._me.host,
            approvals=config.environment.approval_rule(),
        )

    def close(self) -> None:
        """Close the connection."""
        self._store.close()


def read_workers(config: Config) -> dict[str, str]:
    """Return which worker guards each environment; those that none guards are left out.

    Raises:
        JournalUnavailable: the journal cannot be read.
    """
    return read_guards(open_own_store(config, hurried=True))


def _make_holder() -> Holder:
    """Return this process as a holder on a machine of its own."""
    return make_own_holder(f"{name_this_machine()}/{os.getpid()}-{os.urandom(3).hex()}")
