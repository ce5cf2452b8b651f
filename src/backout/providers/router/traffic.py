"""Port Traffic on a router that counts each answer per version and second, unsampled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from backout.model.guard.answers import EVERY_CLASS, AnswerClass
from backout.model.guard.chosen import settle_keyed
from backout.model.guard.routes import rename_routes, select_most_used
from backout.model.guard.signals import (
    BUCKETS,
    Counts,
    CountsPage,
    RouteCounts,
    SourceTraits,
    TriggerCounts,
    limit_counts,
)
from backout.model.triggers import parse_trigger_name
from backout.providers.router.client import QUICK, RouterClient

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.ports import Clock
    from backout.providers.retry import Retry

TRAITS: Final = SourceTraits(
    "router",
    lag_s=1.0,
    sampled=False,
    has_status=True,
    has_version=True,
    classes=EVERY_CLASS,
    has_method=True,
    has_started=True,
    has_sizes=True,
    has_types=True,
    has_triggers=True,
    has_choice=True,
)


class _Route(msgspec.Struct):
    requests: int
    errors: int
    latency: tuple[tuple[int, int], ...] = ()
    classes: dict[AnswerClass, int] = {}
    sizes: tuple[tuple[int, int], ...] = ()
    started: int = 0

    def as_model(self) -> RouteCounts:
        """Return the noun."""
        requests = max(0, self.requests)
        errors = min(self.errors, requests)
        return RouteCounts(
            requests,
            errors,
            _make_histogram(self.latency),
            limit_counts(self.classes, requests - errors),
            limit_counts(dict(self.sizes), requests),
            self.started,
        )


class _Row(msgspec.Struct):
    version: str
    second: int
    requests: int
    errors: int
    canceled: int = 0
    latency: tuple[tuple[int, int], ...] = ()
    routes: dict[str, _Route] = {}
    classes: dict[AnswerClass, int] = {}
    started: int = 0
    triggers: dict[str, tuple[int, int]] = {}
    chosen: int = 0
    keyed: bool = False

    def as_model(self) -> Counts:
        """Return the noun; the router's requests include the canceled ones, those of its routes and ours do not."""
        requests = max(0, self.requests - self.canceled)
        errors = min(self.errors, requests)
        routes = {name: route.as_model() for name, route in self.routes.items()}
        return Counts(
            self.version,
            self.second,
            requests,
            errors,
            self.canceled,
            _make_histogram(self.latency),
            select_most_used(rename_routes(routes.items())),
            limit_counts(self.classes, requests - errors),
            self.started,
            {
                parse_trigger_name(name): TriggerCounts(runs, min(failed, runs))
                for name, (runs, failed) in self.triggers.items()
            },
            chosen=max(0, self.chosen),
        )


def _make_histogram(pairs: tuple[tuple[int, int], ...]) -> dict[int, int]:
    return {min(max(bucket, 0), BUCKETS - 1): number for bucket, number in pairs}


class _Page(msgspec.Struct):
    complete_until: int
    counts: tuple[_Row, ...] = ()
    sampled: bool = False


class RouterTraffic:
    """Port Traffic of one script behind a router.

    Args:
        url: the base of `/counts`.
        token: returns the bearer token; None sends none.
    """

    def __init__(
        self,
        url: str,
        script: str,
        token: Callable[[], str] | None = None,
        *,
        clock: Clock | None = None,
        retry: Retry = QUICK,
    ) -> None:
        self._client = RouterClient(url, token, clock=clock, retry=retry)
        self._script = script
        self._takes_keyed = True

    @property
    def traits(self) -> SourceTraits:
        """What this source can see: everything, a second later."""
        return TRAITS

    def count_keyed(self, *, wanted: bool) -> None:
        """Count requests whose version a key chose as all others, or leave them out."""
        self._takes_keyed = wanted

    def read(self, since: int, until: int) -> CountsPage:
        """Return the counts of the seconds in [since, until); a second without any request is a gap."""
        query = {"script": self._script, "since": str(since), "until": str(until)}
        page = self._client.get("counts", query, _Page)
        found = [(row.keyed, row.as_model()) for row in page.counts if since <= row.second < until]
        rows, keyed = ([row for is_keyed, row in found if is_keyed is kind] for kind in (False, True))
        counts = settle_keyed(rows, keyed, wanted=self._takes_keyed)
        return CountsPage(tuple(row for row in counts if not row.is_empty), page.complete_until, page.sampled)
