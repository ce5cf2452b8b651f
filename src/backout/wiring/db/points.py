"""The recorder of restore points."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.wiring.hooks import HURRIED_S

if TYPE_CHECKING:
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
