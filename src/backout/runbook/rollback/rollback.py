"""Roll back: choose the target with reasons, plan, and hand the plan to the journal ("Quick Rollback Commands")."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.analysis.certify.wording import describe_certificate
from backout.analysis.coverage import Way
from backout.analysis.history.stability import choose_target, find_live_spans, list_candidates
from backout.model.guard.policy import Mode, OnSecretChange
from backout.model.plan import Plan
from backout.model.steps.rollback import ActivateStep
from backout.plan.by_hand import add_by_hand
from backout.plan.rollback import plan_rollback
from backout.runbook.certify.way_back import find_way_back
from backout.runbook.observe import add_details, observe
from backout.runbook.rollback.jobs import add_job_steps
from backout.runbook.rollback.triggers import add_triggers
from backout.runbook.safety.clock import find_target_version
from backout.runbook.safety.hold import describe_hold, find_active_hold
from backout.runbook.safety.identity import check_identity

if TYPE_CHECKING:
    from backout.analysis.history.stability import Candidate
    from backout.model.plan import PlanRefused
    from backout.model.situation import Situation
    from backout.plan.rollback import Request
    from backout.runbook.toolbox import Toolbox


def prepare(tools: Toolbox, request: Request) -> tuple[Situation, Plan | PlanRefused]:
    """Return what was observed and the plan for it (or the refusal). Changes nothing: this is the whole dry run.

    `request.target` is what the person typed (id, number, tag, git sha, time), or None for the last stable version.
    """
    check_identity(tools)
    situation, outcome = _prepare_plan(tools, _apply_policy(tools, request))
    if not isinstance(outcome, Plan):
        return situation, outcome
    switch = outcome.arguments(ActivateStep)
    outcome = _add_certificate(tools, situation, add_by_hand(outcome, tools.rollback.equivalents))
    outcome = add_job_steps(tools, outcome, switch.version, switch.leaving)
    hold = find_active_hold(tools, situation.listed)
    if hold is not None:
        note = f"a hold is on, which stops automatic actions only ({describe_hold(hold)})"
        outcome = replace(outcome, notes=(*outcome.notes, note))
    return situation, outcome


def _add_certificate(tools: Toolbox, situation: Situation, plan: Plan) -> Plan:
    """Return the plan with what a trial of this way back said, where one still counts."""
    switch = plan.arguments(ActivateStep)
    found = find_way_back(tools, situation, old=switch.version, new=switch.leaving)
    if found is None:
        return plan
    certificate, doubt = found
    words = f"certificate {describe_certificate(certificate)}{f' ({doubt})' if doubt else ''}"
    return replace(plan, notes=(*plan.notes, words))


def rank_for_next(tools: Toolbox) -> tuple[Situation, tuple[Candidate, ...]]:
    """Return what was observed, and to what a rollback of the version that is deployed next could go, best first."""
    situation, policy = observe(tools), tools.policy.guard

    def rank() -> tuple[Candidate, ...]:
        return list_candidates(
            situation, leaving="", accept_unproven=policy.accept_unproven, by_robot=policy.mode is Mode.ACT
        )

    ranked = rank()
    for version in _sort_nearest_first(situation):
        chosen = choose_target(ranked)
        if chosen is not None and _is_detailed(situation, chosen.version):
            break
        situation = add_details(tools, situation, [version])
        ranked = rank()
    return situation, ranked


def _apply_policy(tools: Toolbox, request: Request) -> Request:
    """Return the request with what the policy and the environment say about proof and secrets."""
    carries = tools.policy.guard.on_secret_change is OnSecretChange.CARRY and not request.force_secrets
    return replace(request, can_prove=tools.health is not None, carry_secrets=request.carry_secrets or carries)


def _prepare_plan(tools: Toolbox, request: Request) -> tuple[Situation, Plan | PlanRefused]:
    situation, request, outcome = _choose(tools, request)
    if tools.rollback.triggers is None or not isinstance(outcome, Plan):
        return situation, outcome
    switch = outcome.arguments(ActivateStep)
    way = Way(switch.version, switch.leaving, quick=not request.wait)
    situation = add_triggers(tools, situation, way)
    return situation, plan_rollback(situation, request, tools.rollback.equivalents)


def _choose(tools: Toolbox, request: Request) -> tuple[Situation, Request, Plan | PlanRefused]:
    """Return what was observed, the request with its target resolved, and the plan as far as the code goes."""
    situation = observe(tools)
    if request.target is not None:
        request = replace(request, target=find_target_version(tools, request.target, situation))
        situation = add_details(tools, situation, [request.target or ""])
        return situation, request, plan_rollback(situation, request, tools.rollback.equivalents)
    # Details cost one call per version, so they are read nearest first, until the answer can no longer change.
    outcome = plan_rollback(situation, request, tools.rollback.equivalents)
    for version in _sort_nearest_first(situation):
        if isinstance(outcome, Plan) and _is_detailed(situation, outcome.arguments(ActivateStep).version):
            break
        situation = add_details(tools, situation, [version])
        outcome = plan_rollback(situation, request, tools.rollback.equivalents)
    return situation, request, outcome


def _sort_nearest_first(situation: Situation) -> list[str]:
    marked = [mark.version for mark in reversed(situation.marks)]
    return list(dict.fromkeys([*find_live_spans(situation), *marked]))


def _is_detailed(situation: Situation, version: str) -> bool:
    known = situation.version(version)
    return known is not None and known.code_hash is not None
