"""The kill switch: whether every automatic action is stopped, here or by another machine (safety rule 10).

A hold is in two places: a file of this host, which needs nothing else, and a remark at the provider, which every
machine sees. Once the remark is there, the file has its time and its deployment, so that both are compared by one
clock: the newer counts, wherever it was set or lifted. A file that was never announced counts by itself, and only this
host lifts it: the clocks of two machines are never compared.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from backout.analysis.history.remarks import find_hold, list_unsigned_holds
from backout.errors import BackoutError
from backout.escaping import shorten
from backout.model.hold import LONGEST_S, UNSIGNED_A_DAY
from backout.runbook.incident.open_incident import find_open_incident
from backout.runbook.safety.clock import get_correction_s

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.deployment import Deployment
    from backout.model.hold import Hold
    from backout.runbook.toolbox import Toolbox

HERE = "this host"
_DAY_S = 86_400.0


def find_active_hold(tools: Toolbox, history: Sequence[Deployment] = ()) -> Hold | None:
    """Return the hold that is on now: of this host, or of the provider's history.

    The provider's hold is stored beside this host's own: the provider lists only its newest deployments.
    """
    now, listed = tools.clock.now(), find_hold(history)
    there = listed.as_told() if listed is not None else None
    seen = _remember_seen(tools, there)
    here = _read_kept(tools, tools.environment)  # last: nearest to what follows
    for own in (here, seen):
        if (
            own is not None and own.where == HERE and _is_on(tools, own, now - get_correction_s(tools))
        ):  # by our own clock
            return own
    announced = [hold for hold in (there, here, seen) if hold is not None and hold.where != HERE]
    newest = max(announced, key=lambda hold: hold.at, default=None)
    if newest is not None and here is not None and here.where == newest.where:
        newest = here  # the same one: this host knows who typed it, the provider the owner of the token
    if newest is not None and _is_on(tools, newest, now):
        return newest
    return find_unsigned_hold(tools, history, since=newest.at if newest is not None else 0.0)


def find_unsigned_hold(tools: Toolbox, history: Sequence[Deployment], *, since: float = 0.0) -> Hold | None:
    """Return the hold without a signature that is on, although marks are signed here: two hours, twice a day (rule 10).

    A person without a key may need to stop guard; but someone who may only deploy must not stop it for long. So the
    newest ones that counted are kept on this host: a provider's list is soon full.

    Args:
        since: only what was set after this counts (Unix seconds).
    """
    told = tuple(each.as_told() for each in list_unsigned_holds(history))
    lifted = max([since, *(hold.at for hold in told if not hold.until)])
    names = [f"{tools.environment}@unsigned-{number}" for number in range(UNSIGNED_A_DAY)]
    counted = [kept for name in names if (kept := _read_kept(tools, name)) is not None]
    known = {hold.where for hold in counted}
    for hold in reversed(told):
        recent = [earlier for earlier in counted if abs(hold.at - earlier.at) < _DAY_S]
        if hold.until and hold.where not in known and len(recent) < UNSIGNED_A_DAY:
            counted = sorted((hold, *counted), key=lambda each: -each.at)[:UNSIGNED_A_DAY]
    if tools.safety.holds is not None and {hold.where for hold in counted} != known:
        for name, hold in zip(names, counted, strict=False):
            with contextlib.suppress(BackoutError):  # the provider's list tells it for now
                tools.safety.holds.write(name, hold)
    now = tools.clock.now()
    return next((hold for hold in counted if hold.at > lifted and hold.is_on(now)), None)


def _is_on(tools: Toolbox, hold: Hold, now: float) -> bool:
    """Whether a hold is on: until it ends, and while the incident it was set in is open."""
    if hold.is_on(now):
        return True
    if not hold.until or not hold.incident:
        return False
    try:
        if tools.runs.find(hold.incident) is not None:
            return find_open_incident(tools.runs, tools.environment) == hold.incident
    except BackoutError:
        pass
    return now < hold.at + LONGEST_S  # another machine's incident: it is not known here that it is over


def _read_kept(tools: Toolbox, name: str) -> Hold | None:
    """Return what a file of this host says; no hold lasts longer than the longest, whatever the file says."""
    kept = tools.safety.holds.read(name) if tools.safety.holds is not None else None
    return None if kept is None else kept.limit()


def name_seen_at_provider(environment: str) -> str:
    """Return the name under which this host stores what the provider last told; no environment has such a name."""
    return f"{environment}@provider"


def _remember_seen(tools: Toolbox, there: Hold | None) -> Hold | None:
    """Return what the provider told before, and store what it tells now if that is newer."""
    if tools.safety.holds is None:
        return None
    name = name_seen_at_provider(tools.environment)
    seen = _read_kept(tools, name)
    if there is not None and (seen is None or there.at > seen.at):
        with contextlib.suppress(BackoutError):  # it counts by the provider's word in any case
            tools.safety.holds.write(name, there)
    return seen


def describe_hold(hold: Hold) -> str:
    """Return the hold in words: why, who set it, where."""
    signed = ", not signed" if hold.unsigned else ""
    return f"{shorten(hold.why)}; set by {hold.by or 'someone'}, {hold.where}{signed}"
