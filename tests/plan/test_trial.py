"""Which version of a deployment is on trial, what it is compared with, and which one a rollback leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backout.model.guard.policy import Mode
from backout.model.plan import Equivalents, Plan, PlanRefused
from backout.plan.guard import plan_guard
from backout.plan.rollback import Request, plan_rollback

from situations import deployment, quarantined, situation, stable, version

if TYPE_CHECKING:
    from backout.model.deployment import Deployment

OLD, NEW = version("aaaa", 100), version("bbbb", 200)
FIRST = deployment("d1", 100, ("aaaa", 100))
CANARY = deployment("d2", 200, ("aaaa", 90), ("bbbb", 10))
LARGE = deployment("d3", 300, ("bbbb", 90), ("aaaa", 10))
WHOLE = deployment("d4", 400, ("bbbb", 100))
NOTHING_BESIDE = deployment("d3", 300, ("bbbb", 100), ("aaaa", 0))


@pytest.mark.parametrize(
    ("history", "share"),
    [
        ((FIRST, CANARY), 0.1),
        ((FIRST, LARGE), 0.9),
        ((FIRST, CANARY, LARGE), 0.9),
        ((FIRST, CANARY, LARGE, WHOLE), 1.0),
        ((FIRST, NOTHING_BESIDE), 1.0),
        ((LARGE,), 0.9),
    ],
)
def test_the_newcomer_is_on_trial_and_is_left_at_any_share(history: tuple[Deployment, ...], share: float) -> None:
    """A canary that grew past half, was promoted, or has an idle version beside it is still the one to leave."""
    sight = situation((OLD, NEW), history, marks=(stable("aaaa", 150),))
    watch = plan_guard(sight, mode=Mode.ACT, for_s=1e9).steps[0].args
    assert (watch["version"], watch["old"], watch["split"]) == ("bbbb", "aaaa", share)
    outcome = plan_rollback(sight, Request(message="it fails"), Equivalents())
    assert isinstance(outcome, Plan), outcome
    assert (outcome.step("activate").args["leaving"], outcome.step("activate").args["version"]) == ("bbbb", "aaaa")


def test_what_a_rollback_left_never_says_what_is_normal() -> None:
    """After a rollback the restored version is measured by the criteria's limits, never by the bad version's past."""
    history = (FIRST, deployment("d2", 200, ("bbbb", 100)), deployment("d3", 300, ("aaaa", 100)))
    sight = situation((OLD, NEW), history, marks=(stable("aaaa", 150), quarantined("bbbb", 300)))
    watch = plan_guard(sight, mode=Mode.ACT, for_s=1e9).steps[0].args
    assert (watch["version"], watch["old"]) == ("aaaa", "")


def test_a_version_that_was_never_live_is_taken_only_by_name() -> None:
    """Accepting unproven versions means those that served once, not an upload that nobody ever deployed."""
    sight = situation((version("cccc", 150), NEW), (deployment("d1", 200, ("bbbb", 100)),))
    wish = Request(message="it fails", accept_unproven=True)
    assert isinstance(plan_rollback(sight, wish, Equivalents()), PlanRefused)
    named = plan_rollback(sight, Request(message="it fails", target="cccc"), Equivalents())
    assert isinstance(named, Plan)
