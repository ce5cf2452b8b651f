"""Whether trouble persists: evidence never forgets a blip, so its stream must be bad in the wait's second half."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from backout.analysis.statistics.baseline import FLOOR
from backout.analysis.statistics.rates import log_e_above

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backout.analysis.detector.streams import Stream


class ConfirmationState(TypedDict):
    """Checkpoint of a `Confirmation`."""

    stream: str
    since: float
    half: list[int] | None


@dataclass(slots=True)
class Confirmation:
    """A verdict that waits for `confirm_s`.

    Args:
        stream: the stream that carried the evidence.
        since: Unix seconds when the wait began.
        half: the stream's (bad, total) when half of the wait was over.
    """

    stream: str
    since: float
    half: tuple[int, int] | None = None

    def left_s(self, now: float, streams: Iterable[Stream], confirm_s: float) -> float:
        """Return for how many seconds the trouble must still go on, 0 when confirmed; begin anew when it ended."""
        if confirm_s <= 0:
            return 0.0
        stream = next(stream for stream in streams if stream.name == self.stream)
        if self.half is None:
            if now - self.since < confirm_s / 2:
                return confirm_s - (now - self.since)
            self.half = (stream.bad, stream.total)
            self.since = now - confirm_s / 2
        if now - self.since < confirm_s:
            return confirm_s - (now - self.since)
        bad, total = stream.bad - self.half[0], stream.total - self.half[1]
        if log_e_above(bad, total, min(max(stream.normal or FLOOR, FLOOR), 0.9)) > 0:
            return 0.0
        self.since, self.half = now, None
        return confirm_s

    def state(self) -> ConfirmationState:
        """Return a checkpoint, plain JSON."""
        return {"stream": self.stream, "since": self.since, "half": list(self.half) if self.half else None}

    @classmethod
    def from_state(cls, state: ConfirmationState) -> Confirmation:
        """Return the wait as it was when the checkpoint was taken."""
        half = state["half"]
        return cls(state["stream"], state["since"], (half[0], half[1]) if half else None)
