"""What every step that deploys checks first: the world is as planned, no one else acts, no hold is on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.history.remarks import find_running_proof, find_underneath, is_deciding, is_served_alike
from backout.errors import BackoutError, Busy, PartlyDone, Refused, WorldMoved
from backout.model.steps.rollback import ReadBackResult
from backout.rules import SafetyRule
from backout.runbook.safety.hold import describe_hold, find_active_hold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.deployment import Deployment
    from backout.model.remark import RemarkKind
    from backout.runbook.toolbox import Toolbox


PROVING_S = 30.0
"""A target that another run put at 0 % this recently is still being proved there: it is asked for 5 seconds, and some
more with a hanging endpoint and routes. After a refusal it stays there, and a person must not have to wait long."""


def check_unmoved(tools: Toolbox, history: Sequence[Deployment], expected: str, run: str, version: str = "") -> None:
    """Check that the deployment that a plan is based on still decides about the traffic (safety rule 8).

    Args:
        version: what that deployment served.

    Raises:
        WorldMoved: it does not.
        Busy: another run is about to switch.
    """
    if not history:
        raise WorldMoved("nothing is deployed any more", where=tools.environment)
    if not is_deciding(history, expected, version):
        live = find_underneath(history)
        raise WorldMoved(
            f"deployment {live.id} (version {live.main}) is live, not {expected} on which this plan rests",
            where=tools.environment,
            hint=f"backout status -e {tools.environment}",
        )
    other = find_running_proof(history, apart_from=run, since=tools.clock.now() - PROVING_S)
    if other is not None and not _is_over(tools, other[1].run):
        raise Busy(
            f"run {other[1].run} of another machine is rolling back just now (deployment {other[0].id})",
            where=tools.environment,
            hint=f"backout status -e {tools.environment}",
        )


READ_AGAIN_S, READ_EVERY_S = 5.0, 0.5
"""For a moment a provider may still list what was live before a change: how long to ask again."""


def await_listed(tools: Toolbox, made: str) -> tuple[Deployment, ...]:
    """Return the provider's history once it lists the deployment of that id, or as it is after a few seconds.

    Right after a change a list may be older than the change; it is requested again before anything is concluded.
    """
    deadline = tools.clock.now() + READ_AGAIN_S
    history = tools.deployments.history()
    while all(deployment.id != made for deployment in history) and tools.clock.now() < deadline:
        tools.clock.sleep(READ_EVERY_S)
        history = tools.deployments.history()
    return history


def await_still_listed(tools: Toolbox, made: str) -> tuple[Deployment, ...]:
    """Return the history as `await_listed` ("": as it is). Raises WorldMoved: there is none any more."""
    history = await_listed(tools, made) if made else tools.deployments.history()
    if not history:
        raise WorldMoved("nothing is deployed any more", where=tools.environment)
    return history


def check_on_every_host(tools: Toolbox, live: Deployment) -> None:
    """Raise PartlyDone where a host shows another deployment than the others, or was not read."""
    if live.hosts:
        raise PartlyDone(f"it is not live on every host: {live.describe_hosts()}", where=tools.environment)


def make_read_back(tools: Toolbox, live: Deployment) -> ReadBackResult:
    """Return what a read-back step records about what is live."""
    return ReadBackResult(deployment=live.id, version=live.main, since=live.created_at, read_at=tools.clock.now())


def is_late(history: Sequence[Deployment], made: str, at: float) -> bool:
    """Whether a list is older than a deployment made at that time, so that it says nothing about it."""
    return history[0].created_at < at and all(deployment.id != made for deployment in history)


def find_own(history: Sequence[Deployment], run: str, kind: RemarkKind | None = None) -> Deployment | None:
    """Return the newest listed deployment (of that kind) that this run made, or None.

    A run's id is drawn, and is known here: its own deployment is found although another one slipped in beneath it. The
    caller compares what it made live with what it meant to.
    """
    said = ((deployment, deployment.claim) for deployment in history)
    return next((d for d, r in said if r is not None and r.run == run and kind in (None, r.kind)), None)


def await_own_listed(tools: Toolbox, run: str, kind: RemarkKind) -> tuple[Deployment, ...]:
    """Return the history once it lists this run's deployment, or once it would list it.

    For an attempt whose end was not seen: a list that is older than it must not be taken for "it did not happen".
    """
    deadline = tools.clock.now() + READ_AGAIN_S
    history = tools.deployments.history()
    while find_own(history, run, kind) is None and tools.clock.now() < deadline:
        tools.clock.sleep(READ_EVERY_S)
        history = tools.deployments.history()
    return history


def look_after_trouble(tools: Toolbox, expected: str, run: str, kind: RemarkKind) -> Deployment | None:
    """After a deployment whose answer was lost: return it if it was made; if it undid another one, put that back.

    Raises:
        WorldMoved: another deployment came in between.
    """
    try:
        history = await_own_listed(tools, run, kind)
    except BackoutError:
        return None  # the provider does not answer; the next attempt looks first
    made = find_own(history, run, kind)
    if made is not None:
        check_undisturbed(tools, history, made.id, expected=expected, run=run)
    return made


def check_undisturbed(tools: Toolbox, history: Sequence[Deployment], made: str, *, expected: str, run: str) -> None:
    """Check that our own deployment `made` is on top of the one that the plan is based on (safety rule 8).

    No provider here makes live "only if nothing changed", so between our look and our deployment another one may slip
    in, and ours then undid it unseen. It is put back if it served other versions, and nothing else is done: a hotfix is
    never rolled back by an old verdict. A list without ours says nothing; later steps look again.

    Raises:
        WorldMoved: another deployment came in between, and what it served was lost.
    """
    place = next((number for number, deployment in enumerate(history) if deployment.id == made), None)
    planned = next((deployment for deployment in history if deployment.id == expected), None)
    below = [] if place is None else [d for d in history[place + 1 :] if find_own((d,), run) is None]
    if place is None or planned is None or not below:
        return
    lost = find_underneath(below)
    if lost.id == expected or any(is_served_alike(lost, each) for each in (history[place], planned)):
        return
    if place == 0:
        message = f"put back by backout ({run}): {lost.message}"
        tools.deployments.deploy(lost.shares, message=message, force=True, cohorts=lost.cohorts)
    raise WorldMoved(
        f"deployment {lost.id} (version {lost.main}) came in just before ours and is not what this plan rests on"
        + ("; it was put back" if place == 0 else ""),
        where=tools.environment,
        hint=f"backout status -e {tools.environment}",
    )


HOLD_RULE = SafetyRule.HOLD


def check_not_held(tools: Toolbox, history: Sequence[Deployment], *, is_automatic: bool) -> None:
    """Raise Refused for an automatic action while a hold is on, set at any time before now (safety rule 10)."""
    hold = find_active_hold(tools, history) if is_automatic else None
    if hold is not None:
        raise Refused(
            f"a hold is on, so nothing is done automatically ({describe_hold(hold)})",
            where=tools.environment,
            rule=HOLD_RULE,
            options=(
                f"act by hand: `backout rollback -e {tools.environment} -m WHY`",
                f"lift it: `backout unhold -e {tools.environment}`",
            ),
        )


def _is_over(tools: Toolbox, run: str) -> bool:
    """Whether a run is a finished one of this journal: the target of a failed proof stays at 0 %."""
    found = tools.runs.find(run)
    return found is not None and found.state.is_over
