"""Port Queues on Cloudflare: the delivery of the queues that one Worker consumes.

Sources, read 2026-12-01: documentation, "Pause and Purge" (what is sent to a paused queue waits in it, and is lost
after the queue's retention all the same; push and pull consumers are both stopped); the API reference of Queues (PATCH
changes what it names, PUT replaces all settings; `metrics` are best-effort); wrangler 4.164's `queues pause-delivery`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from backout.errors import AuthError, ProviderRejected, ProviderUnavailable
from backout.model.platform import QueueState
from backout.providers.cloudflare.permissions import READ_QUEUES, WRITE_QUEUES
from backout.providers.exchange import quote_segment

if TYPE_CHECKING:
    from backout.providers.cloudflare.client import ApiClient

_MOST_PAGES: Final = 20


class _Consumer(msgspec.Struct):
    script: str | None = None
    script_name: str | None = None


class _Settings(msgspec.Struct):
    delivery_paused: bool | None = None
    message_retention_period: float | None = None


class _Queue(msgspec.Struct):
    queue_id: str = ""
    queue_name: str = ""
    consumers: tuple[_Consumer, ...] | None = ()
    settings: _Settings | None = None


class _Metrics(msgspec.Struct):
    backlog_count: float | None = None


class CloudflareQueues:
    """Port Queues of one Worker."""

    def __init__(self, client: ApiClient, account_id: str, script: str) -> None:
        self._client = client
        self._script = script
        self._path = f"accounts/{quote_segment(account_id)}/queues"

    def list_consumed(self) -> tuple[QueueState, ...]:
        """Return them, with what each says of itself; the list does not always have the settings."""
        return tuple(self._look(queue) for queue in self._list())

    def pause(self, name: str) -> None:
        """Stop the delivery."""
        self._set(name, is_paused=True)

    def resume(self, name: str) -> None:
        """Let it go on."""
        self._set(name, is_paused=False)

    def _look(self, listed: _Queue) -> QueueState:
        path = f"{self._path}/{quote_segment(listed.queue_id)}"
        settings = self._client.get(path, _Queue, permission=READ_QUEUES).settings or _Settings()
        try:
            backlog = self._client.get(f"{path}/metrics", _Metrics, permission=READ_QUEUES).backlog_count
        except (AuthError, ProviderRejected, ProviderUnavailable):  # a number for a person, nothing more
            backlog = None
        return QueueState(
            listed.queue_name,
            delivers=settings.delivery_paused is not True,
            backlog=None if backlog is None else int(backlog),
            retention_s=settings.message_retention_period,
        )

    def _set(self, name: str, *, is_paused: bool) -> None:
        found = next((queue for queue in self._list() if queue.queue_name == name), None)
        if found is None:
            raise ProviderRejected(f"{self._script} consumes no queue {name}", status=404, where=self._path)
        path = f"{self._path}/{quote_segment(found.queue_id)}"
        self._client.change(path, {"settings": {"delivery_paused": is_paused}}, permission=WRITE_QUEUES)

    def _list(self) -> list[_Queue]:
        found: dict[str, _Queue] = {}
        for page in range(1, _MOST_PAGES + 1):
            query = {"page": str(page)} if page > 1 else None
            queues, info = self._client.get_page(self._path, tuple[_Queue, ...], permission=READ_QUEUES, query=query)
            known = len(found)
            found |= {queue.queue_id: queue for queue in queues}
            if page >= info.total_pages or len(found) == known:
                break
        ours = (queue for queue in found.values() if self._consumes(queue))
        return sorted(ours, key=lambda queue: queue.queue_name)

    def _consumes(self, queue: _Queue) -> bool:
        return any(self._script in (each.script, each.script_name) for each in queue.consumers or ())
