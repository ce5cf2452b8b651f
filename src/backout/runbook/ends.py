"""What runs came to, as the journal has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.report.run_end import end_of

if TYPE_CHECKING:
    from backout.model.incident import Run
    from backout.ports import Runs
    from backout.report.run_end import RunEnd


def read_end(runs: Runs, run: Run) -> RunEnd:
    """Return how a run ended, as far as it has."""
    actions = [step.action for step in run.plan.steps if step.action in ("watch", "conclude")]
    actions += [step.action for step in run.plan.steps if step.action.startswith("verify")]
    return end_of(run, {action: runs.result(run.id, action) for action in actions})
