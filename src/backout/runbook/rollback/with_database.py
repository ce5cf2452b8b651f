"""Scenario 4, option B: code and database back together, as one plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.analysis.history.stability import find_newcomer, list_candidates
from backout.errors import UsageError
from backout.model.plan import Plan
from backout.model.steps.rollback import ActivateStep
from backout.plan.together import find_first_to_undo, join_plans
from backout.runbook.recovery.restore import plan_swap
from backout.runbook.rollback.rollback import prepare

if TYPE_CHECKING:
    from backout.model.plan import PlanRefused
    from backout.model.situation import Situation
    from backout.plan.rollback import Request
    from backout.runbook.toolbox import Toolbox


def prepare_together(tools: Toolbox, request: Request) -> tuple[Situation, Plan | PlanRefused]:
    """Return the plan that takes code and database back together. Changes nothing: this is the whole dry run.

    Raises:
        UsageError: no database is set up, the code can go back alone, or there is no self-hosted server to replace.
        Refused: the moment before the migration cannot be reached.
    """
    if tools.recovery.restoring is None:
        raise UsageError("no database is set up", where=tools.environment, hint="backout config check")
    situation, alone = prepare(tools, request)
    if isinstance(alone, Plan):
        raise UsageError(
            "the code can go back alone: every migration since is safe for it, and the database would lose what is new",
            where=tools.environment,
            hint=f"backout rollback -e {tools.environment}",
        )
    situation, outcome = prepare(tools, replace(request, with_database=True))
    if not isinstance(outcome, Plan):
        return situation, outcome
    migration = _find_migration(situation, outcome.arguments(ActivateStep).version, request)
    if not migration:
        return situation, alone
    swap = plan_swap(tools.recovery.restoring(), f"before migration {migration}")
    return situation, join_plans(outcome, swap, migration)


def _find_migration(situation: Situation, version: str, request: Request) -> str:
    ranked = list_candidates(
        situation,
        leaving=find_newcomer(situation, apart_from=request.target),
        accept_unproven=True,
        schema_goes_back=True,
    )
    target = next((each for each in ranked if each.version == version), None)
    return find_first_to_undo(situation, target) if target is not None else ""
