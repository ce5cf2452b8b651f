"""Questions to the telemetry of Workers Logs: what there was, with what no group of an answer shows.

What lacks a key that a query groups by is in none of its groups: an exception has no response and so no status. So
each question is asked twice, with the status and without it, and what has none is the difference; and the number of all
invocations is asked for ungrouped, which tells how many there are whose version is not known. What is no visitor's
request is asked for by itself and taken off: what Durable Objects do, which run the code of before for minutes, and
backout's own requests. An API that says of a key that it does not know it is asked without it from then on; whatever
else it refuses is trouble, and is asked again.

Source: cloudflare-typescript, `workers.observability.telemetry.query` (2026): parameters, `calculations` with their
`series`, `sampleInterval` and `abr_level` ("if empty the ABR level is 1"); of an event `eventType` ("fetch",
"scheduled", "cron", "queue", ...), `executionModel` ("durableObject" or "stateless"), an optional `scriptVersion`, and
the `trigger` of its `$metadata`, which people who group by it show to be "GET /path" of a request and the expression of
a schedule; that exceptions are in no group by status is reported by two who did. Not documented, and so a guess: the
keys `$workers.scriptVersion.id`, `$workers.event.response.status`, that of a request's header, the type
"cf-worker-event" of the one event that each invocation has, and that a queue's trigger is its name.
"""

from __future__ import annotations

import re
from collections import Counter
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import msgspec

from backout.decoding import Undecodable, parse_number
from backout.errors import ProviderRejected, ProviderUnavailable
from backout.model.guard.answers import classify_unless_good
from backout.model.outcomes import OK, has_failed, is_canceled
from backout.model.value import Value
from backout.providers.clock import parse_unix_s
from backout.providers.exchange import quote_segment
from backout.providers.health.probe import PROBE_HEADER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from backout.model.guard.answers import AnswerClass
    from backout.providers.cloudflare.client import ApiClient

PERMISSION: Final = "Workers Observability Read"
VERSION: Final = "$workers.scriptVersion.id"
OUTCOME: Final = "$workers.outcome"
STATUS: Final = "$workers.event.response.status"
EVENT: Final = "$workers.eventType"
TRIGGER: Final = "$metadata.trigger"
MODEL: Final = "$workers.executionModel"
PROBE: Final = f"$workers.event.request.headers.{PROBE_HEADER}"
_LEFT_OUT: Final = ((MODEL, "durableObject"), (PROBE, "1"))
"""What is no visitor's request, by a key and its value."""
_SCRIPT, _TYPE, _INVOCATION = "$workers.scriptName", "$metadata.type", "cf-worker-event"
_BY_PLACE: Final = re.compile(r"groupBys?\W{0,3}(\d+)")
"""How a validator names one of the keys: "parameters.groupBys[3]"."""
_OPTIONAL: Final = frozenset({EVENT, TRIGGER, MODEL, PROBE})
"""Keys that are done without where the API does not know them."""
_TYPES: Final = {STATUS: "number"}
_MOST_BUCKETS: Final = 600
_GROUPS: Final = 2000
_NO_STATUS: Final = 1000


class _Group(msgspec.Struct):
    key: str
    value: str | float | bool | None = None


class Data(msgspec.Struct, rename="camel"):
    """The invocations of one group in one bucket of time."""

    value: float
    groups: tuple[_Group, ...] = ()

    def read_group_values(self) -> Mapping[str, str | float | bool | None]:
        """Return the value of each key that it was grouped by."""
        return {group.key: group.value for group in self.groups}


class _Bucket(msgspec.Struct):
    time: str
    data: tuple[Data, ...] = ()


class _Calculation(msgspec.Struct):
    series: tuple[_Bucket, ...] = ()


class _Result(msgspec.Struct):
    calculations: tuple[_Calculation, ...] = ()


class TelemetryQueries:
    """Queries about one Worker; of keys that the API does not know, none is asked for twice.

    Attributes:
        known: the keys that may be unknown and are not, so far.
    """

    def __init__(self, client: ApiClient, account_id: str, script: str) -> None:
        self._client = client
        self._path = f"accounts/{quote_segment(account_id)}/workers/observability/telemetry/query"
        self._script = script
        self.known = set(_OPTIONAL)

    def ask(
        self, span: tuple[int, int], keys: Sequence[str], filters: Sequence[tuple[str, str]] = ()
    ) -> Iterator[tuple[int, Data]]:
        """Yield the groups of the seconds in [since, end), each with the first second of its bucket.

        Args:
            span: (since, end).
            keys: to group by; those that the API does not know are left away.
            filters: keys, and the only value of each that counts; where the API does not know one, nothing is yielded.

        Raises:
            ProviderUnavailable: no usable answer.
            AuthError, ProviderRejected: the question is refused.
        """
        since, end = span
        result = _Result()
        while all(key in self.known for key, _ in filters):
            wanted = [key for key in keys if key not in _OPTIONAL or key in self.known]
            try:
                query = _make_query(self._script, span, wanted, filters)
                result = self._client.ask(self._path, query, _Result, permission=PERMISSION)
                break
            except ProviderRejected as error:
                # What a filter asks for is only taken off: however it is refused, the rest goes on without it.
                last = filters[-1][0] if filters and _is_refusal(error) else ""
                unknown = _find_unknown_key(error, wanted) or last
                if unknown not in self.known:
                    raise
                self.known.discard(unknown)
        for bucket in (bucket for calculation in result.calculations for bucket in calculation.series):
            second = max(since, int(parse_unix_s(bucket.time)))
            if second < end:
                yield from ((second, data) for data in bucket.data)


