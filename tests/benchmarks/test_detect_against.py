"""Today's detector beside that of a commit: the same watches, and ratios of their mean delays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from shared import detect_against as against

if TYPE_CHECKING:
    from pathlib import Path


def test_ratios_are_of_paired_mean_delays() -> None:
    """Twice as late everywhere is 2.00 with no doubt; only scenarios of 5 requests/s and more count."""
    old = {scenario.name: [10.0, 30.0] for scenario, _ in against.chosen("standard")}
    new = {
        scenario.name: [20.0, 60.0] if scenario.rate >= 5 else [900.0, 900.0]
        for scenario, _ in against.chosen("standard")
    }
    found = against.compared(new, old, "standard")
    ratios, bounds = found["ratios"], found["bound95"]
    assert isinstance(ratios, dict)
    assert isinstance(bounds, dict)
    assert {"new_over_old_errors", "new_over_old_leak of errors", "new_over_old_leak of latency"} <= set(ratios)
    assert set(ratios.values()) == {2.0}
    assert bounds["new_over_old_errors"] == [2.0, 2.0]


@pytest.mark.rotating("whole sources", 3)
@pytest.mark.long
def test_a_commit_judges_the_same_watches(tmp_path: Path) -> None:
    """Its own source and evaluator, today's simulation: a delay for each watch that is judged today."""
    old = against.delays_at("30e485c", "quick", 1, tmp_path)
    new = against.delays("quick", 1)
    assert {name: len(delays) for name, delays in old.items()} == {name: len(each) for name, each in new.items()}
    total = next(name for name in new if name.startswith("errors 100 %") and "cut-over" in name)
    assert old[total] == new[total]
