"""What a person accepted as intended (`guard accept`), for the timeline and the report, also one already written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.escaping import Markdown, code, fold_blanks, md, prose, shorten
from backout.model.guard.shift import ACCEPTED, Acceptance
from backout.model.incident.incident import TimelineEntry
from backout.report.times import format_clock, format_day

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backout.model.incident.incident import Event

HEADING: Final = "Accepted as intended:"
_ID: Final = 8


def parse_acceptance(event: Event) -> Acceptance | None:
    """Return what an event accepts as intended, None for other events; what an older version left out is ""."""
    if event.kind != ACCEPTED:
        return None
    run, version, shift, why, by = (str(event.data.get(key) or "") for key in ("run", "version", "shift", "why", "by"))
    return Acceptance(event.at, run, version, shift, fold_blanks(why), by or event.actor)


def list_acceptances(events: Iterable[Event]) -> tuple[Acceptance, ...]:
    """Return what was accepted, oldest first."""
    return tuple(found for event in events if (found := parse_acceptance(event)) is not None)


def make_accepted_entry(found: Acceptance) -> TimelineEntry:
    """Return the line of an incident's timeline; the whole reason is in the resolution."""
    who = found.by or "someone"
    said = f"{who} accepted the shift `{found.shift}` of version {found.version[:_ID]} as intended"
    return TimelineEntry(found.at, f"{said}: {shorten(found.why)}", found.by)


def format_entry(entry: TimelineEntry) -> Markdown:
    """Return an entry as a line of a report's timeline."""
    return md("- {} - {}", format_clock(entry.at), entry.text)


def make_accepted_lines(found: Sequence[Acceptance]) -> list[Markdown]:
    """Return the part of a report's resolution that says what was accepted, who accepted it and why."""
    return [md(""), prose(HEADING), md(""), *map(_format_line, found)] if found else []


def _format_line(found: Acceptance) -> Markdown:
    when = f"{format_day(found.at)} {format_clock(found.at)} UTC"
    version = code(found.version)
    return md("- {} of version {}, by {} at {}: {}", code(found.shift), version, found.by or "someone", when, found.why)
