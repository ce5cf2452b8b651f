"""The application's bucket, and what brings its objects back, from a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.model.objects.checks import HistoryLock
from backout.providers.clock import SystemClock
from backout.providers.files.object_notes import FileChangeNotes
from backout.providers.objects.gate import Gate
from backout.providers.objects.look import S3BucketLook
from backout.providers.objects.manifests import Manifests
from backout.providers.objects.snapshots import SnapshotHistory, SnapshotVersions
from backout.providers.objects.versions import S3BucketVersions
from backout.providers.retry import Retry
from backout.providers.s3.client import S3Client
from backout.providers.s3.sigv4 import S3Credentials
from backout.providers.s3.transport import S3Settings
from backout.runbook.objects.tools import ObjectTools
from backout.wiring.records import find_actor, open_journal

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.config import Config
    from backout.journal.stop import StopRequest
    from backout.model.objects.progress import ObjectProgress
    from backout.model.objects.versions import Moment
    from backout.ports import BucketVersions

_RETRY: Final = Retry(attempts=10, total_s=180.0)
"""A store that asks to slow down is waited for: half a restore is worse than a slow one."""
_QUICK: Final = Retry(attempts=3, total_s=10.0)
"""Who only asks is told soon that nothing answers."""
_LOCK_WITHIN_S: Final = 10.0
_AWS: Final = "https://s3.amazonaws.com"
_R2: Final = "https://{account}.r2.cloudflarestorage.com"


def make_object_tools(
    config: Config,
    stop: StopRequest | None = None,
    progress: Callable[[ObjectProgress], None] = lambda _progress: None,
) -> ObjectTools:
    """Return the ports of the environment's bucket; they need no token of the platform.

    Raises:
        AuthError: the access key is not set.
        UsageError: the environment has no bucket, or nothing says where it is.
    """
    access, storage = config.storage_access(), config.environment.storage
    assert storage is not None
    gate, book = Gate(), open_journal(config, stop)
    endpoint = str(storage.endpoint or access.endpoint) or _find_endpoint(config)
    credentials = S3Credentials(access.access_key_id, access.secret_access_key.reveal())
    client = S3Client(S3Settings(endpoint, credentials, retry=_RETRY, hear=gate.hear), SystemClock())
    asking = S3Client(S3Settings(endpoint, credentials, retry=_QUICK), SystemClock())
    bucket, history = storage.bucket, _make_history(config, client, gate)

    def open_versions(prefix: str, moment: Moment) -> BucketVersions:
        if history is None:
            return S3BucketVersions(client, bucket, prefix, gate)
        return SnapshotVersions(history.narrow(prefix), moment)

    return ObjectTools(
        environment=config.name,
        actor=find_actor(),
        bucket=bucket,
        prefix=storage.prefix,
        clock=SystemClock(),
        journal=book,
        runs=book,
        look=S3BucketLook(asking, bucket, storage.prefix, SystemClock()),
        versions=open_versions,
        notes=FileChangeNotes(config.places.objects),
        snapshots=history,
        snapshot_every_s=float(storage.history_every),
        snapshot_keep_s=float(storage.history_keep),
        read_lock=lambda: _read_lock(config, asking),
        progress=progress,
    )


def _make_history(config: Config, client: S3Client, gate: Gate) -> SnapshotHistory | None:
    storage = config.environment.storage
    assert storage is not None
    if storage.history is None:
        return None
    root = _find_root(config)
    manifests = Manifests(client, storage.history, root, *(key.reveal().encode() for key in config.history_keys()))
    return SnapshotHistory(client, storage.bucket, storage.prefix, storage.history, root, manifests, gate)


def _read_lock(config: Config, client: S3Client) -> HistoryLock:
    storage = config.environment.storage
    assert storage is not None
    assert storage.history is not None
    if storage.provider == "r2":  # whose S3 API knows of no locks
        from backout.providers.cloudflare.bucket_lock import read_r2_lock
        from backout.wiring.platform import make_reader

        return read_r2_lock(make_reader(config, _LOCK_WITHIN_S), config.account_id, storage.history, _find_root(config))
    days = client.read_lock_days(storage.history)
    return HistoryLock(is_locked=days is not None, for_s=None if days is None else days * 86_400.0)


def _find_root(config: Config) -> str:
    return f"backout/{config.name}/"


def _find_endpoint(config: Config) -> str:
    storage = config.environment.storage
    assert storage is not None
    if storage.provider == "s3":
        return _AWS
    return _R2.format(account=config.account_id)
