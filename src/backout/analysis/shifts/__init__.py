"""Shifts in the answers: users no longer get what they got before; see docs/research/detection.md."""

from __future__ import annotations

from backout.analysis.shifts.checkpoints import LooksOfShiftsState, ShiftsState
from backout.analysis.shifts.pairs import Pairs
from backout.analysis.shifts.table import Judged
from backout.analysis.shifts.watch import PAIRS_PART, PART, Shifts

__all__ = ["PAIRS_PART", "PART", "Judged", "LooksOfShiftsState", "Pairs", "Shifts", "ShiftsState"]
