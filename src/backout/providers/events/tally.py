"""Counts invocations, errors and templates in bounded memory, whatever the input."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from backout.model.incident.events import (
    NO_VERSION,
    OTHER_VERSION,
    EventCounts,
    Invocation,
    InvocationCounts,
    Noted,
    Origin,
    Said,
    Seen,
    Template,
    TemplateKey,
)
from backout.model.outcomes import CANCELED, GONE, OK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    KeyOf = Callable[[str], TemplateKey]
    Place = Callable[[], str]

MOST_TEMPLATES: Final = 4096
MOST_VERSIONS: Final = 256
MOST_MINUTES: Final = 200_000
"""Cells of (template, version, minute) and of minutes; what comes when all are in use is counted without its minute."""
LONGEST_SAMPLE: Final = 4000
_EARLIEST, _LATEST = 946_684_800.0, 4_102_444_800.0  # 2000 to 2100
_BACK_S, _AHEAD_S = 300.0, 86_400.0
_STRENGTH: Final = {origin: index for index, origin in enumerate(Origin)}
_CLOCK_NONE: Final = "a time before 2000 or after 2100 (not used)"
_CLOCK_BACK: Final = "the time goes back by more than five minutes"
_CLOCK_AHEAD: Final = "the time jumps ahead by more than a day"
_RESET: Final = re.compile(r"(?:\w{1,40}: )?Durable Object reset because its code was updated")
"""What an invocation says that a healthy deployment interrupts: it counts as one that was canceled.

Only a text that begins so: a visitor's words in the middle of another one hide no error.

