"""The kill switch: whether every automatic action is stopped, here or by another machine (safety rule 10).

A hold stands in two places: a file of this host, which needs nothing else, and a remark at the provider, which every
machine sees. Once the remark is there, the file carries its time and its deployment, so that both are told apart by one
clock: of those, the newer counts, wherever it was set or lifted. A file that was never announced counts by itself, and
only this host lifts it: the clocks of two machines are never compared.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from backout.analysis.remarks import Remark, RemarkKind, hold_in, is_remark
from backout.errors import BackoutError, WorldMoved
from backout.model.hold import Hold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.deployment import Deployment
    from backout.runbook.toolbox import Toolbox

HERE = "this host"
_TRIES = 3


def holding(tools: Toolbox, history: Sequence[Deployment] = ()) -> Hold | None:
    """Return the hold that is on now: of this host, or of the provider's history.

    A hold that the provider tells is kept in this host's file as well: the provider lists its newest deployments only.
    """
    there = hold_in(history)
    here = tools.holds.read(tools.environment) if tools.holds is not None else None  # last: nearest to what follows
    now = tools.clock.now()
    if here is not None and here.where == HERE and here.is_on(now):
        return here
    if there is None or (here is not None and here.where != HERE and here.at >= there.at):
        newest = here
    else:
        newest = there
        if tools.holds is not None and here != there:
            with contextlib.suppress(BackoutError):  # it holds by the provider's word in any case
                tools.holds.write(tools.environment, there)
    return newest if newest is not None and newest.is_on(now) else None


def announce(tools: Toolbox, hold: Hold) -> Hold:
    """Set (or lift, `until` 0) the hold at the provider, and return it as the provider tells it; then the file knows it.

    The remark is a deployment of exactly what is live. Should another deployment slip in between, its traffic is put
    back at once: a hold never undoes what somebody else made live.

    Raises:
        BackoutError: the provider did not take it. WorldMoved: others deploy all the time; the remark may be there.
    """
    remark = Remark(RemarkKind.HOLD, until=hold.until, text=hold.why)
    history = tools.deployments.history()
    if not history:
        raise WorldMoved("nothing is deployed, so there is nothing to hold at the provider", where=tools.environment)
    under, ours = history[0], set[str]()
    for _ in range(_TRIES):
        # What is put back was live a moment ago by somebody's decision, its secrets included.
        made = tools.deployments.deploy(under.shares, message=str(remark), force=bool(ours))
        ours.add(made.id)
        beneath = _beneath(tools.deployments.history(), made, ours)
        if beneath is None or beneath.id == under.id or is_remark(made, beneath):
            told = replace(hold, at=made.created_at, by=hold.by or made.author, where=f"deployment {made.id}")
            if tools.holds is not None:
                tools.holds.write(tools.environment, told)
            return told
        under = beneath
    raise WorldMoved(
        "other deployments come in faster than the hold can be written down at the provider",
        where=tools.environment,
        hint=f"backout status -e {tools.environment}",
    )


def _beneath(history: Sequence[Deployment], made: Deployment, ours: set[str]) -> Deployment | None:
    """Return what the history lists next under a deployment, ours left out; None when it does not say."""
    ids = [deployment.id for deployment in history]
    if made.id not in ids:
        return None
    return next((deployment for deployment in history[ids.index(made.id) + 1 :] if deployment.id not in ours), None)


def said(hold: Hold) -> str:
    """Return the hold in words: why, by whom, where."""
    return f"{hold.why}; set by {hold.by or 'somebody'}, {hold.where}"
