"""Port Logs on a Worker: events from a running tail, or from the telemetry query of the last days.

Source of the query: cloudflare-typescript, `workers.observability.telemetry.query` (2026), `view: events`; that a
filter may ask for an inequality, and the keys, are guesses as in `telemetry`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from backout.model.incident.events import LogPage
from backout.providers.cloudflare.permissions import QUERY_TELEMETRY
from backout.providers.cloudflare.telemetry_query import OUTCOME
from backout.providers.events.reader import EventReader
from backout.providers.events.tally import EventTally
from backout.providers.exchange import quote_segment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.providers.cloudflare.client import ApiClient
    from backout.providers.cloudflare.tail import TailTraffic
    from backout.providers.events.tally import KeyOf

MOST_EVENTS: Final = 2000
"""The most that one query gives."""
_SCRIPT: Final = "$workers.scriptName"
_LEVEL: Final = "$metadata.level"
_Filter = tuple[str, str, str]


class TailLogs:
    """Port Logs on the tail that counts the traffic: events that failed or logged something since it was opened."""

    def __init__(self, traffic: TailTraffic, key_of: KeyOf) -> None:
        self._traffic = traffic
        self._key_of = key_of

    def read(self, since: float, until: float) -> LogPage:
        """Return what the tail heard between these times; errors as the tail's own reading."""
        self._traffic.take_in()
        tally = EventTally(self._key_of)
        tally.sampled = self._traffic.misses  # the next page of counts says so, too
        reader = EventReader(tally, "the tail")
        kept = self._traffic.kept
        for at, event in kept:
            if since <= at <= until:
                reader.take_event(event)
        reader.finish()
        return LogPage(tally.result(), since=self._traffic.heard_since)


class TelemetryLogs:
    """Port Logs of one Worker on its telemetry: the newest two thousand events that failed or logged an error."""

    def __init__(self, client: ApiClient, account_id: str, script: str, key_of: KeyOf) -> None:
        self._client = client
        self._path = f"accounts/{quote_segment(account_id)}/workers/observability/telemetry/query"
        self._script = script
        self._key_of = key_of

    def read(self, since: float, until: float) -> LogPage:
        """Return what is kept of these times; events that both questions find count once."""
        tally = EventTally(self._key_of)
        reader = EventReader(tally, "the telemetry")
        found: dict[str, Mapping[str, object]] = {}
        is_whole = True
        for wanted in ((OUTCOME, "neq", "ok"), (_LEVEL, "eq", "error")):
            query = self._query(since, until, wanted)
            answer = self._client.ask(self._path, query, dict[str, Any], permission=QUERY_TELEMETRY)
            events = _list_events(answer)
            is_whole = is_whole and len(events) < MOST_EVENTS
            for event in events:
                found.setdefault(_make_id(event) or f"{wanted[0]} {len(found)}", event)
            reader.take_answer({**answer, "events": {"events": []}})  # says whether it is a sample
        reader.take_answer({"events": {"events": list(found.values())}})
        reader.finish()
        counts = tally.result()
        return LogPage(counts, since=None if is_whole else counts.first_at)

    def _query(self, since: float, until: float, wanted: _Filter) -> Mapping[str, object]:
        filters = [(_SCRIPT, "eq", self._script), wanted]
        return {
            "queryId": "backout",
            "view": "events",
            "dry": True,
            "timeframe": {"from": int(since * 1000), "to": int(until * 1000)},
            "limit": MOST_EVENTS,
            "parameters": {
                "datasets": ["cloudflare-workers"],
                "filterCombination": "and",
                "filters": [
                    {"key": key, "operation": operation, "type": "string", "value": value}
                    for key, operation, value in filters
                ],
                "limit": MOST_EVENTS,
            },
        }


def _list_events(answer: Mapping[str, object]) -> list[Mapping[str, object]]:
    events = answer.get("events")
    listed = events.get("events") if isinstance(events, dict) else None
    return [event for event in listed if isinstance(event, dict)] if isinstance(listed, list) else []


def _make_id(event: Mapping[str, object]) -> str:
    metadata = event.get("$metadata")
    return str(metadata.get("id") or "") if isinstance(metadata, dict) else ""
