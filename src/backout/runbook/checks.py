"""What every step that deploys makes sure of first: the world is as planned, nobody else acts, no hold is on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.remarks import proving, serving, still_decides, underneath
from backout.errors import BackoutError, Busy, Refused, WorldMoved
from backout.runbook.hold import holding, said

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backout.model.deployment import Deployment
    from backout.model.plan import Json
    from backout.model.remark import RemarkKind
    from backout.runbook.toolbox import Toolbox


PROVING_S = 30.0
"""A target that another run put at 0 % this long ago or less is still being proved there: it is asked for 5 seconds, a
hanging endpoint and routes included for some more. After a refusal it stays there, and a person must not wait long."""


def check_unmoved(tools: Toolbox, history: Sequence[Deployment], expected: str, run: str, version: str = "") -> None:
    """Return when the deployment that a plan rests on still decides about the traffic (safety rule 8).

    Args:
        version: what that deployment served.

    Raises:
        WorldMoved: it does not. Busy: another run is about to switch.
    """
    if not history:
        raise WorldMoved("nothing is deployed any more", where=tools.environment)
    if not still_decides(history, expected, version):
        live = underneath(history)
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


READ_AGAIN_S, READ_EVERY_S = 5.0, 0.5
"""A provider may go on listing what was live before a change for a moment: so long it is asked again."""


def listed_after(tools: Toolbox, made: str) -> tuple[Deployment, ...]:
    """Return the provider's history once it lists the deployment of that id, or as it is after a few seconds.

    Right after a change a list may be older than the change; it is asked again before anything is concluded.
    """
    deadline = tools.clock.now() + READ_AGAIN_S
    history = tools.deployments.history()
    while all(deployment.id != made for deployment in history) and tools.clock.now() < deadline:
        tools.clock.sleep(READ_EVERY_S)
        history = tools.deployments.history()
    return history


def still_listed(tools: Toolbox, made: str) -> tuple[Deployment, ...]:
    """Return the history as `listed_after` ("": as it is). Raises WorldMoved: there is none any more."""
    history = listed_after(tools, made) if made else tools.deployments.history()
    if not history:
        raise WorldMoved("nothing is deployed any more", where=tools.environment)
    return history


def as_read(tools: Toolbox, live: Deployment) -> dict[str, Json]:
    """Return what a step that read the provider back records of what is live."""
    return {"deployment": live.id, "version": live.main, "since": live.created_at, "read_at": tools.clock.now()}


def is_late(history: Sequence[Deployment], made: str, at: float) -> bool:
    """Whether a list is older than a deployment that was made at that time, so that it says nothing about it."""
    return history[0].created_at < at and all(deployment.id != made for deployment in history)


def own(history: Sequence[Deployment], run: str, kind: RemarkKind | None = None) -> Deployment | None:
    """Return the newest listed deployment (of that kind) that this run made, or None.

    A run's id is drawn, and is known here: its own deployment is found although another one slipped in beneath it.
    What it made live, the caller compares with what it meant to.
    """
    said = ((deployment, deployment.claim) for deployment in history)
    return next((d for d, r in said if r is not None and r.run == run and kind in (None, r.kind)), None)


def listed_with_own(tools: Toolbox, run: str, kind: RemarkKind) -> tuple[Deployment, ...]:
    """Return the history once it lists what this run deployed, or once it would list it.

    For an attempt that nobody saw the end of: a list that is older than it must not be taken for "it did not happen".
    """
    deadline = tools.clock.now() + READ_AGAIN_S
    history = tools.deployments.history()
    while own(history, run, kind) is None and tools.clock.now() < deadline:
        tools.clock.sleep(READ_EVERY_S)
        history = tools.deployments.history()
    return history


def look_after_trouble(tools: Toolbox, expected: str, run: str, kind: RemarkKind) -> Deployment | None:
    """After a deployment whose answer was lost: return it when it was made; when it undid another one, put that back.

    Raises:
        WorldMoved: another deployment came in between.
    """
    try:
        history = listed_with_own(tools, run, kind)
    except BackoutError:
        return None  # the provider does not answer; the next attempt looks first
    made = own(history, run, kind)
    if made is not None:
        check_undisturbed(tools, history, made.id, expected=expected, run=run)
    return made


def check_undisturbed(tools: Toolbox, history: Sequence[Deployment], made: str, *, expected: str, run: str) -> None:
    """Return when our own deployment `made` lies on the one that the plan rests on (safety rule 8).

    No provider here makes live "only if nothing changed", so between our look and our deployment another one may slip
    in, and ours then undid it unseen. It is put back when it served other versions, and nothing else is done: a hotfix
    is never rolled back by an old verdict. A list that does not have ours says nothing; later steps look again.

    Raises:
        WorldMoved: another deployment came in between, and what it served was lost.
    """
    place = next((number for number, deployment in enumerate(history) if deployment.id == made), None)
    planned = next((deployment for deployment in history if deployment.id == expected), None)
    below = [] if place is None else [d for d in history[place + 1 :] if own((d,), run) is None]
    if place is None or planned is None or not below:
        return
    lost = underneath(below)
    if lost.id == expected or serving(lost) in (serving(history[place]), serving(planned)):
        return
    if place == 0:
        tools.deployments.deploy(lost.shares, message=f"put back by backout ({run}): {lost.message}", force=True)
    raise WorldMoved(
        f"deployment {lost.id} (version {lost.main}) came in just before ours and is not what this plan rests on"
        + ("; it was put back" if place == 0 else ""),
        where=tools.environment,
        hint=f"backout status -e {tools.environment}",
    )


HOLD_RULE = "10 hold"


def check_not_held(tools: Toolbox, history: Sequence[Deployment], args: Mapping[str, Json]) -> None:
    """Return unless this is an automatic action and a hold is on, set at any time before now (safety rule 10)."""
    hold = holding(tools, history) if args.get("detected") else None
    if hold is not None:
        raise Refused(
            f"a hold is on, so nothing is done automatically ({said(hold)})",
            where=tools.environment,
            rule=HOLD_RULE,
            options=(
                f"act by hand: `backout rollback -e {tools.environment} -m WHY`",
                f"lift it: `backout unhold -e {tools.environment}`",
            ),
        )


def _is_over(tools: Toolbox, run: str) -> bool:
    """Whether a run is one of this journal's that has ended: the target of a proof that failed stays at 0 %."""
    found = tools.runs.find(run)
    return found is not None and found.state.is_over
