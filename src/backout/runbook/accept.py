"""A person's word that a shift in what is answered is intended: it ends a hold as healthy (`guard accept`).

What was intended is said by a person or in the configuration, never by the message of a commit or a deployment.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backout.analysis.remarks import still_decides
from backout.errors import BackoutError, Refused, UsageError
from backout.model.deployment import Mark
from backout.model.incident import RunState
from backout.model.plan import PlanKind
from backout.model.remark import RemarkKind
from backout.model.shift import ACCEPTED, Outcome
from backout.report.acceptances import acceptances
from backout.runbook.checks import own
from backout.runbook.held import (
    SHIFT_RULE,
    accepted,
    as_intended,
    decision_of,
    ended_held,
    holding,
    holding_in,
    is_held,
)
from backout.runbook.identity import check_identity
from backout.runbook.incident import add_to_report
from backout.runbook.stable import mark_stable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from backout.model.deployment import Deployment
    from backout.model.incident import Run
    from backout.model.plan import Json
    from backout.model.shift import Shift
    from backout.model.verdict import Decision
    from backout.runbook.toolbox import Toolbox

_ENDS_S, _LOOK_S = 15.0, 0.5
"""How long is waited for what follows from a watch that has just ended, and how often it is looked at."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """What came of a person's word.

    Args:
        run: the watch. remaining: shifts that hold it still. watching: it goes on. partly: it has a part of the
            traffic only, so another watch moves it up. result: of marking the version stable, as `conclude` returns
            it; None while the watch goes on, is held by others, or the version has a part of the traffic.
        ended: all is measured, and what follows is not done yet. interrupted: nobody drives the watch just now.
    """

    run: str
    version: str
    shift: str
    remaining: tuple[str, ...]
    watching: bool
    partly: bool
    result: Mapping[str, Json] | None
    ended: bool = False
    interrupted: bool = False


def options_of(tools: Toolbox, shifts: Iterable[Shift]) -> list[Json]:
    """Return the ways out of a hold, whole sentences with commands."""
    accept: list[Json] = [
        f"intended: `backout guard accept {shlex.quote(shift.name)} -e {tools.environment} -m WHY`"
        for shift in shifts
        if shift.outcome is Outcome.HOLD
    ]
    return [*accept, f"not intended: `backout rollback -e {tools.environment} -m WHY`"]


def open_shifts(tools: Toolbox) -> tuple[str, tuple[str, ...]]:
    """Return the newest watch, and the names of the shifts that hold it. Raises Refused as `accept`."""
    run = _open_watch(tools)
    known = accepted(tools, str(run.plan.step("watch").args["version"]))
    return run.id, tuple(name for name in _named(tools, run) if name not in known)


def accept(tools: Toolbox, shift: str, why: str) -> Accepted:
    """Record that a shift is intended; when nothing else holds the version of an ended watch, mark that stable.

    Raises:
        Refused: no watch is held, or its deployment is not live any more. UsageError: no shift has that name.
    """
    check_identity(tools)
    run = _open_watch(tools)
    named, version = _named(tools, run), str(run.plan.step("watch").args["version"])
    known = accepted(tools, version)
    if shift not in named:
        listed = ", ".join(f"'{name}'" for name in named) or "none"
        raise UsageError(
            f"no shift of watch {run.id} is called '{shift}'; those that hold it: {listed}",
            hint=f"backout runs show {run.id}",
        )
    data: dict[str, Json] = {"run": run.id, "version": version, "shift": shift, "why": why, "by": tools.actor}
    tools.journal.note(tools.environment, ACCEPTED, f"{run.id}:{shift}", data, actor=tools.actor)
    run = _concluded(tools, run)
    _report(tools, run, shift)
    remaining = tuple(name for name in named if name != shift and name not in known)
    decision, partly = decision_of(tools, run), bool(run.plan.step("conclude").args.get("ramp"))
    result: Mapping[str, Json] | None = None
    if run.state.is_over and not ended_held(tools, run):
        ended = tools.runs.result(run.id, "conclude")  # it was taken in there
        result = ended if isinstance(ended, dict) else {}
    elif run.state.is_over and decision is not None and not remaining and not partly:
        result = _conclude(tools, run, decision, f"{tools.actor} accepted {shift}: {why}")
    return Accepted(
        run.id,
        version,
        shift,
        remaining,
        not run.state.is_over,
        partly,
        result,
        ended=decision is not None,
        interrupted=run.state is RunState.INTERRUPTED,
    )


def _concluded(tools: Toolbox, run: Run) -> Run:
    """Return a watch as it stands; one that has just ended may still take in what was said, so it is waited for."""
    deadline = tools.clock.now() + _ENDS_S
    while decision_of(tools, run) is not None and run.state is RunState.RUNNING and tools.clock.now() < deadline:
        tools.clock.sleep(_LOOK_S)
        run = tools.runs.find(run.id) or run
    return run


def _named(tools: Toolbox, run: Run) -> list[str]:
    """Return the names of the shifts that hold a watch, those that are accepted too."""
    decision = decision_of(tools, run)
    if decision is None:
        return _told(tools, run)
    return [each.name for each in holding_in(decision)]


def _report(tools: Toolbox, run: Run, shift: str) -> None:
    """Write what was accepted into the report of its watch; a page that cannot be written keeps nobody from it."""
    noted = acceptances(tools.journal.events(environment=tools.environment, kind=ACCEPTED))
    for found in (each for each in noted if (each.run, each.shift) == (run.id, shift)):
        try:
            add_to_report(tools, found)
        except BackoutError as error:
            tools.say(f"it is recorded, and does not stand in the incident report: {error.what} ({error.where})")


def waiting(tools: Toolbox, run: Run | None, listed: Sequence[Deployment]) -> tuple[Shift, ...]:
    """Return the shifts of a watch that is over, for which a person has yet to say whether they are meant.

    Args:
        run: the newest watch, None where there was none. listed: the provider's list, newest first.
    """
    if run is None or not listed or not ended_held(tools, run):
        return ()
    args = run.plan.step("watch").args
    return holding(tools, run) if still_decides(listed, str(args["deployment"]), str(args["version"])) else ()


def _open_watch(tools: Toolbox) -> Run:
    """Return the newest watch, when it goes on or was held for a shift, and what it watched is live."""
    run = next((r for r in tools.runs.runs(tools.environment) if r.plan.kind is PlanKind.GUARD), None)
    why = "no deployment was watched here" if run is None else _why_closed(tools, run)
    if run is None or why:
        raise Refused(
            f"there is no hold to end: {why}",
            where=tools.environment,
            rule=SHIFT_RULE,
            options=(f"see what is live: `backout status -e {tools.environment}`",),
        )
    return run


def _why_closed(tools: Toolbox, run: Run) -> str:
    args = run.plan.step("watch").args
    history = tools.deployments.history()
    if not history or not still_decides(history, str(args["deployment"]), str(args["version"])):
        return f"another deployment took the place of the one that {run.id} watched"
    if not run.state.is_over:
        decision = decision_of(tools, run)
        if decision is None or is_held(decision):
            return ""
        return f"watch {run.id} found the version {decision.verdict}, and what follows from that is on its way"
    if not ended_held(tools, run):
        ended = tools.runs.result(run.id, "conclude")
        action = ended.get("action") if isinstance(ended, dict) else run.state
        how = "held" if action == "hold" else f"as {action}"
        return f"watch {run.id} ended {how}, and not for a shift in what is answered"
    if holding(tools, run) or not _is_marked(tools, run, history):
        return ""
    return f"all that held watch {run.id} is accepted already"


def _is_marked(tools: Toolbox, run: Run, history: Sequence[Deployment]) -> bool:
    """Whether what follows from a person's word was done, here and at the provider: a crash may have come before."""
    if run.plan.step("conclude").args.get("ramp"):
        return True  # another watch follows
    here = any(mark.mark is Mark.STABLE and mark.run == run.id for mark in tools.marks.marks(tools.environment))
    return here and (not tools.provider_marks or own(history, run.id, RemarkKind.STABLE) is not None)


def _told(tools: Toolbox, run: Run) -> list[str]:
    """Return the shifts that hold a watch which goes on, as it told them last."""
    names: list[str] = []
    for event in tools.journal.events(run=run.id, kind="step.progress"):
        said = event.data.get("holding")
        if isinstance(said, list):
            names = [str(name) for name in said]
    return names


def _conclude(tools: Toolbox, run: Run, decision: Decision, why: str) -> Mapping[str, Json]:
    """Mark the version stable as a healthy watch does, by the same rules, with a person's reason."""
    watched = tools.runs.result(run.id, "watch")
    assert isinstance(watched, dict)  # noqa: S101 it has ended
    intended = as_intended(decision, why)
    result = mark_stable(tools, run.plan.step("conclude").args, intended, watched, run.id)
    return result if isinstance(result, dict) else {}
