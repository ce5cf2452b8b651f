"""Holdback: whether a cut-over is turned into a split for its first minutes, by the rules of a step of a ramp."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.analysis.attached import ASSETS, has_assets
from backout.analysis.history.stability import returns
from backout.errors import BackoutError
from backout.model.guard.policy import Mode
from backout.model.guard.verdict import Cause, Decision, Verdict
from backout.model.steps.guard import RampStep, WatchStep
from backout.plan.holdback import FRESH_S, plan_holdback
from backout.runbook.guard.standby import note_standby
from backout.runbook.probing.pre_promotion import judge_again
from backout.runbook.safety.permission import Case, find_forbidden_up

if TYPE_CHECKING:
    from backout.model.plan import Plan
    from backout.model.situation import Situation
    from backout.runbook.toolbox import Toolbox


def add_holdback(tools: Toolbox, situation: Situation, watch: Plan, *, mode: Mode, for_s: float) -> Plan:
    """Return the plan that holds the old version back, or the watch as it is; obstacles are reported."""
    percentage, args = tools.policy.guard.holdback, watch.arguments(WatchStep)
    if not percentage or mode is not Mode.ACT or args.split < 1 or not args.old:
        return watch
    if args.known_bad is not None or situation.read_at - situation.live.created_at > FRESH_S:
        return watch
    made = plan_holdback(watch, percentage, for_s)
    why = _explain_forbidden(tools, situation, made)
    if not why:
        return made
    tools.say(f"no holdback, the version before gets no traffic: {why}")
    return watch


def add_warnings(tools: Toolbox, situation: Situation, watch: Plan) -> Plan:
    """Return the plan with what its split hides from each source of counts, and say it; and with what stays warm."""
    watch = note_standby(tools, watch)
    args = watch.arguments(RampStep) if watch.has(RampStep) else watch.arguments(WatchStep)
    is_split = watch.has(RampStep) or watch.arguments(WatchStep).split < 1
    versions = (situation.version(args.version), situation.version(args.old))
    if tools.policy.guard.sticky or not is_split or not has_assets(versions):
        return watch
    tools.say(ASSETS)
    return replace(watch, notes=(*watch.notes, ASSETS))


def _explain_forbidden(tools: Toolbox, situation: Situation, made: Plan) -> str:
    """Return why the old version may not get traffic, or ""."""
    step = made.arguments(RampStep)
    version, old = step.version, step.old
    # Nothing is judged yet: the question is whether guard may move traffic at all.
    decision = Decision(Verdict.INCONCLUSIVE, Cause.NONE, situation.read_at, version, "a cut-over")
    _, why = find_forbidden_up(tools, Case(situation, made, decision, "", Mode.ACT))
    if why:
        return why
    if returns(situation, version, old):
        return f"version {version[:8]} was live before version {old[:8]}, so this is a way back"
    unproven = tools.policy.guard.accept_unproven
    try:  # no person typed that it gets traffic again: what is unproven or questioned is for a person (safety rule 5)
        found = judge_again(tools, old, leaving=version, by_robot=True, accept_unproven=unproven)
    except BackoutError as error:
        return error.what
    if found is None:
        return "it can no longer be deployed"
    return "" if found.eligible else found.reason
