"""Port Traffic on the telemetry query of Workers Logs: counts by version, outcome, status and route.

It comes a minute late. Workers Logs keep a share of the invocations that the Worker itself sets (`head_sampling_rate`),
and a query over many of them reads a sample (ABR), so the counts are estimates, and no automatic action may rest on
them (safety rule 13).

Two questions are asked: what there was, by version, outcome, status and kind of event; and the same by trigger, which
names the route or the schedule. Of the second the API may leave out groups (there are as many as paths), so that the
first alone says how many there were. An API that says of the kind or of the trigger that it does not know that key is
asked without it from then on; whatever else it refuses is trouble, and is asked again.

Source: cloudflare-typescript, `workers.observability.telemetry.query` (2026): parameters, `calculations` with their
`series`, `sampleInterval` and `abr_level`; of an event `eventType` ("fetch", "scheduled", "cron", "queue", ...) and the
`trigger` of its `$metadata`, which people who group by it show to be "GET /path" of a request and the expression of a
schedule. Not documented, and so a guess: the keys `$workers.scriptVersion.id`, `$workers.event.response.status`, the
type "cf-worker-event" of the one event that each invocation has, and that a queue's trigger is its name.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from backout.decoding import Undecodable, parse_number
from backout.errors import ProviderRejected, ProviderUnavailable
from backout.model.guard.answers import EVERY_CLASS, classify_unless_good
from backout.model.guard.route_names import RouteNames
from backout.model.guard.routes import make_template
from backout.model.guard.signals import SourceTraits
from backout.model.triggers import name_queue, name_schedule
from backout.model.value import Value
from backout.providers.clock import SystemClock, parse_unix_s
from backout.providers.cloudflare.estimates import Estimates
from backout.providers.exchange import quote_segment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from backout.model.guard.answers import AnswerClass
    from backout.model.guard.signals import CountsPage
    from backout.ports import Clock
    from backout.providers.cloudflare.client import ApiClient

PERMISSION: Final = "Workers Observability Read"
LAG_S: Final = 60.0
"""The latest arrival of its events: a guess."""
EVERY_S: Final = 5
"""The fewest seconds of one query: two queries a second would use up half of the API's rate limit."""
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
VERSION: Final = "$workers.scriptVersion.id"
OUTCOME: Final = "$workers.outcome"
STATUS: Final = "$workers.event.response.status"
EVENT: Final = "$workers.eventType"
TRIGGER: Final = "$metadata.trigger"
_SCRIPT, _TYPE, _INVOCATION = "$workers.scriptName", "$metadata.type", "cf-worker-event"
_BAD_REQUEST, _SERVER_ERROR, _CLIENT_GONE = 400, 500, 499
_OK, _CANCELED = "ok", "canceled"
_REQUESTS: Final = frozenset({"fetch", "websocket", ""})
"""Kinds of events that are a visitor's request; "" where the API does not tell."""
_NAMED: Final = {"scheduled": name_schedule, "cron": name_schedule, "queue": name_queue}
"""Kinds that are runs of a schedule or a queue, and how the run is named. No other kind has a caller waiting."""
_KEYS: Final[tuple[tuple[str, str], ...]] = (
    (VERSION, "string"),
    (OUTCOME, "string"),
    (STATUS, "number"),
    (EVENT, "string"),
)
_BY_PLACE: Final = re.compile(r"groupBys?\W{0,3}(\d+)")
"""How a validator names one of the keys: "parameters.groupBys[3]"."""
_MOST_BUCKETS: Final = 600
_GROUPS: Final = 2000
_NO_STATUS: Final = 1000


class _Group(msgspec.Struct):
    key: str
    value: str | float | bool | None = None


class _Data(msgspec.Struct, rename="camel"):
    value: float
    groups: tuple[_Group, ...] = ()

    def read_group_values(self) -> Mapping[str, str | float | bool | None]:
        """Return the value of each key that it was grouped by."""
        return {group.key: group.value for group in self.groups}


class _Bucket(msgspec.Struct):
    time: str
    data: tuple[_Data, ...] = ()


class _Calculation(msgspec.Struct):
    series: tuple[_Bucket, ...] = ()


class _Result(msgspec.Struct):
    calculations: tuple[_Calculation, ...] = ()


