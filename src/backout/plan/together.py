"""Code and database together (Scenario 4, option B): the database as before a migration, then the old code; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.model.plan import Step
from backout.model.steps.restore import StopServerStep
from backout.model.steps.rollback import ActivateStep, ReadBackStep, StillLiveStep
from backout.model.triggers import Coverage, Fate
from backout.plan.query_cache import CACHE_NOTE, add_delay

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.analysis.history.stability import Candidate
    from backout.model.plan import Plan
    from backout.model.situation import Situation


_HYPERDRIVE = "hyperdrive"
_PROOF_NOTE = "the target is asked before that, through the same cache: its proof can rest on rows from before"


def find_first_to_undo(situation: Situation, target: Candidate) -> str:
    """Return the oldest migration that the target's code does not know, or that failed half-way; "" without one."""
    state = situation.schema.state
    failed = state.failed[:1] if state is not None else ()
    return next(iter((*target.newer, *failed)), "")


def join_plans(rollback: Plan, swap: Plan, migration: str) -> Plan:
    """Return one plan of both: the swap and the rollback.

    The side instance is made while the live database still serves. Traffic moves only after the database went back:
    before, the old code would run on a schema that it does not fit, and could not be proved.
    """
    names = dict.fromkeys((*rollback.notes, f"the database goes back to before migration {migration}", *swap.notes))
    switch = rollback.arguments(ActivateStep)
    look = Step.of(
        "look whether the deployment that is left is still the one that is live",
        StillLiveStep(expected=switch.expected, leaving=switch.leaving),
        rollback.step(ReadBackStep.action).equivalent,
    )
    is_cached = any(line.what.startswith(_HYPERDRIVE) for line in rollback.coverage)
    back = tuple(add_delay(step) for step in rollback.steps) if is_cached else rollback.steps
    stop = next(number for number, step in enumerate(swap.steps) if step.does(StopServerStep))
    return replace(
        rollback,
        steps=(*swap.steps[:stop], look, *swap.steps[stop:], *back),
        notes=(*names, *((CACHE_NOTE, _PROOF_NOTE) if is_cached else ())),
        coverage=tuple(_goes_back(line, migration) for line in rollback.coverage),
    )


def _goes_back(line: Coverage, migration: str) -> Coverage:
    if line.what == "database":
        return Coverage(line.what, Fate.CHANGES, f"its rows and its schema go back to before migration {migration}")
    if line.what.startswith(_HYPERDRIVE):
        return Coverage(line.what, Fate.CHANGES, "where it leads to this database, that goes back")
    return line


def describe_lost_rows(written: Sequence[tuple[str, int]], most: int = 4) -> str:
    """Return what was written since, by table, in words: what a swap loses and a rescue may keep.

    >>> describe_lost_rows([("orders", 1204), ("users", 3)])
    '1,207 row versions in orders (1,204), users (3)'
    >>> describe_lost_rows([])
    'nothing'
    """
    if not written:
        return "nothing"
    ranked = sorted(written, key=lambda each: -each[1])
    named = [f"{table} ({count:,})" for table, count in ranked[:most]]
    more = f" and {len(ranked) - most} more tables" if len(ranked) > most else ""
    return f"{sum(count for _, count in written):,} row versions in {', '.join(named)}{more}"
