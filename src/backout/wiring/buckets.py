"""An environment's bucket as this machine may use it, by its own access key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.providers.clock import SystemClock
from backout.providers.objects.gate import Gate
from backout.providers.objects.manifests import Manifests
from backout.providers.objects.snapshots import SnapshotHistory, SnapshotVersions
from backout.providers.objects.versions import S3BucketVersions
from backout.providers.retry import Retry
from backout.providers.s3.client import S3Client
from backout.providers.s3.sigv4 import S3Credentials
from backout.providers.s3.transport import S3Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.config import Config
    from backout.model.objects.versions import Moment
    from backout.ports import BucketVersions

_RETRY: Final = Retry(attempts=10, total_s=180.0)
"""A store that asks to slow down is waited for: half a restore is worse than a slow one."""
_AWS: Final = "https://s3.amazonaws.com"
_R2: Final = "https://{account}.r2.cloudflarestorage.com"


class OpenBucket:
    """An environment's bucket, by this machine's own access key.

    Attributes:
        place: which bucket of which store it is, and which history: what another machine has to have as well.

    Raises:
        AuthError: the access key is not set.
        UsageError: the environment has no bucket, or nothing says where it is.
    """

    def __init__(self, config: Config) -> None:
        access, storage = config.storage_access(), config.environment.storage
        assert storage is not None
        self._gate = Gate()
        self.endpoint = str(storage.endpoint or access.endpoint) or _find_endpoint(config)
        self.credentials = S3Credentials(access.access_key_id, access.secret_access_key.reveal())
        settings = S3Settings(self.endpoint, self.credentials, retry=_RETRY, hear=self._gate.hear)
        self._client = S3Client(settings, SystemClock())
        self._bucket = storage.bucket
        self.history = _make_history(config, self._client, self._gate)
        beside = "" if storage.history is None else f", history {storage.history}"
        self.place = f"{storage.bucket} at {self.endpoint.rstrip('/')}{beside}"

    def open(self, prefix: str, moment: Moment, check: Callable[[], None] = lambda: None) -> BucketVersions:
        """Return the port for the part below a prefix; a check is called before each call of the store."""
        self._gate.check = check
        if self.history is None:
            return S3BucketVersions(self._client, self._bucket, prefix, self._gate)
        return SnapshotVersions(self.history.narrow(prefix), moment)

    def close(self) -> None:
        """Close the idle connections."""
        self._client.close()


def _make_history(config: Config, client: S3Client, gate: Gate) -> SnapshotHistory | None:
    storage = config.environment.storage
    assert storage is not None
    if storage.history is None:
        return None
    root = find_root(config)
    manifests = Manifests(client, storage.history, root, *(key.reveal().encode() for key in config.history_keys()))
    return SnapshotHistory(client, storage.bucket, storage.prefix, storage.history, root, manifests, gate)


def find_root(config: Config) -> str:
    """Return what the names of an environment's snapshots begin with."""
    return f"backout/{config.name}/"


def _find_endpoint(config: Config) -> str:
    storage = config.environment.storage
    assert storage is not None
    if storage.provider == "s3":
        return _AWS
    return _R2.format(account=config.account_id)
