"""Port Traffic on the telemetry query of Workers Logs: counts by version, outcome, status and route.

Two questions are asked: what there was, and the same by trigger, which names the route or the schedule.

The counts are estimates until three things were read back: the Worker's settings keep every invocation
(`head_sampling_rate`), each answer says that it read every one (`sampleInterval`, `abr_level`), and what was counted as
complete was. How late it comes is measured by backout's own requests, see `telemetry_lag`. Where it is exact and less
than half a minute late, a rollback may rest on it (safety rule 13).
"""

from __future__ import annotations

import math
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.errors import AuthError, BackoutError, ProviderRejected
from backout.model.guard.answers import EVERY_CLASS
from backout.model.guard.route_names import RouteNames
from backout.model.guard.routes import make_template
from backout.model.guard.signals import LATE_S, SourceTraits
from backout.model.triggers import name_queue, name_schedule
from backout.providers.clock import SystemClock
from backout.providers.cloudflare.estimates import Estimates
from backout.providers.cloudflare.observability import read_head_sampling
from backout.providers.cloudflare.telemetry_lag import LOOKS_BACK_S, Lag
from backout.providers.cloudflare.telemetry_query import (
    EVENT,
    MODEL,
    PROBE,
    PROBE_ID,
    TRIGGER,
    Asking,
    Filter,
    TelemetryQueries,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backout.model.guard.signals import CountsPage
    from backout.ports import Clock
    from backout.providers.cloudflare.client import ApiClient
    from backout.providers.cloudflare.telemetry_query import Invocations
    from backout.providers.health.sent import SentProbes

LAG_S: Final = 60.0
"""The latest arrival of its events while that was not measured: a guess."""
EVERY_S: Final = 20
"""The fewest seconds of one query, where probes and Durable Objects have to be taken off: twenty queries in so many are
a quarter of the API's rate limit."""
_QUICK_S: Final = (3, 7)
"""The same where a filter leaves them out, with six queries at once: the sooner the later the telemetry is, so that
what was read is never too old to act on."""
_FILTERED_CALLS, _MOST_CALLS = 6, 20
"""The queries of one reading, with filters and without."""
_MEASURE_S: Final = (2.0, 5.0)
"""How often it is measured how late it comes: until that is known, and afterwards."""
_SETTINGS_S = _LATELY_S = 300.0
TRAITS: Final = SourceTraits(
    "telemetry",
    LAG_S,
    sampled=True,
    has_status=True,
    has_version=True,
    classes=EVERY_CLASS,
    has_method=True,
    has_triggers=True,
    has_known_lag=False,
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
    """Port Traffic of one Worker; without response times, which a query gives as quantiles only.

    Args:
        sent: backout's own requests, which measure how late it comes; None: that stays unknown.
    """

    def __init__(
        self,
        client: ApiClient,
        account_id: str,
        script: str,
        *,
        clock: Clock | None = None,
        sent: SentProbes | None = None,
    ) -> None:
        self._client = client
        self._queries = TelemetryQueries(client, account_id, script)
        self._read_head_sampling = partial(read_head_sampling, client, account_id, script)
        self._clock = clock or SystemClock()
        self._sent = sent
        self._names = RouteNames()
        self._unknown = 0
        self._lag = Lag()
        self._measured_at = self._settings_at = -math.inf
        self._keeps_all, self._was_exact = False, True
        self._told_until = self._late_at = -math.inf

    @property
    def traits(self) -> SourceTraits:
        """What this source can see; no methods or no schedules once the API has refused them."""
        known = self._queries.known
        now = self._clock.now()
        lag_s = self._lag.estimate_s(now)
        return replace(
            TRAITS,
            has_method=TRIGGER in known,
            has_triggers=EVENT in known,
            sampled=not self._is_exact(now),
            lag_s=LAG_S if lag_s is None else lag_s,
            has_known_lag=lag_s is not None,
        )

    def _is_exact(self, now: float) -> bool:
        """Whether every invocation is kept and was read, and what was lately told as complete was."""
        return self._keeps_all and self._was_exact and now - self._late_at > _LATELY_S

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
        now = self._clock.now()
        self._read_settings(now)
        self._measure_lag(now)
        lag_s = self._lag.estimate_s(now)
        settled = int(now - (LAG_S if lag_s is None else lag_s))
        end = min(until, settled)
        found = Estimates()
        if end == settled < until and end - since < self._choose_interval_s(lag_s):
            return found.page(min(since, settled), sampled=False)  # later: some seconds at once
        if since < end:
            with self._client.hold(_FILTERED_CALLS if self._queries.filters_all else _MOST_CALLS):
                self._ask(found, since, end)
            if lag_s is not None:  # before that, nothing may act on it
                self._told_until = max(self._told_until, end)
            self._was_exact = self._queries.exact
        return found.page(settled, sampled=since < end and not self._is_exact(now), unreadable=self._list_unreadable())

    def _ask(self, found: Estimates, since: int, end: int) -> None:
        """Count the invocations of the seconds in [since, end)."""
        self._queries.exact = True
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

    def _choose_interval_s(self, lag_s: float | None) -> float:
        """Return the fewest seconds of one query."""
        if lag_s is None or not self._queries.may_filter:
            return EVERY_S
        least, most = _QUICK_S
        return max(least, min(most, LATE_S - 2 - lag_s))

    def _read_settings(self, now: float) -> None:
        """Read now and then whether every invocation is kept; where the API refuses to say, that is not known.

        Raises:
            ProviderUnavailable: no usable answer.
        """
        if now - self._settings_at < _SETTINGS_S:
            return
        try:
            self._keeps_all = self._read_head_sampling() == 1
        except (AuthError, ProviderRejected):
            self._keeps_all = False
        self._settings_at = now

    def _measure_lag(self, now: float) -> None:
        """Ask now and then which of backout's own requests are told; a trouble measures nothing."""
        if self._sent is None or PROBE_ID not in self._queries.known:
            return
        first_s, then_s = _MEASURE_S
        if now - self._measured_at < (first_s if self._lag.estimate_s(now) is None else then_s):
            return
        since = int(now) - LOOKS_BACK_S
        sent = self._sent.list_answered(since, now)
        if not sent:
            return
        self._measured_at = now
        seen: Counter[int] = Counter()
        try:
            with self._client.hold(1):
                for second, data in self._queries.ask((since, int(now) + 1), [], [Filter(PROBE_ID, self._sent.id)]):
                    seen[second] += round(data.value)
        except BackoutError:
            return
        self._lag.measure(now, sent, seen)
        complete = self._lag.complete_until
        if complete is not None and complete < self._told_until:  # what was told as complete was not
            self._late_at = now

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
