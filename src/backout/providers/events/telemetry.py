"""Answers of a Workers telemetry query: summaries of invocations and their log lines, joined by request.

Source: cloudflare-typescript, `workers.observability.telemetry.query` (2026): `events`, `invocations`, `$workers`,
`$metadata`, `source`. Not documented, and so a guess: that `$metadata.level` is the console's method.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.model.incident.events import Invocation, Origin, Said
from backout.model.outcomes import OK
from backout.providers.events.times import parse_seconds
from backout.providers.events.worker import (
    ERROR_LEVELS,
    MULTI_STATUS,
    WARNING_LEVELS,
    describe_failed_batch,
    format_logged,
    format_thrown,
    parse_status,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Event = Mapping[str, object]

_WORKERS, _METADATA = "$workers", "$metadata"
_MOST_OPEN: Final = 5000
"""Requests whose events are waited for at once."""


def is_telemetry(found: Event) -> bool:
    """Whether an object is one event of the telemetry."""
    return isinstance(found.get(_WORKERS), dict) or isinstance(found.get(_METADATA), dict)


def list_events(found: Event) -> list[Event] | None:
    """Return the events of a whole answer, of either view; None when the object is no answer of a query."""
    result = found.get("result", found)
    if not isinstance(result, dict):
        return None
    events, invocations = result.get("events"), result.get("invocations")
    if isinstance(events, dict) and isinstance(events.get("events"), list):
        return [one for one in events["events"] if isinstance(one, dict)]
    if isinstance(invocations, dict) and all(isinstance(group, list) for group in invocations.values()):
        return [one for group in invocations.values() for one in group if isinstance(one, dict)]
    return None


def is_sampled(found: Event) -> bool:
    """Whether an answer says that it was made of a sample."""
    result = found.get("result", found)
    statistics = result.get("statistics") if isinstance(result, dict) else None
    level = statistics.get("abr_level") if isinstance(statistics, dict) else None
    return isinstance(level, int | float) and level > 1


class Requests:
    """Joins the events of each request; the oldest is given out when too many are open, the rest in the end."""

    def __init__(self) -> None:
        self._open: dict[str, list[Event]] = {}
        self._nameless = 0

    def take(self, event: Event) -> Iterator[Invocation]:
        """Take one event and yield what is complete with it."""
        workers, metadata = _make_event(event, _WORKERS), _make_event(event, _METADATA)
        request = workers.get("requestId") or metadata.get("requestId")
        if not isinstance(request, str):
            self._nameless += 1
            request = f"\0{self._nameless}"
        self._open.setdefault(request, []).append(event)
        if len(self._open) > _MOST_OPEN:
            yield _join(self._open.pop(next(iter(self._open))))

    def rest(self) -> Iterator[Invocation]:
        """Yield what is left."""
        while self._open:
            yield _join(self._open.pop(next(iter(self._open))))


def _join(events: list[Event]) -> Invocation:
    version, outcome, source, at = "", OK, "", None
    status: int | None = None
    said: list[Said] = []
    truncated = False
    for event in events:
        workers, metadata = _make_event(event, _WORKERS), _make_event(event, _METADATA)
        version = _get_text(_make_event(workers, "scriptVersion").get("id")) or version
        source = _get_text(workers.get("scriptName")) or _get_text(metadata.get("service")) or source
        told = _get_text(workers.get("outcome"))
        outcome = told if told and outcome == OK else outcome
        inner = _make_event(workers, "event")
        status = parse_status(_make_event(inner, "response").get("status")) or status
        truncated = truncated or workers.get("truncated") is True
        when = parse_seconds(event.get("timestamp"))
        if when is not None:
            at = when if at is None else min(at, when)
        said += _read_said(event, metadata)
        if status == MULTI_STATUS:
            said += describe_failed_batch(_make_event(inner, "request").get("url"))
    return Invocation(version, at, outcome, status, tuple(dict.fromkeys(said)), truncated, source)


def _read_said(event: Event, metadata: Event) -> list[Said]:
    source = event.get("source")
    fields = source if isinstance(source, dict) else {}
    thrown = fields.get("exception")
    if isinstance(thrown, dict):
        text = format_thrown(thrown.get("name"), thrown.get("message"), thrown.get("stack"))
        return [Said(Origin.EXCEPTION, text)] if text else []
    level = (_get_text(metadata.get("level")) or _get_text(fields.get("level"))).lower()
    origin = Origin.ERROR if level in ERROR_LEVELS else Origin.WARNING if level in WARNING_LEVELS else None
    if origin is None:
        return []
    message = source if isinstance(source, str) else fields.get("message")
    text = format_logged(message) or _get_text(metadata.get("error")) or _get_text(metadata.get("message"))
    return [Said(origin, text)] if text else []


def _make_event(event: Event, name: str) -> Event:
    found = event.get(name)
    return found if isinstance(found, dict) else {}


def _get_text(value: object) -> str:
    return value if isinstance(value, str) else ""
