"""Port Traffic on the telemetry query of Workers Logs: invocations by version, outcome and HTTP status, a minute late.

Workers Logs keep a share of the invocations that the Worker itself sets (`head_sampling_rate`), and a query over many
of them reads a sample (ABR), so the counts are estimates, and no automatic action may rest on them (safety rule 13).

Source: cloudflare-typescript, `workers.observability.telemetry.query` (2026): parameters, `calculations` with their
`series`, `sampleInterval` and `abr_level`. Not documented, and so a guess: the keys `$workers.scriptVersion.id`,
`$workers.event.response.status` and the type "cf-worker-event" of the one event that each invocation has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from backout.decoding import Undecodable, number
from backout.errors import ProviderUnavailable
from backout.model.answers import EVERY_CLASS, class_unless_good
from backout.model.signals import SourceTraits
from backout.providers.clock import SystemClock, unix_s
from backout.providers.cloudflare.estimates import Estimates
from backout.providers.exchange import segment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.signals import CountsPage
    from backout.ports import Clock
    from backout.providers.cloudflare.client import ApiClient

PERMISSION: Final = "Workers Observability Read"
LAG_S: Final = 60.0
"""How late its events may come: a guess."""
TRAITS: Final = SourceTraits("telemetry", LAG_S, sampled=True, has_status=True, has_version=True, classes=EVERY_CLASS)
VERSION: Final = "$workers.scriptVersion.id"
OUTCOME: Final = "$workers.outcome"
STATUS: Final = "$workers.event.response.status"
_SCRIPT, _TYPE, _INVOCATION = "$workers.scriptName", "$metadata.type", "cf-worker-event"
_SERVER_ERROR, _CLIENT_GONE = 500, 499
_OK, _CANCELED = "ok", "canceled"
_MOST_BUCKETS: Final = 600
_GROUPS: Final = 2000
_NO_STATUS: Final = 1000


class _Group(msgspec.Struct):
    key: str
    value: str | float | bool | None = None


class _Data(msgspec.Struct, rename="camel"):
    value: float
    groups: tuple[_Group, ...] = ()

    def named(self) -> Mapping[str, str | float | bool | None]:
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
        self._path = f"accounts/{segment(account_id)}/workers/observability/telemetry/query"
        self._script = script
        self._clock = clock or SystemClock()

    @property
    def traits(self) -> SourceTraits:
        """What this source can see."""
        return TRAITS

    def read(self, since: int, until: int) -> CountsPage:
        """Return the estimates of the seconds in [since, until) that are old enough to be all there.

        Over more than ten minutes, a row stands for the seconds of its bucket, and bears the first of them.
        """
        settled = int(self._clock.now() - LAG_S)
        end = min(until, settled)
        found = Estimates()
        if since < end:
            result = self._client.ask(self._path, self._query(since, end), _Result, permission=PERMISSION)
            for bucket in (bucket for calculation in result.calculations for bucket in calculation.series):
                second = max(since, int(unix_s(bucket.time)))
                if second >= end:
                    continue
                for data in bucket.data:
                    _add(found, second, data)
        return found.page(settled)

    def _query(self, begin: int, end: int) -> Mapping[str, object]:
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
                "groupBys": [
                    {"type": "string", "value": VERSION},
                    {"type": "string", "value": OUTCOME},
                    {"type": "number", "value": STATUS},
                ],
                "limit": _GROUPS,
            },
        }


def _add(found: Estimates, second: int, data: _Data) -> None:
    named = data.named()
    version, outcome, status = named.get(VERSION), named.get(OUTCOME) or _OK, _status(named.get(STATUS))
    if not isinstance(version, str) or not version:
        raise ProviderUnavailable(f"the telemetry does not tell versions (no {VERSION})", where="telemetry")
    invocations = round(data.value)
    failed = outcome != _OK or status >= _SERVER_ERROR
    left = outcome == _CANCELED or status == _CLIENT_GONE
    answered = None if failed else class_unless_good(status)
    found.add(second, version, invocations, errors=invocations if failed else 0, canceled=left, answered=answered)


def _status(value: object) -> int:
    try:
        status = number(str(value))
    except Undecodable:
        return 0  # an exception has no response
    return int(status) if 0 <= status < _NO_STATUS else 0
