"""Counts invocations, errors and templates in bounded memory, whatever is thrown at it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from backout.model.events import (
    CANCELED,
    NO_VERSION,
    OK,
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

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

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


class EventTally:
    """What was counted so far; one for each process, `merge` adds them up.

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
        self._versions[self._known(version)][0] += number

    def shape(self, name: str, number: int = 1) -> None:
        """Count events by the kind of source they came from."""
        self._shapes[name] = self._shapes.get(name, 0) + number

    def add(self, event: Invocation, place: Place) -> None:
        """Count one invocation with everything that it says; `place` tells where it was read, if that is asked."""
        version = event.version
        is_error = event.is_error
        if version and event.outcome == OK and not (event.said or is_error or event.truncated):
            self.healthy(version)
            return
        at = self._plausible(event.at, place)
        version = self._known(version)
        counts = self._versions[version]
        counts[0] += 1
        counts[1] += is_error
        canceled = event.outcome == CANCELED
        counts[2] += canceled
        self.truncated += event.truncated
        if at is not None:
            self._clock(at, place)
            self.saw(at)
            if version == NO_VERSION and self._cell(minute := int(at // 60), self._minutes):
                row = self._minutes.setdefault(minute, [0, 0, 0])
                row[0] += 1
                row[1] += is_error
                row[2] += canceled
        said = event.said
        if is_error and not any(one.origin is not Origin.WARNING for one in said):
            said = (*said, Said(Origin.OUTCOME, _silent(event)))
        seen: set[TemplateKey] = set()
        for one in said:
            self._say(one, event, (version, at, is_error), seen)

    def saw(self, at: float | None) -> None:
        """Widen the time that was read over; None and times that cannot be change nothing."""
        if at is None or not _EARLIEST <= at <= _LATEST:
            return
        self._first_at = at if self._first_at is None else min(at, self._first_at)
        self._last_at = at if self._last_at is None else max(at, self._last_at)

    def unreadable(self, why: str, place: str, number: int = 1) -> None:
        """Note something that could not be counted."""
        _note(self._unreadable, why, place, number)

    def odd(self, what: str, place: str, number: int = 1) -> None:
        """Note something odd about what was counted."""
        _note(self._oddities, what, place, number)

    # --- together ----------------------------------------------------------------------------------------------------

    def merge(self, other: EventCounts) -> None:
        """Add what another process has counted."""
        for version, number in other.by_version.items():
            _add(self._versions[self._known(version)], (number.invocations, number.errors, number.canceled))
        for minute, number in other.by_minute.items():
            if self._cell(minute, self._minutes):
                row = self._minutes.setdefault(minute, [0, 0, 0])
                _add(row, (number.invocations, number.errors, number.canceled))
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

    def _known(self, version: str) -> str:
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
            sample = _sample(one.text)
            row = _Row(key, one.origin, sample, event.outcome, event.status, event.source)
            self._rows[key] = row
        elif _STRENGTH[one.origin] < _STRENGTH[row.origin]:
            row.origin = one.origin
        version, at, is_error = where
        counts = row.by_version.setdefault(version, [0, 0])
        counts[0] += 1
        counts[1] += is_error
        if at is None:
            return
        row.first_seen = at if row.first_seen is None else min(at, row.first_seen)
        row.last_seen = at if row.last_seen is None else max(at, row.last_seen)
        cell = (version, int(at // 60))
        if self._cell(cell, row.by_minute):
            row.by_minute[cell] = row.by_minute.get(cell, 0) + 1

    def _merge_template(self, template: Template) -> None:
        row = self._rows.get(template.key)
        if row is None:
            if len(self._rows) >= MOST_TEMPLATES:
                self.untracked += template.invocations
                return
            row = self._rows[template.key] = _Row(
                template.key, template.origin, template.sample, template.outcome, template.status, template.source
            )
        elif _STRENGTH[template.origin] < _STRENGTH[row.origin]:
            row.origin = template.origin
        for version, seen in template.by_version.items():
            _add(row.by_version.setdefault(version, [0, 0]), (seen.invocations, seen.errors))
        for cell, number in template.by_minute.items():
            if self._cell(cell, row.by_minute):
                row.by_minute[cell] = row.by_minute.get(cell, 0) + number
        for at in (template.first_seen, template.last_seen):
            if at is not None:
                row.first_seen = at if row.first_seen is None else min(at, row.first_seen)
                row.last_seen = at if row.last_seen is None else max(at, row.last_seen)

    def _cell(self, cell: object, cells: Container[object]) -> bool:
        """Whether there is room for this minute."""
        if cell in cells:
            return True
        self._cells += 1
        return self._cells <= MOST_MINUTES

    def _plausible(self, at: float | None, place: Place) -> float | None:
        if at is None or _EARLIEST <= at <= _LATEST:
            return at
        self.odd(_CLOCK_NONE, place())
        return None

    def _clock(self, at: float, place: Place) -> None:
        previous, self._previous = self._previous, at
        if previous is None:
            return
        if at < previous - _BACK_S:
            self.odd(_CLOCK_BACK, place())
        elif at > previous + _AHEAD_S:
            self.odd(_CLOCK_AHEAD, place())

    def begin_source(self) -> None:
        """Compare no time of the next source with one of the source before."""
        self._previous = None


def merged(parts: Iterable[EventCounts], key_of: KeyOf) -> EventCounts:
    """Return the counts of several processes or sources as one."""
    tally = EventTally(key_of)
    for part in parts:
        tally.merge(part)
    return tally.result()


def _silent(event: Invocation) -> str:
    """Return words for an error that said nothing."""
    if event.outcome not in ("ok", "exception"):
        return f"The invocation ended with outcome {event.outcome} and logged no error"
    if event.status is not None:
        return f"HTTP {event.status} without a logged error"
    return f"An invocation failed (outcome {event.outcome}) without a logged error"


def _sample(text: str) -> str:
    if len(text) <= LONGEST_SAMPLE:
        return text
    return f"{text[: LONGEST_SAMPLE * 3 // 4]}\n{text[-LONGEST_SAMPLE // 4 + 1 :]}"


def _note(book: dict[str, Noted], what: str, place: str, number: int) -> None:
    found = book.get(what)
    book[what] = Noted(number, place) if found is None else Noted(found.count + number, found.first)


def _add(row: list[int], numbers: Iterable[int]) -> None:
    for index, number in enumerate(numbers):
        row[index] += number
