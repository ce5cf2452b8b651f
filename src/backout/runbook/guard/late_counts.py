"""Counts that come late: a watch waits for those of its version, and does not end well before they are there."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from backout.model.guard.signals import LATE_S

if TYPE_CHECKING:
    from backout.ports import WaitsForVersion
    from backout.runbook.toolbox import Toolbox

_BEYOND_S = 5.0


def wait_for(tools: Toolbox, version: str) -> None:
    """Have the source wait for the late counts of this version alone, where it can tell; of every version with ""."""
    if hasattr(tools.traffic, "watch"):  # the wrapper passes attributes on, which `isinstance` does not see
        cast("WaitsForVersion", tools.traffic).watch(version)


def awaits_counts(tools: Toolbox, complete_until: int | None, ends_at: float) -> bool:
    """Return whether counts from before now, or the end, are still to come from a source that is late, but not lost.

    Args:
        complete_until: how far they reach, None: nothing was ever read.
        ends_at: the end of the watch, Unix seconds.
    """
    now = tools.clock.now()
    until = min(now, ends_at)
    if tools.traffic is None or complete_until is None or complete_until >= until:
        return False
    traits = tools.traffic.traits
    return traits.lag_s >= LATE_S and not traits.sampled and now < until + traits.lag_s + _BEYOND_S
