"""The recorder of restore points."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.wiring.hooks import HURRIED_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.config import Config
    from backout.ports import PointMarker


def make_point_marker(config: Config) -> PointMarker | None:
    """Return what records restore points, None where returning to one is impossible."""
    settings = config.environment.database
    if settings is None or settings.provider != "postgres":
        return None
    if settings.backup.wal == "off" and settings.managed is None:
        return None
    from backout.providers.postgres.restore.live import PostgresLive

    return PostgresLive(lambda: config.database_admin_url().reveal(), connect_timeout_s=HURRIED_S)


def keeps_branches(config: Config) -> bool:
    """Whether the vendor goes back to no moment, so that a branch has to keep a restore point."""
    settings = config.environment.database
    return settings is not None and settings.managed is not None and settings.managed.provider == "xata"


def add_branches(config: Config, marker: PointMarker, say: Callable[[str], None]) -> PointMarker:
    """Return what records restore points so that they can be returned to: with a branch, where the vendor needs one.

    Marking raises as `managed.open_checked_vendor`.
    """
    from backout.runbook.recovery.branch_points import BranchMarker
    from backout.wiring.db.managed import open_checked_vendor

    return BranchMarker(marker, lambda: open_checked_vendor(config, say)) if keeps_branches(config) else marker
