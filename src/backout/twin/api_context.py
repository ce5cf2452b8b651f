"""What every API handler needs: the control plane, who may call, and the seams to tails and buckets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from backout.twin.analytics import Analytics
    from backout.twin.bucketlist import BucketList
    from backout.twin.control import ControlPlane
    from backout.twin.faults import Faults
    from backout.twin.querycache import Policy
    from backout.twin.schedules import Runner

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


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object on its way out: `chunks` is consumed once."""

    size_bytes: int
    content_type: str
    etag: str
    chunks: AsyncIterator[bytes]


class Buckets(Protocol):
    """The object store behind the R2 part of the API; missing things are None, refusals are ApiError."""

    async def create(self, name: str) -> None:
        """Create the bucket; an existing one is fine."""
        ...

    async def names(self) -> tuple[str, ...]:
        """Return the buckets that the store has."""
        ...

    async def delete(self, name: str) -> None:
        """Delete an empty bucket. Raises ApiError 10008 when it is not empty."""
        ...

    async def put(self, bucket: str, key: str, body: AsyncIterator[bytes], size_bytes: int, content_type: str) -> str:
        """Store an object, streaming, and return its etag."""
        ...

    async def get(self, bucket: str, key: str) -> StoredObject | None:
        """Open an object for reading, or None."""
        ...

    async def remove(self, bucket: str, key: str) -> None:
        """Delete an object; a missing one is fine."""
        ...


@dataclass(frozen=True, slots=True)
class ApiContext:
    """Everything the handlers share.

    Args:
        account_id: the one account. token: the one bearer token.
        socket_url: `ws://127.0.0.1:PORT`, the address that tails are served at.
        analytics: what they know of the counts. schedules: runs a schedule on demand.
        set_caching: says how a Hyperdrive configuration caches, before a Worker is bound to it.
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


CONTEXT: web.AppKey[ApiContext] = web.AppKey("context")


def context(request: web.Request) -> ApiContext:
    """Return the shared things."""
    return request.config_dict[CONTEXT]


def source(request: web.Request) -> str:
    """Return `wrangler` or `api`, by the user agent, as Cloudflare names the source of a change."""
    return "wrangler" if request.headers.get("User-Agent", "").startswith("wrangler/") else "api"


def script_name(request: web.Request) -> str:
    """Return the Worker's name in the path."""
    return request.match_info["script"]


def is_true(request: web.Request, name: str) -> bool:
    """Whether a query parameter is set to true."""
    return request.query.get(name, "").lower() == "true"
