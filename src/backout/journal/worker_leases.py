"""Which worker guards which environment: leases beside those of runs, each with a fence of its own.

A worker that guards an environment looks for new deployments there, and begins their watches; who drives a run is
decided by the run's own lease. So a person's command, which needs no worker's leave, never waits for one.

Each worker has a seat, too, which is nothing but a lease that it renews: the seats tell how many share the work.
"""

from __future__ import annotations

from collections import Counter
from itertools import count
from typing import TYPE_CHECKING, Final

from backout.errors import Busy
from backout.journal import lease as leases
from backout.journal.store import Entry
from backout.ports.workers import Shared

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from backout.journal.lease import Holder, Lease
    from backout.journal.store import Store, Transaction
    from backout.ports.journal_link import Connection

LEASE_S: Final = 6.0
"""After how long of silence another worker takes over."""
_GUARD: Final = "guard:"
_SEAT: Final = "worker:"
_PREFIXES: Final = (_SEAT, _GUARD)


class WorkerLeases:
    """The leases of one worker.

    Args:
        me: has a host that no other process has, also on the same machine.
        environments: those that it may guard. Workers that may guard others share nothing with it.
        group: the same for all workers that may guard the same.
        ttl_s: how long a lease lasts that is not renewed, in seconds.
    """

    def __init__(
        self,
        store: Store,
        me: Holder,
        environments: Collection[str],
        *,
        group: str,
        actor: str,
        ttl_s: float = LEASE_S,
    ) -> None:
        self._store, self._me, self._ttl_s, self._actor = store, me, ttl_s, actor
        self._environments, self._group = tuple(environments), group
        self._seat: Lease | None = None
        self._held: dict[str, Lease] = {}
        self._last: tuple[str, Shared] | None = None

    def renew(self) -> Shared:
        """Renew everything that is held, and return how the work is shared.

        While nobody takes or gives anything, what was read once holds: with many workers, reading the leases of all of
        them would be most of what each one costs.

        Raises:
            JournalUnavailable: the journal cannot be used; what is held runs out.
        """
        if self._seat is None:
            self._sit_down()
        with self._store.write("worker leases", chained=False) as transaction:
            connection, now = transaction.connection, transaction.now
            hashed = self._store.extend_leases(connection, _PREFIXES, self._me.host, now, now + self._ttl_s)
            if self._last is not None and self._last[0] == hashed:
                return self._last[1]
            found = [each for each in leases.read_rows(connection, _PREFIXES) if each.host and now < each.expires]
        live = {each.name.removeprefix(_GUARD): each for each in found if each.name.startswith(_GUARD)}
        own = {name: each.fence for name, each in live.items() if each.host == self._me.host}
        lost = tuple(name for name, each in self._held.items() if own.get(name) != each.fence)
        self._held = {name: each for name, each in self._held.items() if name not in lost}
        seats = [each for each in found if each.name.startswith(_SEAT)]
        if not any(seat.host == self._me.host for seat in seats):
            self._seat = None  # another one sits there; a new seat is taken next time
        counts = Counter(each.host for each in live.values())
        others = {
            seat.name: counts[seat.host] for seat in seats if seat.run == self._group and seat.host != self._me.host
        }
        free = tuple(name for name in self._environments if name not in live)
        shared = Shared(frozenset(self._held), lost, free, others)
        self._last = (hashed, shared) if hashed is not None and not lost and self._seat is not None else None
        return shared

    def find(self, environment: str) -> Lease | None:
        """Return the lease of an environment that is held."""
        return self._held.get(environment)

    def take(self, environments: Iterable[str]) -> tuple[str, ...]:
        """Return those environments that were still free: they are held now, with a higher fence than ever before.

        Raises:
            JournalUnavailable: the journal cannot be used.
        """
        taken: dict[str, Lease] = {}
        with self._store.write("worker.took") as transaction:
            for name in environments:
                before = leases.read(transaction.connection, _GUARD + name)
                if _is_held(before, transaction.now):
                    continue
                taken[name] = self._write(transaction, _GUARD + name, before, "")
                data = {"fence": taken[name].fence, "host": self._me.name, "pid": self._me.pid}
                if before is not None and before.holder is not None:
                    data["instead_of"] = str(before.holder)
                transaction.append(Entry("worker.took", data=data), environment=name, actor=self._actor)
        self._held |= taken
        self._last = None
        return tuple(taken)

    def give_back(self, environments: Iterable[str]) -> None:
        """Give leases back, so that another worker may take them at once.

        Raises:
            JournalUnavailable: the journal cannot be used; they run out.
        """
        self._last = None
        given = [lease for name in tuple(environments) if (lease := self._held.pop(name, None)) is not None]
        with self._store.write("worker gave", chained=False) as transaction:
            for lease in given:
                leases.release(transaction.connection, lease)

    def leave(self) -> None:
        """Give everything back, the seat too.

        Raises:
            JournalUnavailable: the journal cannot be used; it runs out.
        """
        self.give_back(tuple(self._held))
        if self._seat is not None:
            with self._store.write("worker left", chained=False) as transaction:
                leases.release(transaction.connection, self._seat)
            self._seat = None

    def _sit_down(self) -> None:
        """Take the first free seat; there are never more of them than workers ran at once."""
        with self._store.write("worker seat") as transaction:
            for number in count(1):
                name = f"{_SEAT}{number}"
                before = leases.read(transaction.connection, name)
                if not _is_held(before, transaction.now):
                    self._seat = self._write(transaction, name, before, self._group)
                    return

    def _write(self, transaction: Transaction, name: str, before: Lease | None, run: str) -> Lease:
        least = self._store.find_least_fence(transaction.connection)
        fence = max(before.fence if before else 0, least) + 1
        now = transaction.now
        lease = leases.Lease(name, fence, run, self._me, now, now + self._ttl_s)
        leases.write(transaction.connection, lease)
        return lease


def check_duty(connection: Connection, lease: Lease) -> None:
    """Raise Busy when a worker does not guard its environment any more."""
    now = leases.read(connection, lease.environment)
    if now is None or now.fence != lease.fence or now.holder is None:
        environment = lease.environment.removeprefix(_GUARD)
        by = f"{now.holder}" if now is not None and now.holder is not None else "another worker"
        raise Busy(
            f"{environment} is guarded by {by} now: this one was silent for too long, and records nothing",
            where=environment,
            hint=f"backout status -e {environment}",
        )


def read_guards(store: Store) -> dict[str, str]:
    """Return which worker guards each environment, for messages; those that none guards are left out.

    Raises:
        JournalUnavailable: the journal cannot be used.
    """
    with store.reading() as connection:
        if connection is None:
            return {}
        found, now = leases.read_all(connection, _GUARD), store.read_now(connection)
    return {each.environment.removeprefix(_GUARD): str(each.holder) for each in found if _is_held(each, now)}


def _is_held(lease: Lease | None, now: float) -> bool:
    return lease is not None and lease.holder is not None and now < lease.expires_at
