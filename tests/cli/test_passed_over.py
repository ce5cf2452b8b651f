"""Versions that were passed over: three are named, more are counted in one line, so that what is allowed is seen."""

from __future__ import annotations

import pytest

from backout.cli.rollback import make_refusal
from backout.model.plan import Plan, PlanKind, PlanRefused, Rejection, Step
from backout.report.plans import format_plan

IDS = [f"{number:08d}-0000-4000-8000-000000000000" for number in range(21)]


@pytest.mark.parametrize(("count", "lines"), [(3, 3), (21, 1)])
def test_a_refusal_counts_what_it_passed_over(count: int, lines: int) -> None:
    """Its options are the last lines, and not out of sight."""
    rejected = tuple(
        Rejection(each, f"it is bad in way {number}", "5 quarantined" if number % 2 else "5 unproven")
        for number, each in enumerate(IDS[:count])
    )
    error = make_refusal(PlanRefused("5 quarantined", "none may be returned to", ("do this",), rejected), "production")
    assert len(error.options) == lines + 1
    assert error.options[-1] == "do this"
    if lines == 1:
        assert error.options[0] == (
            "not these 21 either (11 unproven, 10 quarantined): `backout deployments list -e production` has each"
        )


@pytest.mark.parametrize(("count", "lines"), [(3, 3), (21, 1)])
def test_a_plan_counts_what_it_passed_over(count: int, lines: int) -> None:
    """On the terminal; its record keeps each of them."""
    notes = ("target t: it was stable", *(f"not {each}: it is quarantined" for each in IDS[:count]), "secrets: well")
    plan = Plan(PlanKind.ROLLBACK, "production", "why", (Step("activate", "make it live"),), notes)
    shown = format_plan(plan).splitlines()
    assert sum(line.startswith("  not ") for line in shown) == lines
    assert sum("0000-4000" in line for line in shown) == (count if lines == count else 0)
    assert [line for line in shown if "secrets: well" in line]
