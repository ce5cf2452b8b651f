"""Port Secrets on Cloudflare: names only; the API gives no value back, and none is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from backout.providers.cloudflare.client import READ_SCRIPTS
from backout.providers.exchange import segment

if TYPE_CHECKING:
    from backout.providers.cloudflare.client import ApiClient


class _Secret(msgspec.Struct):
    name: str


class CloudflareSecrets:
    """Port Secrets of one Worker."""

    def __init__(self, client: ApiClient, account_id: str, script: str) -> None:
        self._client = client
        self._path = f"accounts/{segment(account_id)}/workers/scripts/{segment(script)}/secrets"

    def names(self) -> tuple[str, ...]:
        """Return the names, sorted."""
        secrets = self._client.get(self._path, tuple[_Secret, ...], permission=READ_SCRIPTS)
        return tuple(sorted(secret.name for secret in secrets))
