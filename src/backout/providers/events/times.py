"""Converts times in logs to Unix seconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

_MOST: Final = 1e20
_MS, _US, _NS = 1e11, 1e14, 1e17
"""A number of seconds is below these until the year 5138; one of milliseconds above the first since 1973."""
_ISO: Final = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d|\d{4}/\d\d/\d\d)[T ](?P<time>\d\d:\d\d:\d\d)(?:[.,](?P<part>\d{1,9}))?"
    r"\s?(?P<zone>Z|UTC|GMT|[+-]\d\d:?\d\d)?"
)
_CLF: Final = re.compile(
    r"(?P<day>\d\d)/(?P<month>[A-Z][a-z]{2})/(?P<year>\d{4}):(?P<time>\d\d:\d\d:\d\d) (?P<zone>[+-]\d{4})"
)
_LOCAL: Final = re.compile(
    r"(?P<a>\d{1,4})[./-](?P<b>\d{1,2})[./-](?P<c>\d{2,4}),? "
    r"(?P<h>\d{1,2}):(?P<m>\d\d):(?P<s>\d\d)(?:\s?(?P<half>[AP]M))?"
)
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_LONG_YEAR: Final = 4


def parse_seconds(value: object) -> float | None:
    """Return the time that a field of a log tells, None when it tells none; a number's unit follows from its size.

    >>> (parse_seconds(1764000000123), parse_seconds("2025-11-24T16:00:00Z"), parse_seconds("2025-11-24 16:00:00,5"),
    ...  parse_seconds("soon"))
    (1764000000.123, 1764000000.0, 1764000000.5, None)
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        if not 0 <= value < _MOST:
            return None
        scale = 1e9 if value > _NS else 1e6 if value > _US else 1e3 if value > _MS else 1.0
        return value / scale
    if isinstance(value, str):
        return find_time(value)
    return None


def find_time(text: str) -> float | None:
    """Return the first time in a text; without a zone it is taken for UTC."""
    try:
        if found := _ISO.search(text):
            return _parse_iso(found)
        if found := _CLF.search(text):
            month = _MONTHS.index(found["month"]) + 1
            day = datetime.strptime(f"{found['year']}-{month:02}-{found['day']} {found['time']}", "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007
            return day.replace(tzinfo=_parse_zone(found["zone"])).timestamp()
        if found := _LOCAL.search(text):
            return _parse_local(found)
    except (ValueError, OverflowError):
        pass
    return None


def _parse_iso(found: re.Match[str]) -> float:
    day = datetime.fromisoformat(f"{found['day'].replace('/', '-')}T{found['time']}")
    part = float(f"0.{found['part']}") if found["part"] else 0.0
    return day.replace(tzinfo=_parse_zone(found["zone"])).timestamp() + part


def _parse_zone(written_zone: str | None) -> timezone:
    if not written_zone or written_zone[0] not in "+-":
        return UTC
    digits = written_zone[1:].replace(":", "")
    away = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-away if written_zone[0] == "-" else away)


def _parse_local(found: re.Match[str]) -> float:
    """Return a time as `toLocaleString` writes it: American with AM or PM, otherwise the day before the month."""
    first, second, third = int(found["a"]), int(found["b"]), int(found["c"])
    if len(found["a"]) == _LONG_YEAR:
        year, month, day = first, second, third
    elif found["half"]:
        year, month, day = third, first, second
    else:
        year, month, day = third, second, first
    hour = int(found["h"])
    if found["half"]:
        hour = hour % 12 + (12 if found["half"] == "PM" else 0)
    whole_year = year if year > 99 else 2000 + year
    return datetime(whole_year, month, day, hour, int(found["m"]), int(found["s"]), tzinfo=UTC).timestamp()
