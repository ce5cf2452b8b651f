"""Questions to the telemetry of Workers Logs: what there was, with what no group of an answer shows.

What lacks a key that a query groups by is in none of its groups: an exception has no response and so no status. So
each question is asked twice, with the status and without it, and what has none is the difference; and the number of all
invocations is asked for ungrouped, which tells how many there are whose version is not known. What is no visitor's
request, which is what Durable Objects do (they run the code of before for minutes) and backout's own requests, is left
out by a filter once it was seen that what the filter keeps and what it leaves out are all; until then it is asked for
by itself and taken off. An API that says of a key that it does not know it is asked without it from then on; whatever
else it refuses is trouble, and is asked again.

An answer is exact where each number says that every invocation was read (`sampleInterval` 1, and `abr_level` 1 or
none), and where it has fewer groups than it may have.

Source: cloudflare-typescript, `workers.observability.telemetry.query` (2026): parameters with their operations,
`calculations` with their `series`, `sampleInterval` of each number, and `abr_level` ("if empty the ABR level is 1");
that a filter by "is_null" or "neq" keeps what lacks the key is a guess, which is tried; of an event `eventType`
("fetch", "scheduled", "cron", "queue", ...), `executionModel` ("durableObject" or "stateless"), an optional
`scriptVersion`, and the `trigger` of its `$metadata`, which people who group by it show to be "GET /path" of a request
and the expression of a schedule; that exceptions are in no group by status is reported by two who did. Not documented,
and so a guess: the keys `$workers.scriptVersion.id`, `$workers.event.response.status`, those of a request's headers,
the type "cf-worker-event" of the one event that each invocation has, and that a queue's trigger is its name.
"""

from __future__ import annotations

import re
from collections import Counter
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from backout.decoding import Undecodable, parse_number
from backout.errors import ProviderRejected, ProviderUnavailable
from backout.model.guard.answers import classify_unless_good
from backout.model.outcomes import OK, has_failed, is_canceled
from backout.model.value import Value
from backout.providers.clock import parse_unix_s
from backout.providers.cloudflare.permissions import QUERY_TELEMETRY
from backout.providers.exchange import quote_segment
from backout.providers.health.probe import PROBE_HEADER
from backout.providers.health.sent import PROBE_ID_HEADER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from backout.model.guard.answers import AnswerClass
    from backout.providers.cloudflare.client import ApiClient

VERSION: Final = "$workers.scriptVersion.id"
OUTCOME: Final = "$workers.outcome"
STATUS: Final = "$workers.event.response.status"
EVENT: Final = "$workers.eventType"
TRIGGER: Final = "$metadata.trigger"
MODEL: Final = "$workers.executionModel"
PROBE: Final = f"$workers.event.request.headers.{PROBE_HEADER}"
PROBE_ID: Final = f"$workers.event.request.headers.{PROBE_ID_HEADER}"


_EQUALS: Final = "eq"


class Filter(NamedTuple):
    """A condition on one key."""

    key: str
    value: str
    operation: str = _EQUALS

    def as_json(self) -> Mapping[str, str]:
        """Return it as the query takes it; no value where none is asked for."""
        named = {"key": self.key, "operation": self.operation, "type": "string"}
        return named | {"value": self.value} if self.value else named


_LEFT_OUT: Final = {
    Filter(MODEL, "durableObject"): Filter(MODEL, "durableObject", "neq"),
    Filter(PROBE, "1"): Filter(PROBE, "", "is_null"),
}
"""What is no visitor's request, and the filter that leaves it out."""
_SCRIPT, _TYPE, _INVOCATION = "$workers.scriptName", "$metadata.type", "cf-worker-event"
_BY_PLACE: Final = re.compile(r"groupBys?\W{0,3}(\d+)")
"""How a validator names one of the keys: "parameters.groupBys[3]"."""
_OPTIONAL: Final = frozenset({EVENT, TRIGGER, MODEL, PROBE, PROBE_ID})
"""Keys that are done without where the API does not know them."""
_TYPES: Final = {STATUS: "number"}
_MOST_BUCKETS: Final = 600
_GROUPS: Final = 2000
_NO_STATUS: Final = 1000
_MOST_TRIES: Final = 3


class _Group(msgspec.Struct):
    key: str
    value: str | float | bool | None = None


class Data(msgspec.Struct, rename="camel"):
    """The invocations of one group in one bucket of time."""

    value: float
    groups: tuple[_Group, ...] = ()
    sample_interval: float | None = None

    def read_group_values(self) -> Mapping[str, str | float | bool | None]:
        """Return the value of each key that it was grouped by."""
        return {group.key: group.value for group in self.groups}


class _Bucket(msgspec.Struct):
    time: str
    data: tuple[Data, ...] = ()


class _Calculation(msgspec.Struct):
    series: tuple[_Bucket, ...] = ()


class _Statistics(msgspec.Struct, frozen=True):
    abr_level: float | None = None


class _Result(msgspec.Struct):
    calculations: tuple[_Calculation, ...] = ()
    statistics: _Statistics = _Statistics()

    @property
    def is_exact(self) -> bool:
        """Whether every invocation was read for it, as it says itself."""
        told = [data for calculation in self.calculations for bucket in calculation.series for data in bucket.data]
        whole = len(told) < _GROUPS and self.statistics.abr_level in (None, 1)
        return whole and all(data.sample_interval == 1 for data in told)


