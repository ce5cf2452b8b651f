"""A verdict explained: what was decided, how the evidence grew, what would have changed it; values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backout.analysis.retrace import Recorded, Trace
    from backout.model.verdict import Decision


@dataclass(frozen=True, slots=True)
class Explained:
    """One watch.

    Args:
        run: the watch. decision: as the journal has it. action, why, rule: what followed from it ("" where nothing).
        recorded: what it rested on. trace: None when its requests are not kept (any more).
        would_change: whole sentences without a final stop. notes: what is not known, the same way.
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
