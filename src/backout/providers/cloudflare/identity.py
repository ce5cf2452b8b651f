"""Port Identities: the account and the Worker's tag at Cloudflare, and the other configured resources."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from backout.errors import AuthError, ProviderRejected, ProviderUnavailable
from backout.model.identity import Identity
from backout.model.value import Value
from backout.providers.cloudflare.permissions import READ_BUCKETS, READ_SCRIPTS
from backout.providers.exchange import quote_segment

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from backout.providers.cloudflare.client import ApiClient

_NOT_FOUND = 404
ALL_PARTS = frozenset(Identity.__struct_fields__)


class _Script(msgspec.Struct, frozen=True):
    tag: str | None = None


class _Environment(msgspec.Struct, frozen=True):
    script: _Script = _Script()


class _Service(msgspec.Struct):
    default_environment: _Environment = _Environment()


class Beside(Value, frozen=True):
    """What identifies an environment apart from its Worker.

    Args:
        database: asks the database for its identity.
        bucket, health_host: as configured.
        bucket_is_ours: it is the account's own (R2) and can be asked for; the names of other buckets are global.
    """

    database: Callable[[], str | None] | None = None
    bucket: str | None = None
    bucket_is_ours: bool = False
    health_host: str | None = None


class CloudflareIdentities:
    """Port Identities of one Worker.

    Args:
        account_id, script: which Worker.
        parts: the names of `Identity` to read; the others stay None and cost nothing. None: all, and the bucket counts
            only when the account has it (what is to be pinned must exist).
    """

    def __init__(
        self,
        client: ApiClient,
        account_id: str,
        script: str,
        beside: Beside,
        *,
        parts: Collection[str] | None = None,
    ) -> None:
        self._client = client
        self._account_id = account_id
        self._script = script
        self._beside = beside
        self._parts = ALL_PARTS if parts is None else ALL_PARTS & frozenset(parts)
        self._asks_for_bucket = parts is None and beside.bucket_is_ours

    def read(self) -> Identity:
        """Return the parts; None: not set up, not there, or (a database) not to be asked now.

        Raises:
            AuthError, ProviderUnavailable: the API does not tell the Worker's tag.
        """
        readers: dict[str, Callable[[], str | None]] = {
            "account_id": lambda: self._account_id,
            "script_tag": self._tag,
            "database_system_identifier": self._beside.database or (lambda: None),
            "bucket": self._bucket,
            "health_host": lambda: self._beside.health_host,
        }
        return Identity(**{name: readers[name]() for name in self._parts})

    def _tag(self) -> str | None:
        path = f"accounts/{quote_segment(self._account_id)}/workers/services/{quote_segment(self._script)}"
        try:
            service = self._client.get(path, _Service, permission=READ_SCRIPTS)
        except ProviderRejected as error:
            if error.status == _NOT_FOUND:
                return None
            raise
        return service.default_environment.script.tag or None

    def _bucket(self) -> str | None:
        bucket = self._beside.bucket
        if bucket is None or not self._asks_for_bucket:
            return bucket
        path = f"accounts/{quote_segment(self._account_id)}/r2/buckets/{quote_segment(bucket)}"
        try:
            self._client.get(path, dict[str, object], permission=READ_BUCKETS)
        except (ProviderRejected, AuthError, ProviderUnavailable):
            return None
        return bucket