class Invocations(Value, frozen=True):
    """Invocations with the same result; `event`: their kind, "" where unknown; `status` 0: they have none."""

    second: int
    version: str
    event: str
    outcome: str
    trigger: str
    status: int
    number: int

    @property
    def canceled(self) -> bool:
        """Whether nobody waited for them."""
        return is_canceled(self.outcome, self.status)

    @property
    def errors(self) -> int:
        """How many of them failed."""
        return self.number if has_failed(self.outcome, self.status) else 0

    @property
    def answered(self) -> AnswerClass | None:
        """The class of their answers, None where they failed or that is not known."""
        return None if self.errors else classify_unless_good(self.status)


_Kind = tuple[int, str, str, str, str, int]
"""(second, version, kind of event, outcome, trigger, status or 0)."""


class Asking:
    """The questions about the seconds in [since, end).

    Attributes:
        unknown: invocations of which no version is known, once they were asked for.
    """

    def __init__(self, queries: TelemetryQueries, since: int, end: int) -> None:
        self._queries = queries
        self._span = since, end
        there = [each for each in _LEFT_OUT if self._count_all(each)]
        self._left_out: list[tuple[int, Sequence[tuple[str, str]]]] = [(-1, (each,)) for each in there]
        if len(there) > 1:  # what is both, such as a probe that an object was handed, is taken off once
            self._left_out.append((1, tuple(there)))
        self.unknown = 0

    def list_invocations(self, by: str = "") -> list[Invocations]:
        """Return what visitors, schedules and queues had done.

        Args:
            by: TRIGGER, for what is known by its trigger alone.

        Raises:
            ProviderUnavailable: no usable answer, or there is something, and nothing tells its version.
            AuthError, ProviderRejected: the question is refused.
        """
        kinds, answers = self._sum(by), self._sum(by, STATUS)
        if not by:
            whole = self._count_all()
            self.unknown = max(0, whole - kinds.total())
            if whole and not kinds:
                raise ProviderUnavailable(f"the telemetry does not tell versions (no {VERSION})", where="telemetry")
        for sign, filters in self._left_out:
            for sums, more in ((kinds, (by,)), (answers, (by, STATUS))):
                for each, number in self._sum(*more, filters=filters).items():
                    sums[each] += sign * number
        for (*kind, _), number in answers.items():
            kinds[(*kind, 0)] -= number  # type: ignore[index]
        found = [*answers.items(), *kinds.items()]
        return [Invocations(*kind, number) for kind, number in found if number > 0]

    def _sum(self, *more: str, filters: Sequence[tuple[str, str]] = ()) -> Counter[_Kind]:
        """Return how many there were of each kind, of those with a status where that is one of `more`."""
        found: Counter[_Kind] = Counter()
        for second, data in self._queries.ask(self._span, [VERSION, OUTCOME, EVENT, *filter(None, more)], filters):
            values = data.read_group_values()
            named = (VERSION, EVENT, OUTCOME, TRIGGER)
            version, event, outcome, trigger = (str(values.get(key) or "") for key in named)
            status = _parse_status(values.get(STATUS))
            if version and (status or STATUS not in more):
                found[second, version, event, outcome or OK, trigger, status] += round(data.value)
        return found

    def _count_all(self, *filters: tuple[str, str]) -> int:
        return sum(round(data.value) for _, data in self._queries.ask(self._span, [], filters))


def _make_query(
    script: str, span: tuple[int, int], keys: Sequence[str], more: Sequence[tuple[str, str]]
) -> Mapping[str, object]:
    since, end = span
    filters = [(_SCRIPT, script), (_TYPE, _INVOCATION), *more]
    return {
        "queryId": "backout",
        "view": "calculations",
        "dry": True,
        "timeframe": {"from": since * 1000, "to": end * 1000},
        "granularity": min(end - since, _MOST_BUCKETS),
        "limit": _GROUPS,
        "parameters": {
            "datasets": ["cloudflare-workers"],
            "filterCombination": "and",
            "filters": [{"key": key, "operation": "eq", "type": "string", "value": value} for key, value in filters],
            "calculations": [{"operator": "count"}],
            "groupBys": [{"type": _TYPES.get(key, "string"), "value": key} for key in keys],
            "limit": _GROUPS,
        },
    }


def _find_unknown_key(error: ProviderRejected, keys: Sequence[str]) -> str:
    """Return the key that an answer refuses, by its name or by its place; "" where it names none, or several."""
    if not _is_refusal(error):
        return ""
    every = {*keys, *_OPTIONAL}  # also one that was not asked for: then it is about more than a key
    named = [key for key in every if re.search(rf"(?<![\w.]){re.escape(key)}(?![\w.]*\w)", error.what)]
    places = {int(place) for place in _BY_PLACE.findall(error.what)}
    found = {*named, *(key for place, key in enumerate(keys) if place in places)}
    return found.pop() if len(found) == 1 else ""


def _is_refusal(error: ProviderRejected) -> bool:
    return error.status == HTTPStatus.BAD_REQUEST


def _parse_status(value: object) -> int:
    try:
        status = parse_number(str(value))
    except Undecodable:
        return 0  # an exception has no response
    return int(status) if 0 <= status < _NO_STATUS else 0
