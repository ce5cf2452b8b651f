"""Reduces counted events to the relevant ones: the recent ones of a version, and the two versions compared; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

if TYPE_CHECKING:
    from backout.model.incident.events import EventCounts, Template


def keep_recent(version: str, events: EventCounts, recent: EventCounts) -> EventCounts:
    """Return the events with only that of one version which is recent; the other versions stay as they are."""
    by_version = {name: counts for name, counts in events.by_version.items() if name != version}
    if version in recent.by_version:
        by_version[version] = recent.by_version[version]
    others = frozenset(name for each in events.templates for name in each.by_version) - {version}
    templates = {each.key: kept for each in events.templates if (kept := _select_part(each, others)) is not None}
    for each in recent.templates:
        mine = _select_part(each, frozenset({version}))
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


def select_versions(events: EventCounts, versions: frozenset[str]) -> EventCounts:
    """Return the events with only these versions in them: what another one did says nothing about these."""
    return replace(
        events,
        by_version={name: counts for name, counts in events.by_version.items() if name in versions},
        templates=tuple(kept for each in events.templates if (kept := _select_part(each, versions)) is not None),
    )


def _select_part(template: Template, versions: frozenset[str]) -> Template | None:
    """Return the template as these versions have it; None when they do not."""
    by_version = {name: seen for name, seen in template.by_version.items() if name in versions}
    by_minute = {at: count for at, count in template.by_minute.items() if at[0] in versions}
    return replace(template, by_version=by_version, by_minute=by_minute) if by_version else None
