"""Plausible times, and how far this machine's clock may be from the provider's (safety rule 3)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from backout.bounds import EARLIEST, LATEST

_YEAR_1: Final = -62_135_596_800.0

TOLERANCE_S: Final = 2.0
"""The offset is read from a header in whole seconds; nearer than this, the clocks agree."""
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def to_utc(at: float) -> datetime:
    """Return Unix seconds as a time in UTC to be shown; what no calendar has becomes the nearest that one has.

    >>> to_utc(1e300).year, to_utc(float("nan")).year
    (9999, 1970)
    """
    return datetime.fromtimestamp(EARLIEST if at != at else min(max(at, _YEAR_1), LATEST), UTC)  # noqa: PLR0124 a NaN


def is_off(offset_s: float | None) -> bool:
    """Whether the clocks disagree; None: not measured, so nothing is claimed."""
    return offset_s is not None and abs(offset_s) > TOLERANCE_S


def describe_offset(offset_s: float) -> str:
    """Return what an offset (the provider's clock minus ours) means, as one sentence.

    >>> describe_offset(3600.4)
    "this machine's clock is 60 min behind the provider's"
    >>> describe_offset(0.2)
    "this machine's clock and the provider's agree"
    >>> describe_offset(-12.3)
    "this machine's clock is 12 s ahead of the provider's"
    """
    seconds = abs(offset_s)
    if seconds < 1:
        return "this machine's clock and the provider's agree"
    if seconds < 2 * _MINUTE:
        amount = f"{seconds:.0f} s"
    else:
        amount = f"{seconds / _MINUTE:.0f} min" if seconds < 4 * _HOUR else f"{seconds / _HOUR:.1f} h"
    return f"this machine's clock is {amount} {'behind' if offset_s > 0 else 'ahead of'} the provider's"


def format_duration(seconds: float) -> str:
    """Return a duration in its largest whole unit (seconds with one decimal below ten).

    >>> format_duration(0.34), format_duration(12.2), format_duration(125), format_duration(7300)
    ('0.3 s', '12 s', '2 min', '2 h')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 2 * _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 2 * _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    if seconds < 2 * _DAY:
        return f"{seconds / _HOUR:.0f} h"
    return f"{seconds / _DAY:.0f} d"
