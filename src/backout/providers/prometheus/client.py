"""What is asked of a server that speaks Prometheus' HTTP API: raw samples, values at even steps, types of metrics.

Source: Prometheus documentation, "HTTP API" (2.53 and 3.x): a query of a range selector (`metric[60s]`) answers the
samples as they were scraped; `query_range` answers values at even steps, with neither their times nor all of them;
`/api/v1/metadata` answers the types that the scraped processes gave.
VictoriaMetrics documentation, "Prometheus querying API usage" and "Cluster version" (2026): the same calls, and
`isPartial` where a part of the storage did not answer. A range's left end belongs to it in Prometheus 2.x alone.
Source: VictoriaMetrics' code (1.112 and its master of August 2026), lib/mergeset/table.go and lib/storage/index_db.go:
which series a selector finds is kept, and thrown away when there are new ones, but every ten seconds at most.
"""

from __future__ import annotations

import math
import secrets
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from backout.errors import ProviderRejected, ProviderUnavailable
from backout.escaping import shorten
from backout.providers.prometheus.counters import Series

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backout.providers.router.client import RouterClient

    Point = tuple[float, float]

T = TypeVar("T")
_CHUNK_S: Final = 600
_SUFFIXES: Final = ("_total", "_count", "_bucket")


class _Result(msgspec.Struct):
    metric: dict[str, str]
    values: tuple[tuple[float, str | None], ...] = ()
    histograms: tuple[object, ...] = ()


class _Data(msgspec.Struct):
    result: tuple[_Result, ...]


class _Answer(msgspec.Struct):
    data: _Data
    is_partial: bool = msgspec.field(default=False, name="isPartial")


class _Type(msgspec.Struct):
    type: str = ""


class _Types(msgspec.Struct):
    data: dict[str, tuple[_Type, ...]]


class MetricsClient:
    """Asks; every method raises AuthError, ProviderRejected, or ProviderUnavailable."""

    def __init__(self, client: RouterClient) -> None:
        self._client = client

    def read_samples(self, selector: str, begin: float, end: float) -> list[Series]:
        """Return the samples from `begin` to `end` as they were scraped, asked in pieces that no answer outgrows.

        Args:
            selector: of series, with braces and without a range.
        """
        found: dict[frozenset[tuple[str, str]], list[Point]] = {}
        while begin < end:
            piece_s = min(_CHUNK_S, math.ceil(end - begin))
            begin += piece_s
            asked = {"query": f"{_ask_anew(selector)}[{piece_s}s]", "time": f"{min(begin, end):.3f}"}
            for result in self._ask("api/v1/query", asked, selector):
                labels = {name: value for name, value in result.metric.items() if name != "__name__"}
                samples = found.setdefault(frozenset(labels.items()), [])
                newest = samples[-1][0] if samples else -math.inf
                samples += [point for point in _list_points(result) if point[0] > newest]
        return [Series(dict(labels), samples) for labels, samples in found.items() if samples]

    def read_rates(self, query: str, begin: int, end: float, step_s: int) -> Sequence[Point]:
        """Return (Unix seconds, value) of the one series that a query answers, every so many seconds from `begin` on.

        Raises ProviderRejected, too, where it answers several.
        """
        asked = {"query": query, "start": str(begin), "end": f"{end:.3f}", "step": str(step_s)}
        found = self._ask("api/v1/query_range", asked, query)
        if len(found) > 1:
            what = f"the query answers {len(found)} series for one version, not one: wrap it in sum(…)"
            raise ProviderRejected(what, status=200, where=shorten(query))
        return [point for result in found for point in _list_points(result)]

    def read_types(self, metric: str) -> frozenset[str]:
        """Return the types that the scraped processes gave a metric; none where the server does not keep them."""
        base = next((metric.removesuffix(end) for end in _SUFFIXES if metric.endswith(end)), metric)
        found: set[str] = set()
        for name in dict.fromkeys((metric, base)):
            try:
                answer = self._client.get("api/v1/metadata", {"metric": name}, _Types)
            except ProviderRejected:  # a server without this call
                return frozenset()
            found.update(each.type for each in answer.data.get(name, ()))
        return frozenset(found - {"", "unknown", "untyped"})

    def _ask(self, path: str, asked: dict[str, str], query: str) -> tuple[_Result, ...]:
        answer = self._client.get(path, asked, _Answer)
        if answer.is_partial:
            raise ProviderUnavailable("answers in part only: some of its storage is not there", where="prometheus")
        if any(result.histograms for result in answer.data.result):
            what = "the metric is a native histogram: name a counter, such as its _count, or a classic histogram"
            raise ProviderRejected(what, status=200, where=shorten(query))
        return answer.data.result


def _ask_anew(selector: str) -> str:
    """Return a selector of the same series that no server has been asked before, so that none answers from memory.

    VictoriaMetrics remembers for ten seconds which series there are: the first requests of a new one would be missed.
    """
    name, _, matchers = selector.partition("{")
    return f'{name}{{backout_read!="{secrets.token_hex(6)}",{matchers}'


def _list_points(result: _Result) -> Iterator[Point]:
    """Yield what was measured; a value that is no number marks the end of a series, or says nothing."""
    for at, text in result.values:
        try:
            value = float("nan" if text is None else text)
        except ValueError as error:
            what = f"the answer cannot be read: {str(text)[:40]!r} is not a number"
            raise ProviderUnavailable(what, where="prometheus") from error
        if math.isfinite(value):
            yield at, value
