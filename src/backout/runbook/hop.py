"""The second hop: an automatic rollback whose target is bad too goes one version further, once (safety rules 9, 12)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backout.analysis.criteria import LATENCY, error_rate_name
from backout.analysis.probes import ENDPOINT
from backout.model.plan import PlanRefused
from backout.model.policy import Mode
from backout.model.signals import HealthReport, ServiceState
from backout.model.verdict import Cause, CriterionState, Decision, Verdict
from backout.plan.rollback import Request
from backout.runbook.activate import set_mark
from backout.runbook.checkpoint import remembered
from backout.runbook.incident import led_to
from backout.runbook.permission import Case, forbidden
from backout.runbook.rollback import prepare
from backout.runbook.source import STALE_S

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.incident import Run
    from backout.model.plan import Json, Plan
    from backout.model.verdict import Verification
    from backout.runbook.toolbox import Toolbox

MAX_HOPS = 2


@dataclass(frozen=True, slots=True)
class Held:
    """No further version is tried: why, and whether the target itself was found bad."""

    why: str
    is_bad: bool = False


def next_hop(tools: Toolbox, run: Run, live: Mapping[str, Json], verification: Verification) -> Plan | Held:
    """Return the plan that goes one version further, or why there is none.

    A person's rollback is never followed by one of a robot's. The target must be bad itself: a critical service that
    was down before the rollback and still is, is "not the deployment", and trying again would change nothing.

    Args:
        live: what `read_back` said, {deployment, version, ...}.
    """
    switch = run.plan.step("activate").args
    if not switch.get("detected"):
        return Held("")  # nothing to say: what comes next is that person's decision
    version = str(live["version"])
    judged = _judged(tools, str(switch["leaving"]), version, verification)
    if isinstance(judged, Held):
        return judged
    if tools.clock.now() - verification.ended_at > STALE_S:
        return Held(f"that version {version[:8]} is bad was measured more than {STALE_S:g} s ago", is_bad=True)
    if int(str(switch.get("hop") or 1)) >= MAX_HOPS:
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
    if situation.live.id != live["deployment"]:
        return Held(f"deployment {situation.live.id} took its place, so what was measured is void")
    if isinstance(outcome, PlanRefused):
        return Held(outcome.reason, is_bad=True)
    mode = _mode(tools, run)
    _, forbidden_by = forbidden(tools, Case(situation, outcome, judged, _ground(verification), mode))
    if not forbidden_by and mode is Mode.ASK and not (tools.confirm is not None and tools.confirm(outcome)):
        forbidden_by = "nobody said yes to it (mode = ask)"
    return Held(forbidden_by, is_bad=True) if forbidden_by else outcome


def _judged(tools: Toolbox, left: str, version: str, verification: Verification) -> Decision | Held:
    """Return why the target is bad itself, as a verdict; or what else is wrong."""
    failed = {result.name: result for result in verification.criteria if result.state is CriterionState.FAILED}
    before = _down_before(tools, left)
    still = [name for name in verification.down if name in before and name != ENDPOINT]
    errors, slow = failed.get(error_rate_name(tools.policy.criteria)), failed.get(LATENCY)
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


def _down_before(tools: Toolbox, version: str) -> frozenset[str]:
    """Return the critical services, and the endpoint, that were down in the watch's last look at a version."""
    report = remembered(tools, f"health of {version}", HealthReport)
    if report is None:
        return frozenset()
    down = {s.name for s in report.services if s.state is ServiceState.DOWN and tools.policy.is_critical(s.name)}
    return frozenset(down | ({ENDPOINT} if report.is_down else set()))


def _ground(verification: Verification) -> dict[str, Json]:
    """Return whether the counts of a verification may carry an action, as a watch says it (safety rule 13)."""
    if verification.sampled:
        return {"downgraded": "the counts are estimates; the verdict is advice"}
    reaches = verification.counted_until
    is_old = reaches is not None and verification.ended_at - reaches > STALE_S
    return {"downgraded": f"the counts are older than {STALE_S:g} s; the verdict is advice" if is_old else ""}


def _mode(tools: Toolbox, run: Run) -> Mode:
    """Return the mode of the watch that it all began with; without one nobody allowed anything."""
    began = led_to(tools.runs, run.id)[0]
    modes = [str(step.args["mode"]) for step in began.plan.steps if step.action == "conclude"]
    return Mode(modes[0]) if modes else Mode.OBSERVE


def quarantine_target(tools: Toolbox, run: str, version: str, why: str) -> None:
    """Mark a target that turned out bad, where no further rollback will do it."""
    known = next((v for v in tools.versions.recent() if v.id == version), None)
    known = tools.versions.detail(version) if known is not None and known.code_hash is None else known
    mark: dict[str, Json] = {
        "mark": "quarantined",
        "version": version,
        "code_hash": known.code_hash if known else None,
        "git_sha": known.git_sha if known else "",
        "why": why,
    }
    set_mark(tools, run, mark)
