"""Where a plan checks what it did by other means."""

from __future__ import annotations

from backout.plan.restore import undo_swap_plan


def test_the_undo_of_a_swap_notes_before_it_and_compares_after_it() -> None:
    """What was noted when the directory was put away is compared when it is back."""
    swapped = {"data_directory": "/data", "kept": "/data.backout-old-abc", "system_identifier": "7"}
    steps = undo_swap_plan("lab", dict(swapped), "def", "app").steps
    assert steps[0].action == "db_note_copies"
    assert steps[-1].action == "db_compare_copy"
    assert steps[-1].args["incoming"] == steps[-2].args["incoming"] == "/data.backout-old-abc"
