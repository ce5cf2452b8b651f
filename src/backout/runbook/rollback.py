"""Roll back: choose the target with reasons, plan, and hand the plan to the journal ("Quick Rollback Commands")."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from backout.analysis.stability import live_spans
from backout.model.plan import Plan
from backout.plan.rollback import plan_rollback
from backout.plan.target import resolve
from backout.runbook.observe import observe, with_details

if TYPE_CHECKING:
    from backout.model.plan import PlanRefused
    from backout.model.situation import Situation
    from backout.plan.rollback import Request
    from backout.runbook.toolbox import Toolbox


def prepare(tools: Toolbox, request: Request) -> tuple[Situation, Plan | PlanRefused]:
    """Return what was observed and the plan for it (or the refusal). Changes nothing: this is the whole dry run.

    `request.target` is what the person typed (id, number, tag, git sha, time), or None for the last stable version.
    """
    situation = observe(tools)
    if request.target is not None:
        request = replace(request, target=resolve(request.target, situation))
        situation = with_details(tools, situation, [request.target or ""])
        return situation, plan_rollback(situation, request, tools.equivalents)
    # Details cost one call a version, so they are read nearest first, and only until the answer cannot change.
    outcome = plan_rollback(situation, request, tools.equivalents)
    for version in _nearest_first(situation):
        if isinstance(outcome, Plan) and _is_detailed(situation, str(outcome.step("activate").args["version"])):
            return situation, outcome
        situation = with_details(tools, situation, [version])
        outcome = plan_rollback(situation, request, tools.equivalents)
    return situation, outcome


def _nearest_first(situation: Situation) -> list[str]:
    marked = [mark.version for mark in reversed(situation.marks)]
    return list(dict.fromkeys([*live_spans(situation), *marked]))


def _is_detailed(situation: Situation, version: str) -> bool:
    known = situation.version(version)
    return known is not None and known.code_hash is not None
