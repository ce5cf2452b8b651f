"""Port Traffic on the GraphQL analytics: estimates by version and outcome, minutes late, without HTTP statuses.

Good for looking back and for advice: an answer with a status of 500 and above is a success there, and the dataset's
counts are weighted samples, so no automatic action may rest on it (safety rule 13).

Source: Cloudflare documentation, "Querying Workers Metrics with GraphQL" (workersInvocationsAdaptive: one week a query,
three months back); the dimension scriptVersion comes from a published introspection (2026-09).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from backout.model.clock import to_utc
from backout.model.guard.signals import SourceTraits
from backout.providers.clock import SystemClock, parse_unix_s
from backout.providers.cloudflare.estimates import Estimates
from backout.providers.cloudflare.permissions import READ_ANALYTICS

if TYPE_CHECKING:
    from backout.model.guard.signals import CountsPage
    from backout.ports import Clock
    from backout.providers.cloudflare.client import ApiClient

LAG_S: Final = 180.0
"""How late its rows may come; Cloudflare only says minutes."""
TRAITS: Final = SourceTraits("analytics", LAG_S, sampled=True, has_status=False, has_version=True)
_ROWS: Final = 10_000
_QUERY: Final = f"""
query ($account: string, $script: string, $since: string, $until: string) {{
  viewer {{
    accounts(filter: {{accountTag: $account}}) {{
      workersInvocationsAdaptive(limit: {_ROWS}, orderBy: [datetime_ASC],
          filter: {{scriptName: $script, datetime_geq: $since, datetime_lt: $until}}) {{
        sum {{ requests errors }}
        dimensions {{ datetime scriptVersion status }}
      }}
    }}
  }}
}}
"""
_CANCELED: Final = frozenset({"clientDisconnected", "responseStreamDisconnected"})


class _Sum(msgspec.Struct):
    requests: int
    errors: int


class _Dimensions(msgspec.Struct, rename="camel"):
    datetime: str
    script_version: str
    status: str


class _Group(msgspec.Struct):
    sum: _Sum
    dimensions: _Dimensions


class _Account(msgspec.Struct):
    workersInvocationsAdaptive: tuple[_Group, ...]  # noqa: N815 - the dataset's own name


class _Viewer(msgspec.Struct):
    accounts: tuple[_Account, ...]


class _Data(msgspec.Struct):
    viewer: _Viewer


class AnalyticsTraffic:
    """Port Traffic of one Worker; without response times, which the analytics give as quantiles only."""

    def __init__(self, client: ApiClient, account_id: str, script: str, *, clock: Clock | None = None) -> None:
        self._client = client
        self._account_id = account_id
        self._script = script
        self._clock = clock or SystemClock()

    @property
    def traits(self) -> SourceTraits:
        """What this source can see."""
        return TRAITS

    def read(self, since: int, until: int) -> CountsPage:
        """Return the estimates of the seconds in [since, until) that are old enough to be all there."""
        settled = int(self._clock.now() - LAG_S)
        found = Estimates()
        begin, end = since, min(until, settled)
        while begin < end:
            groups = self._groups(begin, end)
            full = len(groups) >= _ROWS  # then the last second may lack some of its rows, and is asked for again
            last = int(parse_unix_s(groups[-1].dimensions.datetime)) if full else end
            upto = last if last > begin else end
            for group in groups:
                second = int(parse_unix_s(group.dimensions.datetime))
                if begin <= second < upto:
                    _add(found, second, group)
            begin = upto
        return found.page(settled)

    def _groups(self, begin: int, end: int) -> tuple[_Group, ...]:
        variables = {
            "account": self._account_id,
            "script": self._script,
            "since": _format_time(begin),
            "until": _format_time(end),
        }
        data = self._client.graphql(_QUERY, variables, _Data, permission=READ_ANALYTICS)
        return tuple(group for account in data.viewer.accounts for group in account.workersInvocationsAdaptive)


def _add(found: Estimates, second: int, group: _Group) -> None:
    by, of = group.dimensions, group.sum
    found.add(second, by.script_version, of.requests, errors=of.errors, canceled=by.status in _CANCELED)


def _format_time(second: int) -> str:
    return to_utc(second).strftime("%Y-%m-%dT%H:%M:%SZ")
