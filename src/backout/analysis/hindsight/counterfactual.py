"""What would have changed a verdict: the same watch, the same detector, other requests; pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.analysis.detector.wording import count, format_odds, format_percent
from backout.analysis.hindsight.retrace import find_regression
from backout.model.guard.signals import BUCKET_RATIO, sum_counts
from backout.model.guard.verdict import Cause, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from backout.analysis.hindsight.retrace import Recorded, Trace
    from backout.model.guard.policy import Policy
    from backout.model.guard.signals import Counts, RouteCounts

    Change = Callable[[Counts, int, int], Counts]
    """A row, and how many requests and errors came before it."""

_HALVINGS = 7
"""A share is known to within 1/128 of where the search began."""
_MOST_BUCKETS = 32
"""The most buckets that latencies are moved by: to a quarter."""
_NO_ROUTE = ""
"""What a row has beyond its routes."""


def would_change(recorded: Recorded, trace: Trace, policy: Policy) -> tuple[str, ...]:
    """Return sentences without a final stop; () when no request was counted."""
    requests, errors = sum_counts(_list_own(recorded))
    if not requests:
        return ()
    if trace.regressed_at is None:
        return (_describe_most(trace), *_find_error_threshold(recorded, policy, requests, errors), *_list_more(trace))
    cut = replace(recorded, until=trace.regressed_at)
    requests, errors = sum_counts(row for row in _list_own(cut) if row.second < trace.regressed_at)
    return (*_list_fewer(cut, trace, policy, errors), _describe_stricter(trace))


def _list_own(recorded: Recorded) -> Iterable[Counts]:
    return (row for row in recorded.counts if row.version == recorded.version)


def _describe_most(trace: Trace) -> str:
    peak, needed = format_odds(max(0.0, trace.peak)), format_odds(trace.threshold)
    if trace.crossed_at is not None:
        return f"the evidence reached {peak}, more than the {needed} that a rollback needs, but was held back"
    return f"the evidence never exceeded {peak}; {needed} is needed"


def _list_more(trace: Trace) -> tuple[str, ...]:
    """Return what an undecided watch lacks, in the detector's own words."""
    if trace.decision is None or trace.decision.verdict is not Verdict.INCONCLUSIVE:
        return ()
    if trace.decision.cause is Cause.ANSWERS and trace.decision.shifts:
        return (trace.decision.shifts[0].sentence,)
    last = trace.decision.reason.rpartition("; ")[2]
    return (last,) if "would tell" in last else ()


def _find_error_threshold(recorded: Recorded, policy: Policy, requests: int, errors: int) -> tuple[str, ...]:
    """Return the share of errors from which this watch would have ended differently."""
    low, high = errors / requests, 1.0
    if not _regresses(recorded, policy, _make_failing(high)):
        return (f"not even with all of its {count(requests, 'request')} failing would it have been called regressed",)
    for _ in range(_HALVINGS):
        middle = math.sqrt(max(low, 1e-4) * high)
        if _regresses(recorded, policy, _make_failing(middle)):
            high = middle
        else:
            low = middle
    return (f"from about {format_percent(high)} failed requests on it would have been called regressed",)


class Evenly:
    """Distributes errors over the routes of rows, so that each route gets its part over time.

    `owed` is what each route should have had by now beyond what it got.
    """

    def __init__(self) -> None:
        self._owed: dict[str, float] = {}

    def among(self, parts: Mapping[str, int], errors: int) -> dict[str, int]:
        """Distribute errors over routes: in proportion to the parts, and no more than each part; they suffice."""
        owed, given = self._owed, dict.fromkeys(parts, 0)
        whole = sum(parts.values())
        for name, part in parts.items():
            owed[name] = owed.get(name, 0.0) + (errors * part / whole if whole else 0.0)
            given[name] = max(0, min(math.floor(owed[name]), part, errors - sum(given.values())))
        while sum(given.values()) < errors:
            open_ = (name for name, part in parts.items() if given[name] < part)
            given[max(open_, key=lambda name: owed[name] - given[name])] += 1
        for name, number in given.items():
            owed[name] -= number
        return given


