"""A person accepts a shift in the answers as intended, which ends a hold as healthy (`guard accept`).

Only a person or the configuration says what is intended, never the message of a commit or a deployment.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from backout.analysis.history.remarks import is_deciding
from backout.errors import BackoutError, Refused, UsageError
from backout.model.guard.shift import ACCEPTED, Outcome
from backout.model.incident.incident import RunState
from backout.model.plan import PlanKind
from backout.model.remark import RemarkKind
from backout.model.steps.guard import ConcludeAction, ConcludeResult, ConcludeStep, WatchStep
from backout.model.value import Value
from backout.model.version import Mark
from backout.ports import find_result, list_progress
from backout.runbook.guard.held import (
    SHIFT_RULE,
    accept_as_intended,
    find_decision,
    has_ended_held,
    is_held,
    list_accepted,
    list_holding,
    list_holding_in,
)
from backout.runbook.guard.mark_stable import mark_stable
from backout.runbook.incident.report import refresh_report
from backout.runbook.safety.checks import find_own
from backout.runbook.safety.identity import check_identity

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backout.model.deployment import Deployment
    from backout.model.guard.shift import Shift
    from backout.model.guard.verdict import Decision
    from backout.model.incident.incident import Run
    from backout.model.plan import Json
    from backout.runbook.toolbox import Toolbox

_ENDS_S, _LOOK_S = 15.0, 0.5
"""How long to wait for what follows from a watch that has just ended, and how often to look."""


class Accepted(Value, frozen=True):
    """The result of an acceptance.

    Args:
        run: the watch.
        remaining: shifts that still hold it.
        watching: the watch goes on.
        partly: the version has only a part of the traffic, so another watch moves it up.
        result: of marking the version stable, as `conclude` returns it; None while the watch goes on, is held by
            others, or the version has a part of the traffic.
        ended: all is measured, but what follows is not done yet.
        interrupted: no process drives the watch just now.
    """

    run: str
    version: str
    shift: str
    remaining: tuple[str, ...]
    watching: bool
    partly: bool
    result: ConcludeResult | None
    ended: bool = False
    interrupted: bool = False


def list_options(tools: Toolbox, shifts: Iterable[Shift]) -> list[str]:
    """Return the ways out of a hold, whole sentences with commands."""
    accept = [
        f"intended: `backout guard accept {shlex.quote(shift.name)} -e {tools.environment} -m WHY`"
        for shift in shifts
        if shift.outcome is Outcome.HOLD
    ]
    return [*accept, f"not intended: `backout rollback -e {tools.environment} -m WHY`"]


def list_open_shifts(tools: Toolbox) -> tuple[str, tuple[str, ...]]:
    """Return the newest watch, and the names of the shifts that hold it. Raises Refused as `accept`."""
    run = _find_open_watch(tools)
    known = list_accepted(tools, run.plan.arguments(WatchStep).version)
    return run.id, tuple(name for name in _list_holding(tools, run) if name not in known)


def accept(tools: Toolbox, shift: str, why: str) -> Accepted:
    """Record that a shift is intended; when nothing else holds the version of an ended watch, mark that stable.

    Raises:
        Refused: no watch is held, or its deployment is not live any more.
        UsageError: no shift has that name.
    """
    check_identity(tools)
    run = _find_open_watch(tools)
    named, version = _list_holding(tools, run), run.plan.arguments(WatchStep).version
    known = list_accepted(tools, version)
    if shift not in named:
        listed = ", ".join(f"'{name}'" for name in named) or "none"
        raise UsageError(
            f"no shift of watch {run.id} is called '{shift}'; those that hold it: {listed}",
            hint=f"backout runs show {run.id}",
        )
    data: dict[str, Json] = {"run": run.id, "version": version, "shift": shift, "why": why, "by": tools.actor}
    tools.journal.note(tools.environment, ACCEPTED, f"{run.id}:{shift}", data, actor=tools.actor)
    run = _await_end(tools, run)
    _report(tools, run)
    remaining = tuple(name for name in named if name != shift and name not in known)
    decision, partly = find_decision(tools, run), bool(run.plan.arguments(ConcludeStep).ramp)
    result: ConcludeResult | None = None
    if run.state.is_over and not has_ended_held(tools, run):
        result = find_result(tools.runs, run.id, ConcludeStep)  # the watch has taken it into account
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


def _await_end(tools: Toolbox, run: Run) -> Run:
    """Return the state of a watch; waits for one that has just ended, which may still take the acceptance in."""
    deadline = tools.clock.now() + _ENDS_S
    while find_decision(tools, run) is not None and run.state is RunState.RUNNING and tools.clock.now() < deadline:
        tools.clock.sleep(_LOOK_S)
        run = tools.runs.find(run.id) or run
    return run


def _list_holding(tools: Toolbox, run: Run) -> list[str]:
    """Return the names of the shifts that hold a watch, those that are accepted too."""
    decision = find_decision(tools, run)
    if decision is None:
        return _read_last_told(tools, run)
    return [each.name for each in list_holding_in(decision)]


def _report(tools: Toolbox, run: Run) -> None:
    """Write what was accepted into the report of its watch; a page that cannot be written does not prevent it."""
    try:
        refresh_report(tools, run.id)
    except BackoutError as error:
        tools.say(f"it is recorded, and does not stand in the incident report: {error.what} ({error.where})")


def list_waiting(tools: Toolbox, run: Run | None, listed: Sequence[Deployment]) -> tuple[Shift, ...]:
    """Return the shifts of a finished watch for which a person has yet to say whether they are intended.

    Args:
        run: the newest watch, None where there was none.
        listed: the provider's list, newest first.
    """
    if run is None or not listed or not has_ended_held(tools, run):
        return ()
    watch = run.plan.arguments(WatchStep)
    return list_holding(tools, run) if is_deciding(listed, watch.deployment, watch.version) else ()


def _find_open_watch(tools: Toolbox) -> Run:
    """Return the newest watch if it goes on or was held for a shift, and what it watched is live."""
    run = next((r for r in tools.runs.walk_runs(tools.environment) if r.plan.kind is PlanKind.GUARD), None)
    why = "no deployment was watched here" if run is None else _explain_closed(tools, run)
    if run is None or why:
        raise Refused(
            f"there is nothing to accept: {why}",
            where=tools.environment,
            rule=SHIFT_RULE,
            options=(f"see what is live: `backout status -e {tools.environment}`",),
        )
    return run


def _explain_closed(tools: Toolbox, run: Run) -> str:
    watch = run.plan.arguments(WatchStep)
    history = tools.deployments.history()
    if not history or not is_deciding(history, watch.deployment, watch.version):
        return f"another deployment took the place of the one that {run.id} watched"
    if not run.state.is_over:
        decision = find_decision(tools, run)
        if decision is None or is_held(decision):
            return ""
        return f"watch {run.id} found the version {decision.verdict}, and what follows from that is on its way"
    if not has_ended_held(tools, run):
        ended = find_result(tools.runs, run.id, ConcludeStep)
        action = ended.action if ended is not None else run.state
        how = "held" if action == ConcludeAction.HOLD else f"as {action}"
        return f"watch {run.id} ended {how}, and not for a shift in what is answered"
    if list_holding(tools, run) or not _is_marked(tools, run, history):
        return ""
    return f"all that held watch {run.id} is accepted already"


def _is_marked(tools: Toolbox, run: Run, history: Sequence[Deployment]) -> bool:
    """Whether what follows from the acceptance was done, here and at the provider: a crash may have come before."""
    if run.plan.arguments(ConcludeStep).ramp:
        return True  # another watch follows
    here = any(mark.mark is Mark.STABLE and mark.run == run.id for mark in tools.marks.marks(tools.environment))
    return here and (not tools.provider_marks or find_own(history, run.id, RemarkKind.STABLE) is not None)


def _read_last_told(tools: Toolbox, run: Run) -> list[str]:
    """Return the shifts that hold a running watch, as it last reported them."""
    names: list[str] = []
    for told in list_progress(tools.journal, run, WatchStep):
        said = told.get("holding")
        if isinstance(said, list):
            names = [str(name) for name in said]
    return names


def _conclude(tools: Toolbox, run: Run, decision: Decision, why: str) -> ConcludeResult:
    """Mark the version stable as a healthy watch does, by the same rules, with a person's reason."""
    watched = find_result(tools.runs, run.id, WatchStep)
    assert watched is not None
    return mark_stable(tools, run.plan.arguments(ConcludeStep), accept_as_intended(decision, why), watched, run.id)
