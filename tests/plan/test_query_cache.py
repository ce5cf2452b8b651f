"""Hyperdrive's cache in plans: said where the live database is written to, and outlasted where the Worker is asked."""

from __future__ import annotations

from backout.model.plan import Plan, PlanKind, Step
from backout.model.steps.restore import StopServerStep
from backout.model.steps.rollback import ActivateStep, ReadBackStep
from backout.model.steps.verification import VerifyStep
from backout.model.triggers import Coverage, Fate
from backout.plan.query_cache import CACHE_NOTE, CACHE_S, note_cache, says_cached
from backout.plan.restore import undo_rescue_plan
from backout.plan.together import join_plans
from backout.twin.database.querycache import MAX_AGE_S, STALE_S


def rollback(*coverage: Coverage) -> Plan:
    """Return a plan with the steps that `join_plans` reads."""
    activate = ActivateStep(version="v1", expected="d1", leaving="v2", message="m")
    steps = (
        Step.of("activate", activate),
        Step.of("read back", ReadBackStep(version="v1")),
        Step.of("verify", VerifyStep(version="v1", left="v2")),
    )
    return Plan(PlanKind.ROLLBACK, "production", "it fails", steps, coverage=coverage)


def swap() -> Plan:
    """Return the step of a swap that `join_plans` looks for."""
    stop = Step.of("stop", StopServerStep(data_directory="/data"))
    return Plan(PlanKind.RECOVER, "production", "the whole", (stop,))


def test_the_time_is_that_of_hyperdrives_own_rules() -> None:
    """Kept for a minute, then served once more while it is read anew."""
    assert CACHE_S == MAX_AGE_S + STALE_S


def test_a_plan_that_writes_to_the_database_says_so_and_another_one_does_not() -> None:
    """Looking at a side instance changes nothing behind the cache."""
    undo = note_cache(undo_rescue_plan("production", "abc", "app", "a rescue"))
    assert undo.notes[-1] == CACHE_NOTE
    assert says_cached(undo)
    assert not says_cached(note_cache(swap()))


def test_code_and_database_together_are_verified_behind_the_cache() -> None:
    """Where the Worker has the binding: the plan says so, and the watch begins when the cache is over."""
    bound = join_plans(rollback(Coverage("hyperdrive DB", Fate.STAYS, "its rows")), swap(), "0002_drop")
    assert CACHE_NOTE in bound.notes
    assert any("its proof can rest on rows from before" in note for note in bound.notes)
    assert bound.arguments(VerifyStep).cache_s == CACHE_S
    assert "Hyperdrive" in bound.step(VerifyStep.action).title
    without = join_plans(rollback(Coverage("database", Fate.STAYS, "its rows")), swap(), "0002_drop")
    assert CACHE_NOTE not in without.notes
    assert without.arguments(VerifyStep).cache_s == 0
