"""The application's bucket, and what brings its objects back, from a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.model.objects.checks import HistoryLock
from backout.providers.clock import SystemClock
from backout.providers.files.object_notes import FileChangeNotes
from backout.providers.objects.look import S3BucketLook
from backout.providers.retry import Retry
from backout.providers.s3.client import S3Client
from backout.providers.s3.transport import S3Settings
from backout.runbook.objects.tools import ObjectTools
from backout.wiring.buckets import OpenBucket, find_root
from backout.wiring.records import find_actor, open_journal

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.config import Config
    from backout.journal.stop import StopRequest
    from backout.model.objects.progress import ObjectProgress
    from backout.runbook.objects.tools import Spread

_QUICK: Final = Retry(attempts=3, total_s=10.0)
"""Who only asks is told soon that nothing answers."""
_LOCK_WITHIN_S: Final = 10.0


def make_object_tools(
    config: Config,
    stop: StopRequest | None = None,
    progress: Callable[[ObjectProgress], None] = lambda _progress: None,
    *,
    is_spread: bool = False,
    say: Callable[[str], None] = lambda _text: None,
) -> ObjectTools:
    """Return the ports of the environment's bucket; they need no token of the platform.

    Args:
        is_spread: ranges of a restore are left to other machines as well; say: is told why they gave one up.

    Raises:
        AuthError: the access key is not set.
        UsageError: the environment has no bucket, nothing says where it is, or what spreads a restore is missing.
    """
    storage = config.environment.storage
    assert storage is not None
    found, book = OpenBucket(config), open_journal(config, stop)
    asking = S3Client(S3Settings(found.endpoint, found.credentials, retry=_QUICK), SystemClock())
    bucket, history, open_versions = storage.bucket, found.history, found.open
    spread: Spread | None = None
    if config.settings.journal.url_env is not None:
        from backout.wiring.tasks import make_spread

        spread = make_spread(config, found, say, drives=is_spread)
    elif is_spread:
        from backout.wiring.tasks import make_no_server_error

        raise make_no_server_error()

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
        spread=spread,
        is_spread=is_spread,
    )


def _read_lock(config: Config, client: S3Client) -> HistoryLock:
    storage = config.environment.storage
    assert storage is not None
    assert storage.history is not None
    if storage.provider == "r2":  # whose S3 API knows of no locks
        from backout.providers.cloudflare.bucket_lock import read_r2_lock
        from backout.wiring.platform import make_reader

        return read_r2_lock(make_reader(config, _LOCK_WITHIN_S), config.account_id, storage.history, find_root(config))
    days = client.read_lock_days(storage.history)
    return HistoryLock(is_locked=days is not None, for_s=None if days is None else days * 86_400.0)
