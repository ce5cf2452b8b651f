"""What a worker shares: with other ones the journal's tables and its leases there, among its environments a list."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from backout.errors import ProviderUnavailable
from backout.journal.lease import make_own_holder, name_this_machine
from backout.journal.stored import StoredJournal
from backout.journal.worker_leases import LEASE_S, WorkerLeases
from backout.providers.clock import SystemClock
from backout.providers.cloudflare.budget import RESERVE
from backout.providers.cloudflare.deployment_times import CloudflareDeploymentTimes
from backout.providers.cloudflare.deployments import CloudflareDeployments
from backout.runbook.worker.account_watch import AccountWatches, Member
from backout.runbook.worker.hints import RESTS_S, Hints
from backout.wiring.platform import make_listing_client
from backout.wiring.records import find_actor, open_journal, open_own_store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from backout.config import Config
    from backout.journal.lease import Holder
    from backout.journal.stop import StopRequest
    from backout.ports import Clock, DeploymentTimes
    from backout.providers.cloudflare.client import ApiClient


class WorkerJournal:
    """The journal of a worker: a drive of its own for each environment, all on one connection to its tables.

    The leases have another one: they are renewed in time, however many environments wait for their turn on that. And
    what is done beside guarding has a third: no guard waits for it. So a worker has three connections to the journal,
    however many environments it guards.

    No file lock is taken: the expiry of the leases alone decides, also between the workers of one machine. A worker
    that is stopped (SIGSTOP) keeps its locks for ever, and its leases for `lease_s` seconds.

    Args:
        environments: those that it may guard.
        lease_s: how long its leases last without being renewed.

    Attributes:
        name: of this process, that no other worker has.
    """

    def __init__(self, config: Config, environments: Sequence[str], *, lease_s: float = LEASE_S) -> None:
        open_journal(config).close()  # what was recorded while the server was away is merged first
        self._store, self._lease_s = open_own_store(config), lease_s
        self._me = _make_holder()
        self.name = self._me.host.rpartition("/")[2]
        group = hashlib.sha256("\n".join(sorted(environments)).encode()).hexdigest()[:12]
        self._own_store, self._beside_store = open_own_store(config), open_own_store(config)
        self.leases = WorkerLeases(
            self._own_store, self._me, environments, group=group, actor=find_actor(), ttl_s=lease_s
        )

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

    def open_beside(self, config: Config) -> StoredJournal:
        """Return the journal for what is done beside guarding, on its own connection; nothing is driven with it."""
        return StoredJournal(
            self._beside_store,
            SystemClock(),
            locks=None,
            lease_ttl_s=self._lease_s,
            host=self._me.host,
            approvals=config.environment.approval_rule(),
        )

    def close(self) -> None:
        """Close the connections."""
        self._store.close()
        self._beside_store.close()
        self._own_store.close()


class ListedAccount:
    """A Cloudflare account, as the client's token reads it; see `runbook.worker.account_watch.Account`.

    The list spares so many calls that it may have those which other looks leave, only not a rollback's.

    Args:
        client: of one thread.
        clock: of the client.
    """

    def __init__(self, client: ApiClient, account_id: str, clock: Clock) -> None:
        self._client, self._account_id, self._clock = client, account_id, clock
        self.times: DeploymentTimes = self
        self._times = CloudflareDeploymentTimes(client, account_id)

    def read(self) -> Mapping[str, float]:
        """Return what the list tells, see the port DeploymentTimes.

        Raises:
            AuthError, ProviderRejected: the list is refused.
            ProviderUnavailable: no usable answer, or the calls that are left are for a rollback.
        """
        left = self._client.budget.left(self._clock.now())
        if left is not None and left[0] <= RESERVE:
            raise ProviderUnavailable("the API allows only the calls of a rollback now", where=self._account_id)
        return self._times.read()

    def open_deployments(self, application: str) -> CloudflareDeployments:
        """Return the deployments of one of its Workers."""
        return CloudflareDeployments(self._client, self._account_id, application)

    def pace(self, every_s: float) -> float:
        """Return how long to wait between two looks, as the token's budget allows."""
        return self._client.budget.pace(every_s, self._clock.now())


def make_watches(say: Callable[[str], None], fail: Callable[[Exception], object]) -> AccountWatches:
    """Return the watches of this worker's accounts."""
    return AccountWatches(SystemClock(), say, fail)


def make_hints(position: int, count: int) -> Hints:
    """Return the hints of one of so many environments; they ask again in turn, not in the same second."""
    return Hints(SystemClock(), RESTS_S * (2 + 2 * position / count) / 3)


def join_account(watches: AccountWatches, config: Config, hints: Hints) -> None:
    """Have the chosen environment's deployments noticed by its account's list, where its platform has one.

    Raises:
        AuthError: there is no token.
        ConfigError: the account is not set.
    """
    platform = config.environment.platform
    if not platform.is_cloudflare:
        return
    account_id, token = config.account_id, config.read_token() or config.token()
    account = hash((str(platform.api_base_url), account_id, token.reveal()))
    member = Member(config.name, platform.script, hints)
    watches.join(account, member, lambda: ListedAccount(make_listing_client(config), account_id, SystemClock()))


def read_workers(config: Config) -> dict[str, str]:
    """Return which worker guards each environment; those that none guards are left out.

    Raises:
        JournalUnavailable: the journal cannot be read.
    """
    return open_journal(config, hurried=True).read_workers()


def _make_holder() -> Holder:
    """Return this process as a holder on a machine of its own."""
    return make_own_holder(f"{name_this_machine()}/{os.getpid()}-{os.urandom(3).hex()}")
