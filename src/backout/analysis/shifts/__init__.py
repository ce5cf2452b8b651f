"""Shifts in what is answered: a version on which people do not get what they got before; see docs/detection.md."""

from __future__ import annotations

from backout.analysis.shifts.pairs import Pairs
from backout.analysis.shifts.table import Judged
from backout.analysis.shifts.watch import PAIRS_PART, PART, LooksOfShiftsState, Shifts, ShiftsState

__all__ = ["PAIRS_PART", "PART", "Judged", "LooksOfShiftsState", "Pairs", "Shifts", "ShiftsState"]