Source: public reports of Workers with Durable Objects (2026); their next request is answered by the new code.
"""


@dataclass(slots=True)
class _Row:
    """One template while it is counted."""

    key: TemplateKey
    origin: Origin
    sample: str
    outcome: str
    status: int | None
    source: str
    by_version: dict[str, list[int]] = field(default_factory=dict)
    by_minute: dict[tuple[str, int], int] = field(default_factory=dict)
    first_seen: float | None = None
    last_seen: float | None = None

    def saw(self, at: float) -> None:
        """Widen the time in which it was seen."""
        if self.first_seen is None or self.last_seen is None:
            self.first_seen = self.last_seen = at
        elif at < self.first_seen:
            self.first_seen = at
        elif at > self.last_seen:
            self.last_seen = at


class EventTally:
    """The counts so far; one for each process, `merge` adds them up.

    Args:
        key_of: gives the template key of a text.
    """

    def __init__(self, key_of: KeyOf) -> None:
        self._key_of = key_of
        self._versions: dict[str, list[int]] = {}
        self._minutes: dict[int, list[int]] = {}
        self._rows: dict[TemplateKey, _Row] = {}
        self._shapes: dict[str, int] = {}
        self._unreadable: dict[str, Noted] = {}
        self._oddities: dict[str, Noted] = {}
        self._cells = 0
        self._previous: float | None = None
        self._first_at: float | None = None
        self._last_at: float | None = None
        self.sampled = False
        self.truncated = 0
        self.untracked = 0

    # --- what happened -----------------------------------------------------------------------------------------------

    def healthy(self, version: str, number: int = 1) -> None:
        """Count invocations of a version that were ok and said nothing."""
        self._versions[self._add_version(version)][0] += number

    def shape(self, name: str, number: int = 1) -> None:
        """Count events by the kind of source they came from."""
        self._shapes[name] = self._shapes.get(name, 0) + number

    def add(self, event: Invocation, place: Place) -> None:
        """Count one invocation with everything that it says; `place` tells where it was read, if that is asked."""
        if event.said and all(_RESET.match(one.text) for one in event.said):
            event = event._replace(outcome=CANCELED, said=())
        version, said, is_error, is_canceled = event.version, event.said, event.is_error, event.outcome in GONE
        if version and event.outcome == OK and not (said or is_error or event.truncated):
            self.healthy(version)
            return
        at = event.at
        if at is not None:
            at = self._check_time(at, place)
        counts = self._versions.get(version)
        if counts is None:
            version = self._add_version(version)
            counts = self._versions[version]
        counts[0] += 1
        counts[1] += is_error
        counts[2] += is_canceled
        self.truncated += event.truncated
        if version == NO_VERSION and at is not None:
            self._add_minute(int(at // 60), (1, is_error, is_canceled))
        where = (version, at, is_error)
        seen: set[TemplateKey] = set()
        is_silent = is_error
        for one in said:
            if one.origin is not Origin.WARNING:
                is_silent = False
            self._say(one, event, where, seen)
        if is_silent:
            self._say(Said(Origin.OUTCOME, _describe_silent(event)), event, where, seen)

    def saw(self, at: float | None) -> None:
        """Extend the time range that was read; None and impossible times change nothing."""
        if at is None or not _EARLIEST <= at <= _LATEST:
            return
        if self._first_at is None or at < self._first_at:
            self._first_at = at
        if self._last_at is None or at > self._last_at:
            self._last_at = at

    def unreadable(self, why: str, place: str, number: int = 1) -> None:
        """Note something that could not be counted."""
        _note_text(self._unreadable, why, place, number)

    def odd(self, what: str, place: str, number: int = 1) -> None:
        """Note something odd about what was counted."""
        _note_text(self._oddities, what, place, number)

    # --- together ----------------------------------------------------------------------------------------------------

    def merge(self, other: EventCounts) -> None:
        """Add what another process has counted."""
        for version, number in other.by_version.items():
            _add(self._versions[self._add_version(version)], (number.invocations, number.errors, number.canceled))
        for minute, number in other.by_minute.items():
            self._add_minute(minute, (number.invocations, number.errors, number.canceled))
        for template in other.templates:
            self._merge_template(template)
        for name, count in other.shapes.items():
            self.shape(name, count)
        for why, noted in other.unreadable.items():
            self.unreadable(why, noted.first, noted.count)
        for what, noted in other.oddities.items():
            self.odd(what, noted.first, noted.count)
        self.sampled = self.sampled or other.sampled
        self.truncated += other.truncated
        self.untracked += other.untracked
        self.saw(other.first_at)
        self.saw(other.last_at)

    def result(self) -> EventCounts:
        """Return what was counted so far."""
        templates = (
            Template(
                key=row.key,
                origin=row.origin,
                sample=row.sample,
                by_version={version: Seen(*seen) for version, seen in row.by_version.items()},
                by_minute=dict(row.by_minute),
                first_seen=row.first_seen,
                last_seen=row.last_seen,
                outcome=row.outcome,
                status=row.status,
                source=row.source,
            )
            for row in self._rows.values()
        )
        return EventCounts(
            by_version={version: InvocationCounts(*counts) for version, counts in self._versions.items()},
            by_minute={minute: InvocationCounts(*counts) for minute, counts in sorted(self._minutes.items())},
            templates=tuple(sorted(templates, key=lambda one: (-one.invocations, str(one.key)))),
            shapes=dict(self._shapes),
            sampled=self.sampled,
            truncated=self.truncated,
            unreadable=dict(self._unreadable),
            oddities=dict(self._oddities),
            untracked=self.untracked,
            first_at=self._first_at,
            last_at=self._last_at,
        )

    # --- inside ------------------------------------------------------------------------------------------------------

    def _add_version(self, version: str) -> str:
        """Return the name that a version is counted under, which has a row from now on."""
        if version not in self._versions:
            if len(self._versions) >= MOST_VERSIONS:
                version = OTHER_VERSION
            self._versions.setdefault(version, [0, 0, 0])
        return version

    def _say(self, one: Said, event: Invocation, where: tuple[str, float | None, bool], seen: set[TemplateKey]) -> None:
        """Count one text, once for each template in an invocation."""
        key = self._key_of(one.text)
        if key in seen:
            return
        seen.add(key)
        row = self._rows.get(key)
        if row is None:
            if len(self._rows) >= MOST_TEMPLATES:
                self.untracked += 1
                return
            sample = _make_sample(one.text)
            row = _Row(key, one.origin, sample, event.outcome, event.status, event.source)
            self._rows[key] = row
        elif one.origin is not row.origin:
            row.origin = min(one.origin, row.origin, key=_STRENGTH.__getitem__)
        version, at, is_error = where
        counts = row.by_version.get(version)
        if counts is None:
            counts = row.by_version[version] = [0, 0]
        counts[0] += 1
        counts[1] += is_error
        if at is not None:
            row.saw(at)
            self._add_cell(row, (version, int(at // 60)), 1)

    def _merge_template(self, template: Template) -> None:
        row = self._rows.get(template.key)
        if row is None:
            if len(self._rows) >= MOST_TEMPLATES:
                self.untracked += template.invocations
                return
            row = self._rows[template.key] = _Row(
                template.key, template.origin, template.sample, template.outcome, template.status, template.source
            )
        else:
            row.origin = min(template.origin, row.origin, key=_STRENGTH.__getitem__)
        for version, seen in template.by_version.items():
            _add(row.by_version.setdefault(version, [0, 0]), (seen.invocations, seen.errors))
        for cell, number in template.by_minute.items():
            self._add_cell(row, cell, number)
        for at in (template.first_seen, template.last_seen):
            if at is not None:
                row.saw(at)

    def _add_cell(self, row: _Row, cell: tuple[str, int], number: int) -> None:
        """Count a template in a minute, while there is room for minutes."""
        found = row.by_minute.get(cell)
        if found is not None:
            row.by_minute[cell] = found + number
        elif self._cells < MOST_MINUTES:
            self._cells += 1
            row.by_minute[cell] = number

    def _add_minute(self, minute: int, numbers: tuple[int, int, int]) -> None:
        """Count invocations without a version in a minute, while there is room for minutes."""
        row = self._minutes.get(minute)
        if row is None:
            if self._cells >= MOST_MINUTES:
                return
            self._cells += 1
            row = self._minutes[minute] = [0, 0, 0]
        _add(row, numbers)

    def _check_time(self, at: float, place: Place) -> float | None:
        """Return a time that can be, and note what is odd about it."""
        if not _EARLIEST <= at <= _LATEST:
            self.odd(_CLOCK_NONE, place())
            return None
        previous, self._previous = self._previous, at
        if previous is not None and not previous - _BACK_S <= at <= previous + _AHEAD_S:
            self.odd(_CLOCK_BACK if at < previous else _CLOCK_AHEAD, place())
        self.saw(at)
        return at

    def begin_source(self) -> None:
        """Compare no time of the next source with one of the source before."""
        self._previous = None


def _describe_silent(event: Invocation) -> str:
    """Return words for an error that said nothing."""
    if event.outcome not in ("ok", "exception"):
        return f"The invocation ended with outcome {event.outcome} and logged no error"
    if event.status is not None:
        return f"HTTP {event.status} without a logged error"
    return f"An invocation failed (outcome {event.outcome}) without a logged error"


def _make_sample(text: str) -> str:
    if len(text) <= LONGEST_SAMPLE:
        return text
    return f"{text[: LONGEST_SAMPLE * 3 // 4]}\n{text[-LONGEST_SAMPLE // 4 + 1 :]}"


def _note_text(book: dict[str, Noted], what: str, place: str, number: int) -> None:
    found = book.get(what)
    book[what] = Noted(number, place) if found is None else Noted(found.count + number, found.first)


def _add(row: list[int], numbers: Iterable[int]) -> None:
    for index, number in enumerate(numbers):
        row[index] += number
