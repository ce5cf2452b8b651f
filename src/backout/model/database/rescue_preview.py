"""What a rescue that waits for an approval would write, counted beside it: for whoever has to approve it."""

from __future__ import annotations

from enum import StrEnum

from backout.model.database.rescue import RescueReport  # noqa: TC001 decoded
from backout.model.value import Value


class PreviewState(StrEnum):
    """How far the counting is; the values are part of the journal."""

    BEGAN = "began"
    COUNTED = "counted"
    FAILED = "failed"


class RescuePreview(Value, frozen=True):
    """How far the counting is, and what was counted.

    Args:
        run: that waits.
        at: when it was recorded, Unix seconds.
        report: what the rescue would write as the rows stood then, None: it is not counted.
        why: nothing was counted, "" while that is under way or done.
    """

    run: str
    state: PreviewState
    at: float
    report: RescueReport | None = None
    why: str = ""
