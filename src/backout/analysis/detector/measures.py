"""What a stream of a watch counts, and the source of its normal share."""

from __future__ import annotations

from enum import StrEnum


class Measure(StrEnum):
    """What is counted as a hit."""

    ERRORS = "errors"
    WARMING = "errors in the warm-up"
    ABOVE_P50 = "above p50"
    ABOVE_P95 = "above p95"
    ABOVE_P99 = "above p99"
    ABOVE_TWICE_P99 = "above 2*p99"
    EXTREME = "ten times the median"  # most answers that take so long are extreme
    TIMED_OUT = "longer than clients wait"
    PROBES = "probes"  # backout's own that fail: no visitor's requests

    @property
    def is_errors(self) -> bool:
        """Whether requests that failed are counted."""
        return self in (Measure.ERRORS, Measure.WARMING)


SLOWER = (Measure.ABOVE_P50, Measure.ABOVE_P95, Measure.ABOVE_P99, Measure.ABOVE_TWICE_P99)
"""Latency above each of the baseline's thresholds, in the order of `quantiles.TAILS`."""
EXTREMES = (Measure.EXTREME, Measure.TIMED_OUT)


class Against(StrEnum):
    """The source of the normal share, in the words of the evidence."""

    BEFORE = "the baseline"
    BESIDE = "the old version beside it"
    SLO = "the SLO"
    NO_BASELINE = "the SLO (there is no baseline)"
    WARM_UP = "the limit during warm-up"
    GRANTED = "the limit for probes"
    EXTREME = "the limit for extreme response times"
    UNNOTICED = "the limit where all answers are fast"

    @property
    def words(self) -> str:
        """Return it as the end of "against 0.2 % ..."."""
        limits = {each: f"({each})" for each in (Against.WARM_UP, Against.GRANTED, Against.EXTREME, Against.UNNOTICED)}
        told = {Against.BEFORE: "before", Against.BESIDE: "of the old version beside it", **limits}
        return told.get(self, f"by {self}")
