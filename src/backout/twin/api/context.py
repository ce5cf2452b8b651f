"""The context of every API handler: the control plane, the token, and access to tails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from aiohttp import web

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from backout.twin.api.analytics import Analytics
    from backout.twin.control.control import ControlPlane
    from backout.twin.control.schedules import Runner
    from backout.twin.database.d1 import D1Databases
    from backout.twin.database.querycache import Policy
    from backout.twin.faults import Faults
    from backout.twin.storage.bucketlist import BucketList
    from backout.twin.storage.port import Buckets

ACCOUNT_NAME = "The local twin"
USER_ID = "7c5dae5552338874e5053f2534d2767a"
USER_EMAIL = "dev@example.com"


class TailSessionLike(Protocol):
    """An open tail: its id, and when it ends in Unix seconds."""

    @property
    def id(self) -> str:
        """The unguessable id, part of the websocket's address."""
        ...

    @property
    def expires_at(self) -> float:
        """Unix seconds."""
        ...


class Tails(Protocol):
    """The live event streams of the data plane."""

    async def open_tail(self, script: str, filters: list[object]) -> TailSessionLike:
        """Register a tail; nothing is captured before the websocket opens."""
        ...

    async def close_tail(self, tail_id: str) -> object:
        """End a tail; unknown ids are fine, and what it answers does not matter."""
        ...

    async def tail_socket(self, request: web.Request, tail_id: str) -> web.StreamResponse:
        """Serve the websocket until either side closes it."""
        ...


class ApiContext(Value, frozen=True):
    """Everything the handlers share.

    Args:
        account_id: the one account.
        token: the one bearer token.
        socket_url: `ws://127.0.0.1:PORT`, the address that tails are served at.
        analytics: the counts as analytics see them.
        schedules: runs a schedule on demand.
        set_caching: sets the caching of a Hyperdrive configuration, before a Worker is bound to it.
        set_database_role: sets the role that Hyperdrive logs in as, None: the superuser.
        d1: the D1 databases.
        apply_faults: returns when the services are as the active faults say.
    """

    control: ControlPlane
    tails: Tails
    buckets: Buckets
    bucket_list: BucketList
    faults: Faults
    account_id: str
    token: str
    socket_url: str
    analytics: Analytics
    schedules: Runner
    set_caching: Callable[[str, Policy], None]
    set_database_role: Callable[[str | None], None]
    d1: D1Databases
    apply_faults: Callable[[], Awaitable[None]]


CONTEXT: web.AppKey[ApiContext] = web.AppKey("context")


def get_context(request: web.Request) -> ApiContext:
    """Return the shared things."""
    return request.config_dict[CONTEXT]


def get_source(request: web.Request) -> str:
    """Return `wrangler` or `api`, by the user agent, as Cloudflare names the source of a change."""
    return "wrangler" if request.headers.get("User-Agent", "").startswith("wrangler/") else "api"


def get_script_name(request: web.Request) -> str:
    """Return the Worker's name in the path."""
    return request.match_info["script"]


def is_true(request: web.Request, name: str) -> bool:
    """Whether a query parameter is set to true."""
    return request.query.get(name, "").lower() == "true"
