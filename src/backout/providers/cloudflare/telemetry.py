"""Port Traffic on the telemetry query of Workers Logs: counts by version, outcome, status and route.

Two questions are asked: what there was, and the same by trigger, which names the route or the schedule.

It comes a minute late. Workers Logs keep a share of the invocations that the Worker itself sets (`head_sampling_rate`),
and a query over many of them reads a sample (ABR), so the counts are estimates, and no automatic action may rest on
them (safety rule 13).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.model.guard.answers import EVERY_CLASS
from backout.model.guard.route_names import RouteNames
from backout.model.guard.routes import make_template
from backout.model.guard.signals import SourceTraits
from backout.model.triggers import name_queue, name_schedule
from backout.providers.clock import SystemClock
from backout.providers.cloudflare.estimates import Estimates
from backout.providers.cloudflare.telemetry_query import EVENT, MODEL, PROBE, TRIGGER, Asking, TelemetryQueries

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backout.model.guard.signals import CountsPage
    from backout.ports import Clock
    from backout.providers.cloudflare.client import ApiClient
    from backout.providers.cloudflare.telemetry_query import Invocations

LAG_S: Final = 60.0
"""The latest arrival of its events: a guess."""
EVERY_S: Final = 20
"""The fewest seconds of one query: seven queries in so many are less than a tenth of the API's rate limit, and the
twenty that it takes where probes and Durable Objects have to be taken off a quarter."""
TRAITS: Final = SourceTraits(
    "telemetry",
    LAG_S,
    sampled=True,
    has_status=True,
    has_version=True,
    classes=EVERY_CLASS,
    has_method=True,
    has_triggers=True,
)
_REQUESTS: Final = frozenset({"fetch", "websocket", ""})
"""Kinds of events that are a visitor's request; "" where the API does not tell."""
_NAMED: Final = {"scheduled": name_schedule, "cron": name_schedule, "queue": name_queue}
"""Kinds that are runs of a schedule or a queue, and how the run is named. No other kind has a caller waiting."""
_UNKNOWN: Final = "an invocation of which the telemetry does not tell the version"
_APART: Final = {
    MODEL: "what Durable Objects do, apart from visitors' requests (the telemetry refuses the key)",
    PROBE: "backout's own requests, apart from visitors' (the telemetry refuses the key)",
}
_BAD_REQUEST, _SERVER_ERROR = 400, 500


class TelemetryTraffic:
    """Port Traffic of one Worker; without response times, which a query gives as quantiles only."""

    def __init__(self, client: ApiClient, account_id: str, script: str, *, clock: Clock | None = None) -> None:
        self._queries = TelemetryQueries(client, account_id, script)
        self._clock = clock or SystemClock()
        self._names = RouteNames()
        self._unknown = 0

    @property
    def traits(self) -> SourceTraits:
        """What this source can see; no methods or no schedules once the API has refused them."""
        known = self._queries.known
        return replace(TRAITS, has_method=TRIGGER in known, has_triggers=EVENT in known)

    def learn(self, names: Iterable[str]) -> None:
        """Take the names of routes that are known from before."""
        self._names.learn(names)

    def read(self, since: int, until: int) -> CountsPage:
        """Return the counts of the seconds in [since, until) that are old enough to be all there.

        Over more than ten minutes, a row stands for the seconds of its bucket, and bears the first of them.

        Raises:
            ProviderUnavailable: no usable answer, or it tells no versions.
            AuthError, ProviderRejected: the question is refused.
        """
        settled = int(self._clock.now() - LAG_S)
        end = min(until, settled)
        found = Estimates()
        if end == settled < until and end - since < EVERY_S:
            return found.page(min(since, settled))  # later: some seconds at once
        if since < end:
            asked = Asking(self._queries, since, end)
            runs: dict[_Run, list[int]] = {}
            for seen in asked.list_invocations():
                _count(found, runs, seen)
            if TRIGGER in self._queries.known and (runs or not found.is_empty):
                self._name(found, runs, asked)
            for (second, version, event), (number, failed) in runs.items():
                if number > 0:  # which schedule or queue it was is not known
                    found.add_trigger(second, version, _NAMED[event](""), number, failed=max(failed, 0))
            self._unknown += asked.unknown
        return found.page(settled, unreadable=self._list_unreadable())

    def _list_unreadable(self) -> dict[str, int]:
        """Return what could not be counted, or not apart from visitors' requests."""
        unknown = {_UNKNOWN: self._unknown} if self._unknown else {}
        return unknown | {what: 1 for key, what in _APART.items() if key not in self._queries.known}

    def _name(self, found: Estimates, runs: dict[_Run, list[int]], asked: Asking) -> None:
        """Tell what was counted by its triggers; what was a client's error last: by itself it names no route."""
        told = asked.list_invocations(TRIGGER)
        for seen in sorted(told, key=lambda each: _BAD_REQUEST <= each.status < _SERVER_ERROR):
            if seen.canceled or not seen.trigger:
                continue
            if seen.event in _NAMED:
                left = runs.setdefault((seen.second, seen.version, seen.event), [0, 0])
                left[0] -= seen.number
                left[1] -= seen.errors
                name = _NAMED[seen.event](seen.trigger)
                found.add_trigger(seen.second, seen.version, name, seen.number, failed=seen.errors)
            elif seen.event in _REQUESTS:
                method, _, target = seen.trigger.partition(" ")
                name = self._names.choose(make_template(method, target), seen.status or None, seen.number)
                found.add_route(
                    seen.second, seen.version, name, seen.number, errors=seen.errors, answered=seen.answered
                )


_Run = tuple[int, str, str]
"""(second, version, kind of event) of runs that no visitor waits for."""


def _count(found: Estimates, runs: dict[_Run, list[int]], seen: Invocations) -> None:
    """Count requests, or note runs whose trigger is not known yet."""
    if seen.event in _NAMED:
        noted = runs.setdefault((seen.second, seen.version, seen.event), [0, 0])
        noted[0] += seen.number
        noted[1] += seen.errors
    elif seen.event in _REQUESTS:
        found.add(
            seen.second,
            seen.version,
            seen.number,
            errors=seen.errors,
            canceled=seen.canceled,
            answered=seen.answered,
        )