class TelemetryTraffic:
    """Port Traffic of one Worker; without response times, which a query gives as quantiles only."""

    def __init__(self, client: ApiClient, account_id: str, script: str, *, clock: Clock | None = None) -> None:
        self._client = client
        self._path = f"accounts/{quote_segment(account_id)}/workers/observability/telemetry/query"
        self._script = script
        self._clock = clock or SystemClock()
        self._names = RouteNames()
        self._known = {EVENT, TRIGGER}

    @property
    def traits(self) -> SourceTraits:
        """What this source can see; no methods or no schedules once the API has refused them."""
        return replace(TRAITS, has_method=TRIGGER in self._known, has_triggers=EVENT in self._known)

    def learn(self, names: Iterable[str]) -> None:
        """Take the names of routes that are known from before."""
        self._names.learn(names)

    def read(self, since: int, until: int) -> CountsPage:
        """Return the estimates of the seconds in [since, until) that are old enough to be all there.

        Over more than ten minutes, a row stands for the seconds of its bucket, and bears the first of them.
        """
        settled = int(self._clock.now() - LAG_S)
        end = min(until, settled)
        found = Estimates()
        if end == settled < until and end - since < EVERY_S:
            return found.page(min(since, settled))  # later: some seconds at once
        if since < end:
            runs: dict[_Run, list[int]] = {}
            for second, data in self._ask_groups(since, end):
                _count(found, runs, second, data)
            if TRIGGER in self._known and (runs or not found.is_empty):
                self._name(found, runs, since, end)
            for (second, version, event), (number, failed) in runs.items():
                if number > 0:  # which schedule or queue it was is not known
                    found.add_trigger(second, version, _NAMED[event](""), number, failed=max(failed, 0))
        return found.page(settled)

    def _name(self, found: Estimates, runs: dict[_Run, list[int]], since: int, end: int) -> None:
        """Tell what was counted by its triggers."""
        told = sorted(self._ask_groups(since, end, TRIGGER), key=_is_client_error)  # last: by itself none names a route
        for second, data in told:
            seen, trigger = _Invocations.of(data), data.read_group_values().get(TRIGGER)
            if seen.canceled or not isinstance(trigger, str):
                continue
            if seen.event in _NAMED:
                left = runs.setdefault((second, seen.version, seen.event), [0, 0])
                left[0] -= seen.number
                left[1] -= seen.errors
                name = _NAMED[seen.event](trigger)
                found.add_trigger(second, seen.version, name, seen.number, failed=seen.errors)
            elif seen.event in _REQUESTS:
                method, _, target = trigger.partition(" ")
                name = self._names.choose(make_template(method, target), seen.status or None, seen.number)
                found.add_route(second, seen.version, name, seen.number, errors=seen.errors, answered=seen.answered)

    def _ask_groups(self, since: int, end: int, by: str = "") -> Iterator[tuple[int, _Data]]:
        """Yield each group with the first second of its bucket, within [since, end); none by a key that is refused."""
        result = _Result()
        while not by or by in self._known:
            keys = [key for key in (*_KEYS, (by, "string")) if key[0] and (key[0] != EVENT or EVENT in self._known)]
            try:
                result = self._client.ask(self._path, self._query(since, end, keys), _Result, permission=PERMISSION)
                break
            except ProviderRejected as error:
                unknown = _find_unknown_key(error, [key for key, _ in keys])
                if unknown not in self._known:
                    raise
                self._known.discard(unknown)
        for bucket in (bucket for calculation in result.calculations for bucket in calculation.series):
            second = max(since, int(parse_unix_s(bucket.time)))
            if second < end:
                yield from ((second, data) for data in bucket.data)

    def _query(self, begin: int, end: int, keys: Iterable[tuple[str, str]]) -> Mapping[str, object]:
        filters = [(_SCRIPT, self._script), (_TYPE, _INVOCATION)]
        return {
            "queryId": "backout",
            "view": "calculations",
            "dry": True,
            "timeframe": {"from": begin * 1000, "to": end * 1000},
            "granularity": min(end - begin, _MOST_BUCKETS),
            "limit": _GROUPS,
            "parameters": {
                "datasets": ["cloudflare-workers"],
                "filterCombination": "and",
                "filters": [
                    {"key": key, "operation": "eq", "type": "string", "value": value} for key, value in filters
                ],
                "calculations": [{"operator": "count"}],
                "groupBys": [{"type": kind, "value": key} for key, kind in keys],
                "limit": _GROUPS,
            },
        }


class _Invocations(Value, frozen=True):
    """A group of invocations with the same result; `event`: their kind, "" where unknown."""

    version: str
    event: str
    number: int
    errors: int
    status: int
    canceled: bool
    answered: AnswerClass | None

    @classmethod
    def of(cls, data: _Data) -> _Invocations:
        """Return what a group of the answer says. Raises ProviderUnavailable: it does not say the version."""
        named = data.read_group_values()
        version, outcome, status = named.get(VERSION), named.get(OUTCOME) or _OK, _parse_status(named.get(STATUS))
        if not isinstance(version, str) or not version:
            raise ProviderUnavailable(f"the telemetry does not tell versions (no {VERSION})", where="telemetry")
        number = round(data.value)
        failed = outcome not in (_OK, _CANCELED) or status >= _SERVER_ERROR
        return cls(
            version,
            str(named.get(EVENT) or ""),
            number,
            number if failed else 0,
            status,
            canceled=outcome == _CANCELED or status == _CLIENT_GONE,
            answered=None if failed else classify_unless_good(status),
        )


def _find_unknown_key(error: ProviderRejected, keys: Sequence[str]) -> str:
    """Return the key that an answer refuses, by its name or by its place; "" where it names none, or several."""
    if error.status != HTTPStatus.BAD_REQUEST:
        return ""
    every = {*keys, EVENT, TRIGGER}  # also one that was not asked for: then it is about more than a key
    named = [key for key in every if re.search(rf"(?<![\w.]){re.escape(key)}(?![\w.]*\w)", error.what)]
    places = {int(place) for place in _BY_PLACE.findall(error.what)}
    found = {*named, *(key for place, key in enumerate(keys) if place in places)}
    return found.pop() if len(found) == 1 else ""


_Run = tuple[int, str, str]
"""(second, version, kind of event) of runs that no visitor waits for."""


def _count(found: Estimates, runs: dict[_Run, list[int]], second: int, data: _Data) -> None:
    """Count a group of requests, or note a group of runs whose trigger is not known yet."""
    seen = _Invocations.of(data)
    if seen.event in _NAMED:
        noted = runs.setdefault((second, seen.version, seen.event), [0, 0])
        noted[0] += seen.number
        noted[1] += seen.errors
    elif seen.event in _REQUESTS:
        found.add(second, seen.version, seen.number, errors=seen.errors, canceled=seen.canceled, answered=seen.answered)


def _is_client_error(told: tuple[int, _Data]) -> bool:
    return _BAD_REQUEST <= _parse_status(told[1].read_group_values().get(STATUS)) < _SERVER_ERROR


def _parse_status(value: object) -> int:
    try:
        status = parse_number(str(value))
    except Undecodable:
        return 0  # an exception has no response
    return int(status) if 0 <= status < _NO_STATUS else 0
