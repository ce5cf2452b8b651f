"""What every step that deploys makes sure of first: the world is as planned, nobody else acts, no hold is on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.remarks import proving, underneath
from backout.errors import Busy, Refused, WorldMoved
from backout.runbook.hold import holding, said

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backout.model.deployment import Deployment
    from backout.model.plan import Json
    from backout.runbook.toolbox import Toolbox


def live_deployment(tools: Toolbox) -> Deployment:
    """Return the deployment that the provider says is live; raises WorldMoved when there is none any more."""
    history = tools.deployments.history()
    if not history:
        raise WorldMoved("nothing is deployed any more", where=tools.environment)
    return history[0]


PROVING_S = 120.0
"""A target that another run put at 0 % this long ago or less is still being proved there."""


def check_unmoved(tools: Toolbox, history: Sequence[Deployment], expected: str, run: str) -> None:
    """Return when the deployment that a plan rests on still decides about the traffic (safety rule 8).

    Raises:
        WorldMoved: it does not. Busy: another run is about to switch.
    """
    if not history:
        raise WorldMoved("nothing is deployed any more", where=tools.environment)
    live = underneath(history)
    if live.id != expected:
        raise WorldMoved(
            f"deployment {live.id} (version {live.main}) is live, not {expected} on which this plan rests",
            where=tools.environment,
            hint=f"backout status -e {tools.environment}",
        )
    other = proving(history, apart_from=run, since=tools.clock.now() - PROVING_S)
    if other is not None and not _is_over(tools, other[1].run):
        raise Busy(
            f"run {other[1].run} of another machine is rolling back just now (deployment {other[0].id})",
            where=tools.environment,
            hint=f"backout status -e {tools.environment}",
        )


def check_not_held(tools: Toolbox, history: Sequence[Deployment], args: Mapping[str, Json]) -> None:
    """Return unless this is an automatic action and a hold is on, set at any time before now (safety rule 10)."""
    hold = holding(tools, history) if args.get("detected") else None
    if hold is not None:
        raise Refused(
            f"a hold is on, so nothing is done automatically ({said(hold)})",
            where=tools.environment,
            rule="10 hold",
            options=(
                f"act by hand: `backout rollback -e {tools.environment} -m WHY`",
                f"lift it: `backout unhold -e {tools.environment}`",
            ),
        )


def _is_over(tools: Toolbox, run: str) -> bool:
    """Whether a run is one of this journal's that has ended: the target of a proof that failed stays at 0 %."""
    found = tools.runs.find(run)
    return found is not None and found.state.is_over
