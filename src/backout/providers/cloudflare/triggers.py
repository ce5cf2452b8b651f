"""Port TriggerSettings on Cloudflare: cron triggers, routes, custom domains, queue consumers; no version has them.

Routes have a documented list per zone only; the list per Worker is the one that wrangler reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from backout.errors import AuthError, ProviderRejected, ProviderUnavailable
from backout.model.triggers import TriggerKind, Triggers
from backout.providers.cloudflare.permissions import READ_QUEUES, READ_ROUTES, READ_SCRIPTS, WRITE_SCRIPTS
from backout.providers.exchange import quote_segment

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from backout.providers.cloudflare.client import ApiClient


class _Cron(msgspec.Struct):
    cron: str = ""


class _Schedules(msgspec.Struct):
    schedules: tuple[_Cron, ...] | None = ()


class _Route(msgspec.Struct):
    pattern: str = ""


class _Domain(msgspec.Struct):
    hostname: str = ""
    service: str = ""


class _Consumer(msgspec.Struct):
    script: str | None = None
    script_name: str | None = None


class _Queue(msgspec.Struct):
    queue_name: str = ""
    consumers: tuple[_Consumer, ...] | None = ()


class CloudflareTriggers:
    """Port TriggerSettings of one Worker."""

    def __init__(self, client: ApiClient, account_id: str, script: str) -> None:
        self._client = client
        self._script = script
        self._account = f"accounts/{quote_segment(account_id)}"
        self._schedules = f"{self._account}/workers/scripts/{quote_segment(script)}/schedules"

    def read(self, kinds: Collection[TriggerKind]) -> Triggers:
        """Return these kinds, one call each; one that the token may not read, or that is not there, is None."""
        readers: Mapping[TriggerKind, Callable[[], tuple[str, ...]]] = {
            TriggerKind.SCHEDULES: self._crons,
            TriggerKind.ROUTES: self._routes,
            TriggerKind.DOMAINS: self._domains,
            TriggerKind.QUEUES: self._queues,
        }
        return Triggers(**{str(kind): _try_to_read(readers[kind]) for kind in kinds})

    def set_schedules(self, schedules: Sequence[str]) -> None:
        """Replace the cron triggers by these expressions."""
        self._client.put(self._schedules, [{"cron": cron} for cron in schedules], permission=WRITE_SCRIPTS)

    def _crons(self) -> tuple[str, ...]:
        answer = self._client.get(self._schedules, _Schedules, permission=READ_SCRIPTS)
        return tuple(sorted(each.cron for each in answer.schedules or ()))

    def _routes(self) -> tuple[str, ...]:
        path = f"{self._account}/workers/services/{quote_segment(self._script)}/environments/production/routes"
        try:
            routes = self._client.get(path, tuple[_Route, ...], permission=READ_ROUTES)
        except ProviderUnavailable as error:  # the shape of this list is nowhere promised
            raise ProviderRejected(error.what, status=0, where=error.where) from error
        return tuple(sorted(route.pattern for route in routes))

    def _domains(self) -> tuple[str, ...]:
        path, query = f"{self._account}/workers/domains", {"service": self._script}
        domains = self._client.get(path, tuple[_Domain, ...], permission=READ_SCRIPTS, query=query)
        return tuple(sorted(domain.hostname for domain in domains if domain.service == self._script))

    def _queues(self) -> tuple[str, ...]:
        queues = self._client.get(f"{self._account}/queues", tuple[_Queue, ...], permission=READ_QUEUES)
        return tuple(sorted(queue.queue_name for queue in queues if self._consumes(queue)))

    def _consumes(self, queue: _Queue) -> bool:
        return any(self._script in (each.script, each.script_name) for each in queue.consumers or ())


def _try_to_read(read: Callable[[], tuple[str, ...]]) -> tuple[str, ...] | None:
    try:
        return read()
    except (AuthError, ProviderRejected):
        return None
