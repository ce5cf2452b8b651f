"""The kill switch: whether every automatic action is stopped, here or by another machine (safety rule 10).

A hold stands in two places: a file of this host, which needs nothing else, and a remark at the provider, which every
machine sees. Once the remark is there, the file carries its time and its deployment, so that both are told apart by one
clock: of those, the newer counts, wherever it was set or lifted. A file that was never announced counts by itself, and
only this host lifts it: the clocks of two machines are never compared.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from backout.analysis.remarks import hold_in
from backout.errors import BackoutError
from backout.runbook.clock import correction_s

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.deployment import Deployment
    from backout.model.hold import Hold
    from backout.runbook.toolbox import Toolbox

HERE = "this host"


def holding(tools: Toolbox, history: Sequence[Deployment] = ()) -> Hold | None:
    """Return the hold that is on now: of this host, or of the provider's history.

    What the provider tells is kept beside this host's own hold: the provider lists its newest deployments only.
    """
    now, there = tools.clock.now(), hold_in(history)
    seen = _seen(tools, there)
    here = tools.holds.read(tools.environment) if tools.holds is not None else None  # last: nearest to what follows
    for own in (here, seen):
        if own is not None and own.where == HERE and own.is_on(now - correction_s(tools)):  # by this machine's clock
            return own
    announced = [hold for hold in (there, here, seen) if hold is not None and hold.where != HERE]
    newest = max(announced, key=lambda hold: hold.at, default=None)
    return newest if newest is not None and newest.is_on(now) else None


def seen_at_provider(environment: str) -> str:
    """Return the name under which this host keeps what the provider told last; no environment is called so."""
    return f"{environment}@provider"


def _seen(tools: Toolbox, there: Hold | None) -> Hold | None:
    """Return what the provider told before now, and keep what it tells now when that is newer."""
    if tools.holds is None:
        return None
    name = seen_at_provider(tools.environment)
    seen = tools.holds.read(name)
    if there is not None and (seen is None or there.at > seen.at):
        with contextlib.suppress(BackoutError):  # it counts by the provider's word in any case
            tools.holds.write(name, there)
    return seen


def said(hold: Hold) -> str:
    """Return the hold in words: why, by whom, where."""
    return f"{hold.why}; set by {hold.by or 'somebody'}, {hold.where}"
