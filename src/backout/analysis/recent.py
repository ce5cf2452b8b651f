"""What a version does just now beside what another one did before: two countings as one; pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backout.model.events import EventCounts, Template


def with_only(version: str, events: EventCounts, recent: EventCounts) -> EventCounts:
    """Return the events with only that of one version which is recent; the other versions stay as they are."""
    by_version = {name: counts for name, counts in events.by_version.items() if name != version}
    if version in recent.by_version:
        by_version[version] = recent.by_version[version]
    templates = {each.key: kept for each in events.templates if (kept := _part(each, version, of=False)) is not None}
    for each in recent.templates:
        mine = _part(each, version, of=True)
        if mine is None:
            continue
        other = templates.get(each.key)
        templates[each.key] = (
            mine
            if other is None
            else replace(
                mine,
                by_version={**other.by_version, **mine.by_version},
                by_minute={**other.by_minute, **mine.by_minute},
            )
        )
    return replace(events, by_version=by_version, templates=tuple(templates.values()))


def _part(template: Template, version: str, *, of: bool) -> Template | None:
    """Return the template as one version has it (`of`), or as all others have it; None when nothing is left."""
    by_version = {name: seen for name, seen in template.by_version.items() if (name == version) is of}
    by_minute = {at: count for at, count in template.by_minute.items() if (at[0] == version) is of}
    return replace(template, by_version=by_version, by_minute=by_minute) if by_version else None
