"""A watch of one version alone: another job's deployment is not judged in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.history.remarks import find_underneath
from backout.errors import WorldMoved
from backout.model.plan import Plan, PlanRefused
from backout.model.steps.guard import WatchStep
from backout.runbook.incident.report import find_watch

if TYPE_CHECKING:
    from backout.model.incident.incident import Run
    from backout.runbook.toolbox import Toolbox

LISTED_S, LOOK_EVERY_S = 60.0, 2.0
"""How late a provider may list the deployment of a moment ago."""


def await_version(tools: Toolbox, version: str) -> None:
    """Return when a version has traffic, at once for "".

    Raises:
        WorldMoved: it does not get any.
    """
    deadline = tools.clock.now() + LISTED_S
    while version:
        live = find_underneath(tools.deployments.history())
        if live.serves(version.lower()):
            return
        if tools.clock.now() >= deadline:
            raise _make_error(tools, version, live.main)
        tools.clock.sleep(LOOK_EVERY_S)


def check_version(tools: Toolbox, plan: Plan | PlanRefused, version: str) -> None:
    """Raise WorldMoved for the plan of a watch of another version; "" is whichever came last."""
    if version and isinstance(plan, Plan) and (found := plan.arguments(WatchStep).version) != version.lower():
        raise _make_error(tools, version, found)


def is_watch_of(tools: Toolbox, run: Run, version: str) -> bool:
    """Whether a run is, or came from, a watch of that version; "" is any: its verdict says nothing of another one."""
    watch = find_watch(tools.runs, run.id)
    return not version or (watch is not None and watch.plan.arguments(WatchStep).version == version.lower())


def _make_error(tools: Toolbox, wanted: str, found: str) -> WorldMoved:
    return WorldMoved(
        f"version {wanted} was to be watched, and {found} is what came last",
        where=tools.environment,
        hint=f"backout deployments list -e {tools.environment}",
    )
