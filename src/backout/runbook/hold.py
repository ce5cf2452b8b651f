"""The kill switch: whether every automatic action is stopped, here or by another machine (safety rule 10)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.remarks import hold_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.deployment import Deployment
    from backout.model.hold import Hold
    from backout.runbook.toolbox import Toolbox


def holding(tools: Toolbox, history: Sequence[Deployment] = ()) -> Hold | None:
    """Return the hold that is on now: of this host, or of the provider's history, whichever was set last."""
    here = tools.holds.read(tools.environment) if tools.holds is not None else None
    found = [hold for hold in (here, hold_in(history)) if hold is not None]
    newest = max(found, key=lambda hold: hold.at, default=None)
    return newest if newest is not None and newest.is_on(tools.clock.now()) else None
