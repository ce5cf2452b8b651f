"""What a detector's checkpoints hold; plain JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, NotRequired, TypedDict

from backout.analysis.detector.counted import CountedState

if TYPE_CHECKING:
    from backout.analysis.detector.confirmation import ConfirmationState
    from backout.analysis.detector.connections import OccupancyState
    from backout.analysis.detector.probes import ProbesState
    from backout.analysis.detector.streams import StreamState
    from backout.analysis.detector.synthetic import SyntheticState
    from backout.analysis.shifts import LooksOfShiftsState, ShiftsState


class WaitsState(TypedDict):
    """Checkpoint of a verdict that waits to be confirmed: since when, and when it first turned bad (Unix seconds)."""

    confirming: ConfirmationState | None
    shifted_since: float | None
    first_bad_at: float | None


class LooksState(TypedDict):
    """Checkpoint of the looks: health, connections, synthetic requests; plain JSON."""

    probes: ProbesState
    occupancy: OccupancyState
    synthetic: SyntheticState
    probed: StreamState | None
    shifts: NotRequired[LooksOfShiftsState]
    waits: NotRequired[WaitsState]


class DetectorState(WaitsState, CountedState):
    """Checkpoint of a `Detector`, plain JSON."""

    version: str
    old: str | None
    deployed_at: float
    probes: ProbesState
    occupancy: OccupancyState
    synthetic: SyntheticState
    healthy_after_s: float
    watch_s: float
    shifts: ShiftsState
    unseen: NotRequired[str]
    can_ask: NotRequired[bool]
