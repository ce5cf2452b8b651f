"""The second hop: an automatic rollback with a bad target goes one version further, once (safety rules 9, 12)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.detector.criteria import LATENCY, name_error_rate
from backout.analysis.detector.probes import ENDPOINT
from backout.model.guard.policy import Mode
from backout.model.guard.signals import HealthReport, ServiceState
from backout.model.guard.verdict import Cause, CriterionState, Decision, Verdict
from backout.model.plan import PlanRefused
from backout.model.steps.guard import ConcludeStep
from backout.model.steps.rollback import ActivateStep, MarkStep, ReadBackResult
from backout.model.value import Value
from backout.model.version import Mark
from backout.plan.rollback import Request
from backout.runbook.guard.checkpoint import load_remembered
from backout.runbook.guard.telemetry_gate import STALE_S
from backout.runbook.incident.report import trace_causes
from backout.runbook.rollback.activate import set_mark
from backout.runbook.rollback.rollback import prepare
from backout.runbook.safety.permission import Case, find_forbidden

if TYPE_CHECKING:
    from backout.model.guard.verdict import Verification
    from backout.model.incident.incident import Run
    from backout.model.plan import Plan
    from backout.runbook.toolbox import Toolbox

MAX_HOPS = 2


class Held(Value, frozen=True):
    """Why no further version is tried, and whether the target itself was found bad."""

    why: str
    is_bad: bool = False


def plan_next_hop(tools: Toolbox, run: Run, live: ReadBackResult, verification: Verification) -> Plan | Held:
    """Return the plan that goes one version further, or why there is none.

    A person's rollback is never followed by an automatic one. The target itself must be bad: a critical service that
    was down before the rollback and still is, is "not the deployment", and trying again would change nothing.

    Args:
        live: what `read_back` said.
    """
    switch = run.plan.arguments(ActivateStep)
    if not switch.detected:
        return Held("")  # nothing to say: that person decides what comes next
    version = live.version
    judged = _judge_target(tools, switch.leaving, version, verification)
    if isinstance(judged, Held):
        return judged
    if tools.clock.now() - verification.ended_at > STALE_S:
        return Held(f"that version {version[:8]} is bad was measured more than {STALE_S:g} s ago", is_bad=True)
    if switch.hop >= MAX_HOPS:
        return Held(f"{MAX_HOPS} versions in a row were bad; guard tries no third one", is_bad=True)
    request = Request(
        message=f"guard: {judged.reason}",
        cause=run.id,
        detected=judged.reason,
        detected_at=judged.at,
        accept_unproven=tools.policy.guard.accept_unproven,
        hop=MAX_HOPS,
    )
    situation, outcome = prepare(tools, request)
    if situation.live.id != live.deployment:
        return Held(f"deployment {situation.live.id} took its place, so what was measured is void")
    if isinstance(outcome, PlanRefused):
        return Held(outcome.reason, is_bad=True)
    mode = _get_mode(tools, run)
    _, forbidden_by = find_forbidden(tools, Case(situation, outcome, judged, _find_ground(verification), mode))
    if not forbidden_by and mode is Mode.ASK and not (tools.confirm is not None and tools.confirm(outcome)):
        forbidden_by = "it was not confirmed (mode = ask)"
    return Held(forbidden_by, is_bad=True) if forbidden_by else outcome


def _judge_target(tools: Toolbox, left: str, version: str, verification: Verification) -> Decision | Held:
    """Return why the target itself is bad, as a verdict, or what else is wrong."""
    failed = {result.name: result for result in verification.criteria if result.state is CriterionState.FAILED}
    before = _list_down_before(tools, left)
    still = [name for name in verification.down if name in before and name != ENDPOINT]
    errors, slow = failed.get(name_error_rate(tools.policy.criteria)), failed.get(LATENCY)
    if not still and errors is None and slow is None and ENDPOINT in before:
        still = [name for name in verification.down if name == ENDPOINT]
    if still:
        return Held(f"still down after the rollback: not the deployment ({', '.join(still)})")
    cause, reason = Cause.NONE, ""
    if errors is not None:
        cause, reason = Cause.ERRORS, errors.evidence
    elif slow is not None:
        cause, reason = Cause.LATENCY, slow.evidence
    elif verification.down:
        cause, reason = Cause.HEALTH, f"{', '.join(verification.down)} down"
    if cause is Cause.NONE:
        return Held(f"what failed does not say that version {version[:8]} is bad itself")
    reason = f"version {version[:8]}, rolled back to, is bad too: {reason}"
    return Decision(
        Verdict.REGRESSED, cause, verification.ended_at, version, reason, first_bad_at=verification.started_at
    )


def _list_down_before(tools: Toolbox, version: str) -> frozenset[str]:
    """Return the critical services, and the endpoint, that were down in the watch's last look at a version."""
    report = load_remembered(tools, f"health of {version}", HealthReport)
    if report is None:
        return frozenset()
    down = {s.name for s in report.services if s.state is ServiceState.DOWN and tools.policy.is_critical(s.name)}
    return frozenset(down | ({ENDPOINT} if report.is_down else set()))


def _find_ground(verification: Verification) -> str:
    """Return whether the counts of a verification allow an action, in a watch's words (safety rule 13)."""
    if verification.sampled:
        return "the counts are estimates; the verdict is advice"
    reaches = verification.counted_until
    is_old = reaches is not None and verification.ended_at - reaches > STALE_S
    return f"the counts are older than {STALE_S:g} s; the verdict is advice" if is_old else ""


def _get_mode(tools: Toolbox, run: Run) -> Mode:
    """Return the mode of the watch that started this; without one nothing was allowed."""
    began = trace_causes(tools.runs, run.id)[0]
    return began.plan.arguments(ConcludeStep).mode if began.plan.has(ConcludeStep) else Mode.OBSERVE


def quarantine_target(tools: Toolbox, run: str, version: str, why: str) -> None:
    """Mark a target that turned out bad, if no further rollback will."""
    known = next((v for v in tools.versions.recent() if v.id == version), None)
    known = tools.versions.detail(version) if known is not None and known.code_hash is None else known
    mark = MarkStep(
        mark=Mark.QUARANTINED,
        version=version,
        code_hash=known.code_hash if known else None,
        git_sha=known.git_sha if known else "",
        why=why,
    )
    set_mark(tools, run, mark)
