"""Panic: the safest allowed way back, now, without questions; never anything that a rule refuses."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from backout.analysis.history.remarks import find_remark, is_deciding
from backout.model.incident.incident import RunState
from backout.model.plan import PANIC_ONCE, Plan, PlanKind, PlanRefused
from backout.model.remark import RemarkKind
from backout.model.steps.rollback import ActivateStep
from backout.plan.rollback import Request
from backout.report.times import format_duration
from backout.rules import SafetyRule
from backout.runbook.incident.no_journal import replace_unread_journal
from backout.runbook.rollback.already import is_meant_again
from backout.runbook.rollback.rollback import prepare
from backout.runbook.safety.aside import end_run, find_keeper, gives_way, is_left_with_jobs, make_way
from backout.runbook.safety.checks import find_own

if TYPE_CHECKING:
    from backout.model.incident.incident import Run
    from backout.model.plan import Equivalents
    from backout.model.situation import Situation
    from backout.runbook.incident.in_need import InNeed
    from backout.runbook.toolbox import Toolbox

WITHIN_S = 15.0
"""Panic has acted, or said why not, within this many seconds."""
RECENT_S = 900.0
"""After a rollback younger than this, panic makes no other: that would go back twice."""


def plan_way_back(tools: Toolbox, message: str) -> Plan | PlanRefused:
    """Return the plan of a panic: to what the rules allow, without waiting for the criteria; or why there is none.

    No person's flag backs it, so nothing is forced: no schema, no old secret, nothing unproven unless the policy allows
    that for automatic actions.
    """
    request = Request(message=message, wait=False, accept_unproven=tools.policy.guard.accept_unproven)
    situation, outcome = prepare(tools, request)
    return _went_back_already(situation, outcome) or outcome


def _went_back_already(situation: Situation, outcome: Plan | PlanRefused) -> PlanRefused | None:
    live = situation.live
    remark = find_remark(live)
    age_s = situation.read_at + (situation.clock_offset_s or 0.0) - live.created_at
    if remark is None or remark.kind is not RemarkKind.ROLLBACK or age_s >= RECENT_S:
        return None
    environment = situation.environment
    left = f" in place of {remark.code.version}" if remark.code else ""
    if isinstance(outcome, PlanRefused):
        further = f"there is nothing further back that the rules allow: {outcome.reason}"
    else:
        target = outcome.arguments(ActivateStep).version
        further = f"go further, to the next one: `backout rollback {target} -e {environment} -m WHY`"
    return PlanRefused(
        PANIC_ONCE,
        (
            f"version {live.main} was made live {format_duration(age_s)} ago by run {remark.run}{left}; panic does "
            "not roll back twice in a row"
        ),
        (f"look first: `backout status -e {environment}`", further),
    )


def find_in_the_way(tools: Toolbox) -> tuple[Run | None, bool]:
    """Return the run that keeps the environment, and whether a panic would end it; see `stand_aside`."""
    keeper = find_keeper(tools.runs, tools.environment)
    return keeper, keeper is not None and _ends(tools, keeper)


def stand_aside(tools: Toolbox) -> Run | None:
    """Have a guard that keeps the environment give it up, and return the run that still keeps it, or None.

    A watch changes nothing, and a step of a ramp only moves what a person now takes back, so ending them is harmless;
    so is a rollback that was interrupted before its switch and that no person will continue: an automatic one, or one
    based on what is no longer live. Any other is left alone.
    """
    keeper, ends = find_in_the_way(tools)
    if keeper is None or not ends:
        return keeper
    if gives_way(keeper):
        return make_way(tools.runs, tools.clock, tools.environment, actor=tools.actor, to="panic")
    return end_run(tools.runs, tools.clock, keeper, actor=tools.actor, reason="panic: a person goes back now")


def _ends(tools: Toolbox, keeper: Run) -> bool:
    if is_left_with_jobs(keeper):  # a panic so soon after a rollback makes no other
        return not is_meant_again(tools, keeper, RECENT_S)
    return gives_way(keeper) or _is_left_over(tools, keeper)


def _is_left_over(tools: Toolbox, run: Run) -> bool:
    if run.plan.kind is PlanKind.SECRETS:  # the part not set yet can be set again
        return run.state is RunState.INTERRUPTED
    if run.plan.kind is not PlanKind.ROLLBACK or run.state is not RunState.INTERRUPTED:
        return False
    if tools.runs.result(run.id, "activate") is not None:
        return False
    history, switch = tools.deployments.history(), run.plan.arguments(ActivateStep)
    if find_own(history, run.id, RemarkKind.ROLLBACK) is not None:
        return False
    return bool(switch.detected) or not is_deciding(history, switch.expected, switch.leaving)


def list_lines_without_journal(tools: Toolbox, message: str) -> tuple[str, ...] | PlanRefused:
    """Return what to type when the journal cannot be used: nothing is changed without one, so a person has to.

    The target is based on the provider, and on a journal that can be read but not written.
    """
    plan = plan_way_back(replace_unread_journal(tools), message)
    if isinstance(plan, PlanRefused):
        return plan
    steps = (plan.step(name).equivalent for name in ("activate", "read_back"))
    return tuple(line for step in steps for line in step.splitlines())


def list_lines_unproven(tools: Toolbox, refused: PlanRefused) -> tuple[str, ...]:
    """Return the command that looks, and in a comment the one back to the version before, not known here as proven."""
    look = tuple(tools.rollback.equivalents.live.splitlines())
    target = next((each.version for each in refused.rejections if each.rule == SafetyRule.UNPROVEN), "")
    if not target:
        return look
    line = tools.rollback.equivalents.activate.format(version=target, message=shlex.quote("by hand")).partition("\n")[0]
    return (*look, "# if you know that the version before was well:", f"# {line}")


def list_lines_in_need(equivalents: Equivalents, found: InNeed) -> tuple[str, ...]:
    """Return what to type, from what is known without the provider: to go back, or else to look; `#` begins a comment.

    These are the ways that `status` and the card show; doubts are stated above a line.
    """
    lines: list[str] = []
    for way in found.ways:
        lines.append(f"# {'only if ' + way.only_if + '; ' if way.only_if else ''}{way.why}:")
        lines += equivalents.activate.format(version=way.version, message=shlex.quote("by hand")).splitlines()
    if found.ways:
        return tuple(lines)
    if found.no_way:
        lines.append(f"# {found.no_way} (by the card)")
    if found.no_way and found.stable is not None:  # a person may know better, and has nothing else now
        back = equivalents.activate.format(version=found.stable.version, message=shlex.quote("by hand"))
        lines += ["# if that does not matter to you:", *(f"# {line}" for line in back.splitlines())]
    elif found.doubted is not None:
        doubt = found.doubted
        back = equivalents.activate.format(version=doubt.version, message=shlex.quote("by hand"))
        lines.append(f"# {doubt.why}, but {doubt.only_if}; if that does not matter to you:")
        lines += [f"# {line}" for line in back.splitlines()]
    return (*lines, *equivalents.live.splitlines())


def list_dashboard_lines(equivalents: Equivalents, found: InNeed) -> tuple[str, ...]:
    """Return what to do while the API does not answer: the lines of `list_lines_in_need` need it as well."""
    if not equivalents.dashboard:
        return ()
    version = found.ways[0].version[:8] if found.ways else "the version"
    return tuple(f"# {line}" for line in equivalents.dashboard.format(version=version).splitlines())