class TelemetryQueries:
    """Queries about one Worker; of keys that the API does not know, none is asked for twice.

    Attributes:
        known: the keys that may be unknown and are not, so far.
        exact: whether all answers since it was last set were.
        keeping: the filters that were seen to leave out what they should and nothing else.
    """

    def __init__(self, client: ApiClient, account_id: str, script: str) -> None:
        self._client = client
        self._path = f"accounts/{quote_segment(account_id)}/workers/observability/telemetry/query"
        self._script = script
        self.known = set(_OPTIONAL)
        self.exact = True
        self.keeping: set[Filter] = set()
        self._tries: Counter[Filter] = Counter()

    def ask(
        self, span: tuple[int, int], keys: Sequence[str], filters: Sequence[Filter] = ()
    ) -> Iterator[tuple[int, Data]]:
        """Yield the groups of the seconds in [since, end), each with the first second of its bucket.

        Args:
            span: (since, end).
            keys: to group by; those that the API does not know are left away.
            filters: what alone counts; where the API does not know a key of them, nothing is yielded.

        Raises:
            ProviderUnavailable: no usable answer.
            AuthError, ProviderRejected: the question is refused.
        """
        since, end = span
        result = _Result()
        while all(each.key in self.known for each in filters):
            wanted = [key for key in keys if key not in _OPTIONAL or key in self.known]
            try:
                query = make_query(self._script, span, wanted, filters)
                result = self._client.ask(self._path, query, _Result, permission=QUERY_TELEMETRY)
                break
            except ProviderRejected as error:
                if not self.keeping.issuperset(each for each in filters if each.operation != _EQUALS):
                    raise  # of a filter that is tried, the operation may be what is refused
                # What a filter asks for is only taken off: however it is refused, the rest goes on without it.
                last = filters[-1].key if filters and _is_refusal(error) and filters[-1].operation == _EQUALS else ""
                unknown = _find_unknown_key(error, wanted) or last
                if unknown not in self.known:
                    raise
                self.known.discard(unknown)
        self.exact = self.exact and result.is_exact
        for bucket in (bucket for calculation in result.calculations for bucket in calculation.series):
            second = max(since, int(parse_unix_s(bucket.time)))
            if second < end:
                yield from ((second, data) for data in bucket.data)

    @property
    def filters_all(self) -> bool:
        """Whether each filter was seen to work."""
        return self.keeping.issuperset(_LEFT_OUT.values())

    @property
    def may_filter(self) -> bool:
        """Whether each filter works, or can still be tried."""
        return all(each in self.keeping or self._tries[each] < _MOST_TRIES for each in _LEFT_OUT.values())

    def may_keep(self, span: tuple[int, int], left_out: Filter, rest: int) -> bool:
        """Return whether a filter leaves out what is named and nothing else; it is tried a few times.

        Args:
            rest: how many invocations of the span are none of what is left out.
        """
        keeping = _LEFT_OUT[left_out]
        if keeping in self.keeping:
            return True
        if self._tries[keeping] >= _MOST_TRIES:
            return False
        self._tries[keeping] += 1
        try:
            kept = sum(round(data.value) for _, data in self.ask(span, [], [keeping]))
        except ProviderRejected:
            return False
        if kept == rest:
            self.keeping.add(keeping)
        return kept == rest


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
        self.unknown = 0
        whole = self._count_all()
        there = [each for each in _LEFT_OUT if whole and self._is_there(each, whole)]
        self._kept = tuple(each for each in _LEFT_OUT.values() if each in queries.keeping)
        self._taken_off: list[tuple[int, tuple[Filter, ...]]] = [(-1, (each,)) for each in there]
        if len(there) > 1:  # what is both, such as a probe that an object was handed, is taken off once
            self._taken_off.append((1, tuple(there)))
        self._whole = self._count_all(*self._kept) if self._kept else whole

    def _is_there(self, left_out: Filter, whole: int) -> bool:
        """Return whether there is any of what no filter leaves out."""
        if _LEFT_OUT[left_out] in self._queries.keeping:
            return False
        number = self._count_all(left_out)
        return number > 0 and not self._queries.may_keep(self._span, left_out, whole - number)

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
            self.unknown = max(0, self._whole - kinds.total())
            if self._whole and not kinds:
                raise ProviderUnavailable(f"the telemetry does not tell versions (no {VERSION})", where="telemetry")
        for sign, filters in self._taken_off:
            for sums, more in ((kinds, (by,)), (answers, (by, STATUS))):
                for each, number in self._sum(*more, filters=filters).items():
                    sums[each] += sign * number
        for (*kind, _), number in answers.items():
            kinds[(*kind, 0)] -= number  # type: ignore[index]
        found = [*answers.items(), *kinds.items()]
        return [Invocations(*kind, number) for kind, number in found if number > 0]

    def _sum(self, *more: str, filters: Sequence[Filter] = ()) -> Counter[_Kind]:
        """Return how many there were of each kind, of those with a status where that is one of `more`."""
        found: Counter[_Kind] = Counter()
        keys = [VERSION, OUTCOME, EVENT, *filter(None, more)]
        for second, data in self._queries.ask(self._span, keys, (*self._kept, *filters)):
            values = data.read_group_values()
            named = (VERSION, EVENT, OUTCOME, TRIGGER)
            version, event, outcome, trigger = (str(values.get(key) or "") for key in named)
            status = _parse_status(values.get(STATUS))
            if version and (status or STATUS not in more):
                found[second, version, event, outcome or OK, trigger, status] += round(data.value)
        return found

    def _count_all(self, *filters: Filter) -> int:
        return sum(round(data.value) for _, data in self._queries.ask(self._span, [], filters))


def make_query(script: str, span: tuple[int, int], keys: Sequence[str], more: Sequence[Filter]) -> Mapping[str, object]:
    """Return the query that counts the invocations of the seconds in [since, end) by these keys."""
    since, end = span
    filters = (Filter(_SCRIPT, script), Filter(_TYPE, _INVOCATION), *more)
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
            "filters": [each.as_json() for each in filters],
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
