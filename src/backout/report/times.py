"""Times and numbers as a person reads them; pure."""

from __future__ import annotations

from backout.model.clock import format_duration, to_utc

__all__ = ["format_ago", "format_clock", "format_day", "format_duration", "format_percent", "format_time"]


_UNITS = ((172_800, 86_400, "d"), (7_200, 3_600, "h"), (120, 60, "min"))
"""From how many seconds on a unit is used, how many seconds it has, and its name."""


def format_time(at: float) -> str:
    """Return RFC 3339 UTC with milliseconds.

    >>> format_time(0.25)
    '1970-01-01T00:00:00.250Z'
    """
    return to_utc(at).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def format_clock(at: float) -> str:
    """Return HH:MM:SS UTC.

    >>> format_clock(3661)
    '01:01:01'
    """
    return to_utc(at).strftime("%H:%M:%S")


def format_day(at: float) -> str:
    """Return YYYY-MM-DD UTC."""
    return to_utc(at).strftime("%Y-%m-%d")


def format_ago(at: float, now: float) -> str:
    """Return how long ago in one unit, whole ones that have passed: as the script of the pages says it a moment later.

    >>> format_ago(0, 12.7), format_ago(0, 290), format_ago(0, 7300), format_ago(0, 200_000), format_ago(10, 0)
    ('12 s ago', '4 min ago', '2 h ago', '2 d ago', 'just now')
    """
    passed = int(now - at)
    unit, name = next(((unit, name) for least, unit, name in _UNITS if passed >= least), (1, "s"))
    return "just now" if passed < 1 else f"{passed // unit} {name} ago"


def format_percent(share: float) -> str:
    """Return a share in percent with at most two significant decimals.

    >>> format_percent(0.0005), format_percent(0.052), format_percent(1.0), format_percent(0.0)
    ('0.05 %', '5.2 %', '100 %', '0 %')
    """
    value = share * 100
    if value == 0 or value >= 10:
        return f"{value:.0f} %"
    return f"{value:.1f} %" if value >= 1 else f"{value:.2g} %"
