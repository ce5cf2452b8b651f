"""Shifts in what is answered: a version on which people do not get what they got before; see docs/detection.md."""

from __future__ import annotations

from backout.analysis.shifts.pairs import Pairs, PairsState

__all__ = ["Pairs", "PairsState"]
