"""What a person accepted as intended (`guard accept`), for the timeline and the report, also one already written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.escaping import Markdown, brief, code, md, one_line, prose
from backout.model.guard.shift import ACCEPTED, Acceptance
from backout.model.incident.incident import TimelineEntry
from backout.report.times import clock, day

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backout.model.incident.incident import Event

HEADING: Final = "Accepted as intended:"
_ID: Final = 8


def acceptance_of(event: Event) -> Acceptance | None:
    """Return what an event accepts as intended, None for other events; what an older version left out is ""."""
    if event.kind != ACCEPTED:
        return None
    run, version, shift, why, by = (str(event.data.get(key) or "") for key in ("run", "version", "shift", "why", "by"))
    return Acceptance(event.at, run, version, shift, one_line(why), by or event.actor)


def acceptances(events: Iterable[Event]) -> tuple[Acceptance, ...]:
    """Return what was accepted, oldest first."""
    return tuple(found for event in events if (found := acceptance_of(event)) is not None)


def make_accepted_entry(found: Acceptance) -> TimelineEntry:
    """Return the line of an incident's timeline; the whole reason is in the resolution."""
    who = found.by or "someone"
    said = f"{who} accepted the shift `{found.shift}` of version {found.version[:_ID]} as intended"
    return TimelineEntry(found.at, f"{said}: {brief(found.why)}")


def entry_line(entry: TimelineEntry) -> Markdown:
    """Return an entry as a line of a report's timeline."""
    return md("- {} - {}", clock(entry.at), entry.text)


def make_accepted_lines(found: Sequence[Acceptance]) -> list[Markdown]:
    """Return the part of a report's resolution that says what was accepted, who accepted it and why."""
    return [md(""), prose(HEADING), md(""), *map(_line, found)] if found else []


def _line(found: Acceptance) -> Markdown:
    when = f"{day(found.at)} {clock(found.at)} UTC"
    version = code(found.version)
    return md("- {} of version {}, by {} at {}: {}", code(found.shift), version, found.by or "someone", when, found.why)


def with_acceptance(page: str, found: Acceptance) -> str:
    """Return a report with an acceptance added to its timeline and its resolution; all that people wrote stays.

    Once: a page that has it is returned as it is. Sections that were removed are not added again: what has no place
    there goes to the end.
    """
    entry, line = entry_line(make_accepted_entry(found)), _line(found)
    lines = page.splitlines()
    if line in lines:
        return page
    if entry not in lines:
        lines = _add_to_section(lines, "## Timeline", [entry])
    more = [line] if HEADING in lines else ["", HEADING, "", line]
    return "\n".join(_add_to_section(lines, "## Resolution", more)) + "\n"


def _add_to_section(lines: list[str], section: str, more: Sequence[str]) -> list[str]:
    """Return the lines with more added at the end of a section, or of the page if it has no such section."""
    begin = lines.index(section) + 1 if section in lines else 0
    following = (number for number in range(begin, len(lines)) if lines[number].startswith(("## ", "<!--")))
    end = next(following, len(lines)) if begin else len(lines)
    while end > begin and (not lines[end - 1].strip() or lines[end - 1].startswith("<!--")):
        end -= 1
    return [*lines[:end], *more, *lines[end:]]
