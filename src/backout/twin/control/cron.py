"""Cron expressions of Cron Triggers: five fields, UTC, weekdays 1 (Sunday) to 7 (Saturday); pure.

Source: Cloudflare documentation, "Cron Triggers", supported cron expressions (read 2026-11).
"""

from __future__ import annotations

import calendar
import datetime as dt
import re
from collections.abc import Callable
from dataclasses import dataclass, field

Day = Callable[[dt.date], bool]
"""Whether a part of an expression takes a day."""

_MONTHS = {name.upper(): number for number, name in enumerate(calendar.month_abbr) if name}
_WEEKDAYS = {name: number for number, name in enumerate(("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"), start=1)}
_FIELDS = 5
_PART = re.compile(r"(\*|\w+)(?:-(\w+))?(?:/(\d+))?\Z")
_LAST_BUT = re.compile(r"L(?:-(\d+))?\Z")
_NEAREST = re.compile(r"(\d+)W\Z")
_LAST_WEEKDAY = re.compile(r"(\w+)L\Z")
_NTH_WEEKDAY = re.compile(r"(\w+)#([1-5])\Z")
_WEEK = 7


class BadCron(ValueError):
    """The text is not a cron expression; the message names the wrong part."""


@dataclass(frozen=True, slots=True)
class Cron:
    """One expression; `text` as it was given."""

    text: str
    _minutes: frozenset[int] = field(repr=False)
    _hours: frozenset[int] = field(repr=False)
    _months: frozenset[int] = field(repr=False)
    _day: Day = field(repr=False, compare=False)

    def takes(self, at: dt.datetime) -> bool:
        """Whether the expression names the minute of `at`, which is UTC.

        >>> parse_cron("30 17 * * 1").takes(dt.datetime(2026, 11, 29, 17, 30))  # a Sunday
        True
        """
        return (
            at.minute in self._minutes and at.hour in self._hours and at.month in self._months and self._day(at.date())
        )


def parse_cron(text: str) -> Cron:
    """Return the expression of a text.

    Where both the day of the month and the weekday say something, a day that either of them takes is taken.

    Raises:
        BadCron: it has not five fields, or one of them cannot be read.
    """
    fields = text.upper().split()
    if len(fields) != _FIELDS:
        raise BadCron(f"{text!r} has {len(fields)} fields, not {_FIELDS}")
    minute, hour, day, month, weekday = fields
    days, weekdays = _parse_any(day, _parse_day_of_month), _parse_any(weekday, _parse_weekday)
    if day == "*" or weekday == "*":
        both: Day = lambda date: days(date) and weekdays(date)  # noqa: E731 - one of them takes every day
    else:
        both = lambda date: days(date) or weekdays(date)  # noqa: E731
    return Cron(
        text, _parse_numbers(minute, 0, 59), _parse_numbers(hour, 0, 23), _parse_numbers(month, 1, 12, _MONTHS), both
    )


def _parse_any(text: str, read: Callable[[str], Day]) -> Day:
    parts = tuple(read(part) for part in text.split(","))
    return lambda date: any(part(date) for part in parts)


def _parse_day_of_month(part: str) -> Day:
    if part == "LW":
        return lambda date: date.day == _find_nearest_workday(date, _get_length(date))
    if found := _LAST_BUT.match(part):
        before = int(found[1] or 0)
        return lambda date: date.day == _get_length(date) - before
    if found := _NEAREST.match(part):
        wanted = _parse_number(found[1], 1, 31, {})
        return lambda date: date.day == _find_nearest_workday(date, min(wanted, _get_length(date)))
    days = _parse_numbers(part, 1, 31)
    return lambda date: date.day in days


def _parse_weekday(part: str) -> Day:
    if part == "L":
        part = "7"
    if found := _NTH_WEEKDAY.match(part):
        wanted, nth = _parse_number(found[1], 1, _WEEK, _WEEKDAYS), int(found[2])
        return lambda date: _get_weekday(date) == wanted and (date.day - 1) // _WEEK == nth - 1
    if found := _LAST_WEEKDAY.match(part):
        wanted = _parse_number(found[1], 1, _WEEK, _WEEKDAYS)
        return lambda date: _get_weekday(date) == wanted and date.day > _get_length(date) - _WEEK
    weekdays = _parse_numbers(part, 1, _WEEK, _WEEKDAYS)
    return lambda date: _get_weekday(date) in weekdays


def _parse_numbers(text: str, low: int, high: int, names: dict[str, int] | None = None) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        match = _PART.match(part)
        if match is None or (match[1] == "*" and match[2]):
            raise BadCron(f"{part!r} is no number, range or step")
        step = int(match[3] or 1)
        if step < 1:
            raise BadCron(f"{part!r} has a step of 0")
        if match[1] == "*":
            first, last = low, high
        else:
            first = _parse_number(match[1], low, high, names or {})
            last = _parse_number(match[2], low, high, names or {}) if match[2] else (high if match[3] else first)
        if last < first:
            last += high - low + 1  # FRI-MON goes round
        found.update(low + (number - low) % (high - low + 1) for number in range(first, last + 1, step))
    return frozenset(found)


def _parse_number(text: str, low: int, high: int, names: dict[str, int]) -> int:
    number = names.get(text, int(text) if text.isdecimal() else -1)
    if not low <= number <= high:
        raise BadCron(f"{text!r} is not in {low} to {high}")
    return number


def _get_weekday(date: dt.date) -> int:
    return date.isoweekday() % _WEEK + 1


def _get_length(date: dt.date) -> int:
    return calendar.monthrange(date.year, date.month)[1]


def _find_nearest_workday(date: dt.date, wanted: int) -> int:
    """Return the day of that month, Monday to Friday, that is nearest to `wanted`; it never leaves the month."""
    weekday = date.replace(day=wanted).isoweekday()
    if weekday <= 5:
        return wanted
    if weekday == 6:
        return wanted - 1 if wanted > 1 else 3
    return wanted + 1 if wanted < _get_length(date) else wanted - 2
