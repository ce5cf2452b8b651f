"""Port ReadCaches on Cloudflare: the caching of the Hyperdrive configurations that the live versions are bound to.

Sources, read 2026-12-01: the API reference of Hyperdrive (`caching.disabled`; `max_age` 60 s and
`stale_while_revalidate` 15 s where they are not set; its own durations are not kept while caching is off, so whoever
turns it on names them). How soon Workers follow a change is not documented.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from backout.model.platform import CacheState
from backout.providers.cloudflare.permissions import READ_HYPERDRIVE, READ_SCRIPTS, WRITE_HYPERDRIVE
from backout.providers.exchange import quote_segment

if TYPE_CHECKING:
    from backout.providers.cloudflare.client import ApiClient

_EDGE: Final = (
    "the edge cache: NOT COVERED, answers that it kept are served until they expire; clear it in the dashboard "
    '(Caching, Purge Everything) or by POST zones/ZONE_ID/purge_cache {"purge_everything": true}'
)
_KEPT: Final = {
    "kv_namespace": ("KV {name}", "its entries stay as they are; clear single ones by `npx wrangler kv key delete`"),
    "d1": ("D1 {name}", "its rows stay as they are; it has a Time Travel of its own: `npx wrangler d1 time-travel`"),
    "durable_object_namespace": ("Durable Objects {name}", "their storage stays; only their own code clears it"),
}


class _Binding(msgspec.Struct):
    name: str = ""
    type: str = ""
    id: str = ""


class _Resources(msgspec.Struct):
    bindings: tuple[_Binding, ...] | None = ()


class _Version(msgspec.Struct):
    resources: _Resources | None = None


class _Share(msgspec.Struct):
    version_id: str
    percentage: float = 0.0


class _Deployment(msgspec.Struct):
    created_on: str = ""
    versions: tuple[_Share, ...] = ()


class _History(msgspec.Struct):
    deployments: tuple[_Deployment, ...] = ()


class _Caching(msgspec.Struct):
    disabled: bool | None = None
    max_age: float | None = None
    stale_while_revalidate: float | None = None


class _Config(msgspec.Struct):
    id: str = ""
    name: str = ""
    caching: _Caching | None = None


class CloudflareReadCaches:
    """Port ReadCaches of one Worker."""

    def __init__(self, client: ApiClient, account_id: str, script: str) -> None:
        self._client = client
        account = f"accounts/{quote_segment(account_id)}"
        self._configs = f"{account}/hyperdrive/configs"
        self._worker = f"{account}/workers/scripts/{quote_segment(script)}"

    def read(self) -> tuple[CacheState, ...]:
        """Return the caching of each configuration."""
        ids = {each.id for each in self._list_bindings() if each.type == "hyperdrive" and each.id}
        return tuple(self._read(each) for each in sorted(ids))

    def turn_off(self, cache: str) -> None:
        """Disable the caching of a configuration."""
        self._set(cache, {"disabled": True})

    def restore(self, state: CacheState) -> None:
        """Set the caching of a configuration as it was."""
        durations = {"max_age": state.max_age_s, "stale_while_revalidate": state.stale_s}
        own = {name: int(value) for name, value in durations.items() if value is not None}
        self._set(state.id, {"disabled": False, **own} if state.is_on else {"disabled": True})

    def list_uncovered(self) -> tuple[str, ...]:
        """Return what else keeps data of before."""
        bound = sorted({(each.type, each.name) for each in self._list_bindings() if each.type in _KEPT})
        said = (f"{_KEPT[kind][0].format(name=name)}: NOT COVERED, {_KEPT[kind][1]}" for kind, name in bound)
        return (*said, _EDGE)

    def _read(self, config: str) -> CacheState:
        path = f"{self._configs}/{quote_segment(config)}"
        found = self._client.get(path, _Config, permission=READ_HYPERDRIVE)
        caching = found.caching or _Caching()
        is_on = caching.disabled is not True
        return CacheState(config, found.name, is_on, caching.max_age, caching.stale_while_revalidate)

    def _set(self, config: str, caching: dict[str, object]) -> None:
        path = f"{self._configs}/{quote_segment(config)}"
        self._client.change(path, {"caching": caching}, permission=WRITE_HYPERDRIVE)

    def _list_bindings(self) -> list[_Binding]:
        """Return what the versions with traffic are bound to."""
        history = self._client.get(f"{self._worker}/deployments", _History, permission=READ_SCRIPTS)
        newest = max(history.deployments, key=lambda each: each.created_on, default=_Deployment())
        found = []
        for share in newest.versions:
            path = f"{self._worker}/versions/{quote_segment(share.version_id)}"
            version = self._client.get(path, _Version, permission=READ_SCRIPTS)
            found += list((version.resources.bindings if version.resources else None) or ())
        return found
