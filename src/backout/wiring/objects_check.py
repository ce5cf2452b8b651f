"""Whether the past of the application's bucket is kept, from a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.config import Config
    from backout.model.checkup import Check


def find_objects_check(config: Config) -> Callable[[], Check] | None:
    """Return what asks the bucket, which changes nothing; None without a bucket, or without an access key of it."""
    storage = config.environment.storage
    if storage is None or not (storage.credentials_env or storage.credentials_file):
        return None
    return lambda: check_bucket(config)


def check_bucket(config: Config, *, must_be_kept: bool = False) -> Check:
    """Ask the bucket whether its past is kept; nothing is changed.

    Args:
        must_be_kept: as of `check_objects`.

    Raises:
        BackoutError: as `make_object_tools`, or the store does not answer.
    """
    from backout.analysis.checkup.objects import check_objects
    from backout.wiring.objects import make_object_tools

    tools = make_object_tools(config)
    facts, kept = tools.look.read(), tools.snapshots
    newest = kept.list_manifests()[-1:] if kept else ()
    now = tools.clock.now() + (facts.clock_ahead_s or 0.0)
    return check_objects(
        facts,
        config.name,
        snapshot_age_s=now - newest[0].at if newest else None,
        takes_snapshots=kept is not None,
        every_s=tools.snapshot_every_s,
        must_be_kept=must_be_kept,
        snapshot_objects=newest[0].objects if newest else 0,
    )
