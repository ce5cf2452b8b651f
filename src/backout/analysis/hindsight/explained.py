"""The explanation of a verdict: the decision, how the evidence grew, what would have changed it; values only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.value import Value

if TYPE_CHECKING:
    from backout.analysis.hindsight.retrace import Recorded, Trace
    from backout.model.guard.verdict import Decision


class Explained(Value, frozen=True):
    """One watch.

    Args:
        run: the watch.
        decision: as recorded in the journal.
        action, why, rule: the consequence ("" for none).
        recorded: its input.
        trace: None when its requests are not (or no longer) kept.
        would_change: whole sentences without a final stop.
        notes: what is unknown, likewise.
    """

    run: str
    environment: str
    decision: Decision
    action: str
    why: str
    rule: str
    recorded: Recorded
    trace: Trace | None
    would_change: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
