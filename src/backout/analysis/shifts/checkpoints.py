"""The contents of a checkpoint of the shifts; plain JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, NotRequired, TypedDict

if TYPE_CHECKING:
    from backout.analysis.shifts.collapse import CollapseState
    from backout.analysis.shifts.normal import NormalState
    from backout.analysis.shifts.pairs import PairsState
    from backout.analysis.shifts.signs import SignsState
    from backout.analysis.shifts.stratum import StratumState
    from backout.analysis.shifts.triggers import TriggerRunsState


class LooksOfShiftsState(TypedDict):
    """Checkpoint of what counts cannot restore: pairs, accepted shifts, since when almost nothing is answered well."""

    pairs: PairsState
    accepted: list[str]
    accepted_at: NotRequired[dict[str, float]]
    extinct_since: float | None


class ShiftsState(TypedDict):
    """Checkpoint of `Shifts`, plain JSON."""

    start: int
    share: float
    hours: float
    until: float
    normals: list[NormalState]
    known: dict[str, tuple[str, str, list[str]]]
    strata: list[StratumState]
    collapses: list[CollapseState]
    unmatched: tuple[int, int, dict[str, int]]
    guesses: float
    signs: SignsState
    triggers: TriggerRunsState
    looks: LooksOfShiftsState
    stretch: NotRequired[int]
