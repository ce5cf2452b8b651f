"""What is asked of how far the data of an environment can go back, from a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.runbook.recovery.points import PointSources

if TYPE_CHECKING:
    from backout.config import Config
    from backout.model.database.capability import VendorState
    from backout.ports import PointMarker
    from backout.runbook.objects.tools import ObjectTools
    from backout.runbook.toolbox import Toolbox


def make_point_sources(config: Config) -> PointSources:
    """Return what is asked; nothing is asked yet."""
    database = config.environment.database

    def open_objects() -> ObjectTools:
        from backout.wiring.objects import make_object_tools

        return make_object_tools(config)

    def ask_vendor() -> VendorState:
        from backout.wiring.db.managed import make_vendor

        return make_vendor(config).capabilities()

    return PointSources(
        objects=open_objects if config.environment.storage is not None else None,
        vendor=ask_vendor if database is not None and database.managed is not None else None,
    )


def find_marker(config: Config, tools: Toolbox) -> PointMarker | None:
    """Return what records a restore point on demand, with a branch where a vendor needs one; None: no database."""
    from backout.wiring.db.points import add_branches

    marker = tools.recovery.points
    return None if marker is None else add_branches(config, marker, tools.say)