def _set_errors(row: Counts, errors: int, evenly: Evenly, of: Callable[[Counts | RouteCounts], int]) -> Counts:
    """Return the row with a number of errors, distributed over its routes; `of` is the most for each."""
    parts = {name: of(route) for name, route in row.routes.items()}
    given = evenly.among({**parts, _NO_ROUTE: max(0, of(row) - sum(parts.values()))}, errors)
    routes = {name: replace(route, errors=given[name]) for name, route in row.routes.items()}
    return replace(row, errors=errors, routes=routes)


def _make_failing(share: float) -> Change:
    """Return the change after which this share of the requests fails, evenly over time and routes."""
    evenly = Evenly()

    def fail(row: Counts, requests: int, _errors: int) -> Counts:
        errors = math.floor((requests + row.requests) * share) - math.floor(requests * share)
        return _set_errors(row, errors, evenly, lambda counts: counts.requests)

    return fail


def _make_thinning(share: float) -> Change:
    """Return the change after which only this share of the errors is left, evenly over time and routes."""
    evenly = Evenly()

    def thin(row: Counts, _requests: int, errors: int) -> Counts:
        left = math.floor((errors + row.errors) * share) - math.floor(errors * share)
        return _set_errors(row, left, evenly, lambda counts: counts.errors)

    return thin


def _make_faster(buckets: int) -> Change:
    """Return the change that moves every latency down."""

    def shift_latency(latency: Mapping[int, int]) -> dict[int, int]:
        found: dict[int, int] = {}
        for bucket, number in latency.items():
            to = max(0, bucket - buckets)
            found[to] = found.get(to, 0) + number
        return found

    def move(row: Counts, _requests: int, _errors: int) -> Counts:
        routes = {name: replace(route, latency=shift_latency(route.latency)) for name, route in row.routes.items()}
        return replace(row, latency=shift_latency(row.latency), routes=routes)

    return move


def _list_fewer(recorded: Recorded, trace: Trace, policy: Policy, errors: int) -> tuple[str, ...]:
    """Return how much better it would have had to be."""
    if trace.decision is not None and trace.decision.cause is Cause.LATENCY:
        for buckets in range(1, _MOST_BUCKETS + 1):
            if not _regresses(recorded, policy, _make_faster(buckets)):
                shorter = format_percent(1 - BUCKET_RATIO**-buckets)
                return (f"with response times {shorter} shorter until then it would not have been called regressed",)
        return ()
    low, high = 0, errors
    if _regresses(recorded, policy, _make_thinning(0.0)):
        return ()
    while high - low > 1:
        middle = (low + high) // 2
        if _regresses(recorded, policy, _make_thinning(middle / errors)):
            high = middle
        else:
            low = middle
    return (f"with {low:,} failed requests instead of {errors:,} until then it would not have been called regressed",)


def _describe_stricter(trace: Trace) -> str:
    if trace.decision is not None and trace.decision.cause is Cause.ANSWERS and trace.decision.shifts:
        shift = trace.decision.shifts[0]  # it has a part of alpha of its own
        return f"the evidence of {shift.name} was {format_odds(shift.log_evidence)} (guard.alpha)"
    met = format_odds(trace.points[-1].log_evidence)
    return f"the evidence was {met} and {format_odds(trace.threshold)} was needed (guard.alpha)"


def _regresses(recorded: Recorded, policy: Policy, change: Change) -> bool:
    """Whether the watch would have been called regressed with the new version's rows changed."""
    rows, requests, errors = [], 0, 0
    for row in sorted(recorded.counts, key=lambda row: row.second):
        if row.version == recorded.version:
            rows.append(change(row, requests, errors))
            requests, errors = requests + row.requests, errors + row.errors
        else:
            rows.append(row)
    return find_regression(replace(recorded, counts=tuple(rows)), policy) is not None
