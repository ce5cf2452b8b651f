"""Port Attachments on Cloudflare: Containers, Workflows and Workers Builds of one Worker.

Sources, read 2026-12-01: `GET containers/applications` (API reference; wrangler 4.164 reads the same), whose
`durable_objects.namespace_id` is one of `GET workers/durable_objects/namespaces`; `GET workflows` with the counts of
instances by their state (cloudflare-typescript); `GET builds/workers/{tag}/triggers` ("Builds API reference", and the
OpenAPI's `builds_TriggerResponse`), which only a user's token may.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from backout.errors import AuthError, ProviderRejected, ProviderUnavailable
from backout.model.attached import Attached, AttachedKind, BuildTrigger, Container, Workflow
from backout.providers.cloudflare.permissions import READ_BUILDS, READ_CONTAINERS, READ_SCRIPTS
from backout.providers.exchange import quote_segment

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from backout.providers.cloudflare.client import ApiClient

T = TypeVar("T")

_UNFINISHED: Final = ("queued", "running", "paused", "waiting", "waitingForPause", "rollingBack")
_MOST_PAGES: Final = 5
_WITHIN_S: Final = 3.0
_ONLY_UPLOADS: Final = "versions upload"
"""A deploy command with these words makes nothing live."""


class _Image(msgspec.Struct):
    image: str = ""


class _Objects(msgspec.Struct):
    namespace_id: str = ""


class _Application(msgspec.Struct):
    name: str = ""
    configuration: _Image | None = None
    durable_objects: _Objects | None = None
    active_rollout_id: str | None = None


class _Namespace(msgspec.Struct):
    id: str = ""
    script: str | None = None


class _Workflow(msgspec.Struct):
    name: str = ""
    script_name: str = ""
    instances: dict[str, int | None] | None = None


class _Repository(msgspec.Struct):
    repo_name: str | None = None


class _Trigger(msgspec.Struct):
    branch_includes: tuple[str, ...] | None = ()
    deploy_command: str | None = None
    deleted_on: str | None = None
    repo_connection: _Repository | None = None


class CloudflareAttachments:
    """Port Attachments of one Worker.

    Args:
        client: leaves calls to whoever switches.
        find_tag: returns the Worker's tag, None where it is not known.
    """

    def __init__(self, client: ApiClient, account_id: str, script: str, *, find_tag: Callable[[], str | None]) -> None:
        self._client = client
        self._script = script
        self._account = f"accounts/{quote_segment(account_id)}"
        self._find_tag = find_tag

    def read(self, kinds: Collection[AttachedKind]) -> Attached:
        """Return these kinds within three seconds; one that cannot be read is None, and why is told."""
        client = self._client.make_hurried(_WITHIN_S).make_yielding()  # a rollback waits for this
        unread: dict[str, str] = {}

        def try_to_read(kind: AttachedKind, read: Callable[[], T], permission: str) -> T | None:
            if kind not in kinds:
                return None
            try:
                return read()
            except AuthError:
                unread[kind] = f'the token may not read them (permission "{permission}")'
            except (ProviderRejected, ProviderUnavailable) as error:
                unread[kind] = error.what
            return None

        return Attached(
            containers=try_to_read(AttachedKind.CONTAINERS, partial(self._containers, client), READ_CONTAINERS),
            workflows=try_to_read(AttachedKind.WORKFLOWS, partial(self._workflows, client), READ_SCRIPTS),
            builds=try_to_read(AttachedKind.BUILDS, partial(self._builds, client), READ_BUILDS),
            unread=unread,
        )

    def _containers(self, client: ApiClient) -> tuple[Container, ...]:
        path = f"{self._account}/containers/applications"
        listed = client.get(path, tuple[_Application, ...], permission=READ_CONTAINERS)
        backed = [each for each in listed if each.durable_objects is not None]
        if not backed:
            return ()
        path = f"{self._account}/workers/durable_objects/namespaces"
        spaces = client.get(path, tuple[_Namespace, ...], permission=READ_SCRIPTS, query={"per_page": "1000"})
        own = {space.id for space in spaces if space.script == self._script}
        return tuple(
            Container(each.name, each.configuration.image if each.configuration else "", bool(each.active_rollout_id))
            for each in sorted(backed, key=lambda each: each.name)
            if each.durable_objects is not None and each.durable_objects.namespace_id in own
        )

    def _workflows(self, client: ApiClient) -> tuple[Workflow, ...]:
        found: list[_Workflow] = []
        for page in range(1, _MOST_PAGES + 1):
            query = {"page": str(page), "per_page": "100"}
            more, info = client.get_page(
                f"{self._account}/workflows", tuple[_Workflow, ...], permission=READ_SCRIPTS, query=query
            )
            found += more
            if page >= info.total_pages:
                break
        own = sorted((each for each in found if each.script_name == self._script), key=lambda each: each.name)
        return tuple(Workflow(each.name, _count_unfinished(each)) for each in own)

    def _builds(self, client: ApiClient) -> tuple[BuildTrigger, ...]:
        tag = self._find_tag()
        if tag is None:
            raise ProviderRejected("the Worker's tag is not known", status=0)
        path = f"{self._account}/builds/workers/{quote_segment(tag)}/triggers"
        triggers = client.get(path, tuple[_Trigger, ...], permission=READ_BUILDS)
        return tuple(
            BuildTrigger(
                branches=each.branch_includes or (),
                command=each.deploy_command or "",
                repository=(each.repo_connection.repo_name if each.repo_connection else None) or "",
            )
            for each in triggers
            if each.deleted_on is None and _ONLY_UPLOADS not in (each.deploy_command or "")
        )


def _count_unfinished(workflow: _Workflow) -> int:
    counts = workflow.instances or {}
    return sum(counts.get(name) or 0 for name in _UNFINISHED)
