"""Whether guard may act by itself now: one function for each safety rule, called in order, each with its own reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.shifts.declared import DECLARED
from backout.model.guard.policy import Mode
from backout.model.guard.shift import Outcome
from backout.model.guard.verdict import Cause, Decision
from backout.model.incident.incident import RunState
from backout.model.plan import PlanKind
from backout.model.steps.guard import WatchStep
from backout.model.steps.rollback import ActivateStep
from backout.model.value import Value
from backout.rules import SafetyRule
from backout.runbook.safety.cooldown import find_newest_automatic
from backout.runbook.safety.hold import describe_hold, find_active_hold
from backout.runbook.safety.vendor_incidents import find_vendor_incident

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backout.model.incident.incident import Run
    from backout.model.plan import Plan
    from backout.model.situation import Situation
    from backout.runbook.toolbox import Toolbox


class Case(Value, frozen=True):
    """The action about to be taken, and its grounds.

    Args:
        downgraded: why no automatic action may rest on the source of counts, or "".
        mode: what the guard was started with.
    """

    situation: Situation
    plan: Plan
    decision: Decision
    downgraded: str
    mode: Mode


def find_forbidden(tools: Toolbox, case: Case) -> tuple[str, str]:
    """Return (rule, reason) of the first rule that forbids acting alone, or ("", "")."""
    for rule, check in _CHECKS:
        reason = check(tools, case)
        if reason:
            return rule, reason
    return "", ""


def find_forbidden_up(tools: Toolbox, case: Case) -> tuple[str, str]:
    """Return the same for giving a version more traffic: a step of a ramp needs the same grounds as a rollback."""
    for rule, check in (
        (SafetyRule.IDENTITY, _check_configuration),
        (SafetyRule.CONFORMANCE, _check_platform),
        (SafetyRule.HOLD, _check_hold),
        (SOURCES_RULE, _check_source),
    ):
        reason = check(tools, case)
        if reason:
            return rule, reason
    return "", ""


def _check_platform(tools: Toolbox, case: Case) -> str:
    return tools.safety.doubt


def _check_mode(tools: Toolbox, case: Case) -> str:
    return "guard only observes (mode = observe)" if case.mode is Mode.OBSERVE else ""


def _check_configuration(tools: Toolbox, case: Case) -> str:
    return explain_older_configuration(tools, case.situation)


def explain_older_configuration(tools: Toolbox, situation: Situation) -> str:
    """Return why the configuration is older than what is live, so that it allows nothing automatic, or ""."""
    live = situation.version(situation.live.main)
    if tools.safety.checkout is None or live is None or not live.git_sha:
        return ""
    if tools.safety.checkout.contains(live.git_sha) is not False:
        return ""
    return (
        f"backout.toml is older than what is live: commit {live.git_sha[:12]} of version {live.id[:8]} is not part of "
        "the working copy it was read from"
    )


def _touches_more(tools: Toolbox, case: Case) -> str:
    others = [step.title for step in case.plan.steps if step.action not in UNATTENDED]
    return f"this is not done unattended: {'; '.join(others)}" if others else ""


def _check_hold(tools: Toolbox, case: Case) -> str:
    hold = find_active_hold(tools, case.situation.listed)
    return "" if hold is None else f"a hold is on ({describe_hold(hold)})"


def _check_source(tools: Toolbox, case: Case) -> str:
    if case.decision.cause in _LOOKED_AT or _has_asked_in_pairs(case) or tools.traffic is None:
        return ""
    if not tools.traffic.traits.may_act:
        traits = tools.traffic.traits
        return (
            f"no rollback may rest on the source {traits.name}: {', '.join(traits.list_shortfalls())}; this is advice"
        )
    return case.downgraded


def _check_labels(tools: Toolbox, case: Case) -> str:
    """In a split, labels are evidence only while chance alone chose the version of each request that counts."""
    if tools.traffic is None or tools.traffic.traits.has_choice or case.decision.cause in _LOOKED_AT:
        return ""
    found = tools.runs.find(case.plan.cause)
    if found is None or not found.plan.has(WatchStep) or _has_asked_in_pairs(case):
        return ""
    if all(share >= 1 for _, share in found.plan.arguments(WatchStep).shares):
        return ""
    name = tools.traffic.traits.name
    return f"the source {name} does not see which requests chose their version in a split; this is advice"


def _check_once(tools: Toolbox, case: Case) -> str:
    """One automatic action in its period, whichever machine made it: a second hop is part of the first action."""
    if case.plan.kind is PlanKind.SECRETS:
        return _find_recent_push(tools)
    if case.plan.arguments(ActivateStep).hop > 1:
        return ""
    since = tools.clock.now() - tools.policy.guard.at_most_every_s
    recent = [r for r in tools.runs.runs(tools.environment) if r.plan.kind is PlanKind.ROLLBACK and r.plan.cause]
    here = next((run.id for run in recent if run.started_at >= since and _may_have_switched(tools, run)), "")
    newest = find_newest_automatic(tools, case.situation.listed)
    anywhere = here or (newest[1] if newest is not None and newest[0] >= since else "")
    within = f"{tools.policy.guard.at_most_every_s / 3600:g} h"
    return f"one automatic rollback was made already within {within} (run {anywhere})" if anywhere else ""


def _find_recent_push(tools: Toolbox) -> str:
    since = tools.clock.now() - tools.policy.guard.at_most_every_s
    recent = [r for r in tools.runs.runs(tools.environment) if r.plan.kind is PlanKind.SECRETS and r.plan.cause]
    here = next((run.id for run in recent if run.started_at >= since and run.state is not RunState.ABORTED), "")
    within = f"{tools.policy.guard.at_most_every_s / 3600:g} h"
    return f"secrets were set automatically already within {within} (run {here})" if here else ""


def _may_have_switched(tools: Toolbox, run: Run) -> bool:
    """Whether a rollback made something live, or may have; one that ended before its switch does not count."""
    if not run.state.is_over or tools.runs.result(run.id, "activate") is not None:
        return True
    if run.state is not RunState.ABORTED:
        return False
    begun = tools.journal.events(run=run.id, kind="step.start")  # given up in the middle: not known
    return any(event.data.get("action") == "activate" for event in begun)


def _check_vendors(tools: Toolbox, case: Case) -> str:
    return "" if _has_comparison(tools, case) else find_vendor_incident(tools, case.decision)


def _has_comparison(tools: Toolbox, case: Case) -> bool:
    """Whether the old version served or was asked beside the new one, and was well: an outside cause hits both."""
    if _has_asked_in_pairs(case):
        return True
    found = tools.runs.find(case.plan.cause)
    if found is None or not found.plan.has(WatchStep):
        return False
    return found.plan.arguments(WatchStep).split < 1.0 and case.decision.cause not in _LOOKED_AT


def _has_asked_in_pairs(case: Case) -> bool:
    """Whether guard itself asked both versions the same, and the verdict is based on that alone."""
    return any(s.stratum == DECLARED and s.outcome is Outcome.ROLL_BACK for s in case.decision.shifts)


_LOOKED_AT = (Cause.HEALTH, Cause.CONNECTIONS)
"""Guard's own looks: they need no source of counts, and do not tell two versions side by side apart."""
ONCE_RULE = SafetyRule.ONCE
DATA_RULE = SafetyRule.DATA
SAME_CAUSE_RULE = SafetyRule.SAME_CAUSE
SOURCES_RULE = SafetyRule.SOURCES
UNATTENDED = frozenset(
    (
        *("prove", "activate", "read_back", "mark", "verify", "report", "settle", "watch", "conclude"),
        *("push_secrets", "read_secrets", "verify_health", "fall_back"),
        *("stop_jobs", "start_jobs"),
    )
)
"""The actions of a plan that guard may carry out alone: they move code, with its workers, and secrets."""

_CHECKS: tuple[tuple[str, Callable[[Toolbox, Case], str]], ...] = (
    (SafetyRule.IDENTITY, _check_configuration),
    (SafetyRule.CONFORMANCE, _check_platform),
    (DATA_RULE, _touches_more),
    (SafetyRule.HOLD, _check_hold),
    (SOURCES_RULE, _check_source),
    (SOURCES_RULE, _check_labels),
    (ONCE_RULE, _check_once),
    (SAME_CAUSE_RULE, _check_vendors),
    (SafetyRule.OBSERVE, _check_mode),  # last: the report says what an armed guard would do
)

OBSERVE = "observe"
HELD_CODES: Mapping[str, int] = {
    SafetyRule.IDENTITY: 3,
    SafetyRule.CONFORMANCE: 3,
    DATA_RULE: 3,
    SafetyRule.HOLD: 3,
    SOURCES_RULE: 3,
    ONCE_RULE: 3,
    SAME_CAUSE_RULE: 7,  # whatever the cause, it is not the deployment
    OBSERVE: 1,  # nothing forbade it, so it is a finding
}
"""The exit code of a guard that found a version bad and left it, by what kept it from acting; see `errors`."""
