"""Times and numbers as a person reads them; pure."""

from __future__ import annotations

from backout.model.clock import duration, utc

__all__ = ["ago", "clock", "day", "duration", "percent", "rfc3339"]


def rfc3339(at: float) -> str:
    """Return RFC 3339 UTC with milliseconds.

    >>> rfc3339(0.25)
    '1970-01-01T00:00:00.250Z'
    """
    return utc(at).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def clock(at: float) -> str:
    """Return HH:MM:SS UTC.

    >>> clock(3661)
    '01:01:01'
    """
    return utc(at).strftime("%H:%M:%S")


def day(at: float) -> str:
    """Return YYYY-MM-DD UTC."""
    return utc(at).strftime("%Y-%m-%d")


def ago(at: float, now: float) -> str:
    """Return how long ago in one unit.

    >>> ago(0, 12), ago(0, 7300), ago(0, 200_000), ago(10, 0)
    ('12 s ago', '2 h ago', '2 d ago', 'just now')
    """
    passed = now - at
    if passed < 1:
        return "just now"
    return f"{duration(passed)} ago"


def percent(share: float) -> str:
    """Return a share in percent with at most two significant decimals.

    >>> percent(0.0005), percent(0.052), percent(1.0), percent(0.0)
    ('0.05 %', '5.2 %', '100 %', '0 %')
    """
    value = share * 100
    if value == 0 or value >= 10:
        return f"{value:.0f} %"
    return f"{value:.1f} %" if value >= 1 else f"{value:.2g} %"
