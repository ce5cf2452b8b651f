"""Settled traffic: whether errors, latency and the version left are back to normal, from counts per second.

Each claim passes as soon as the evidence excludes its limit (wrong with probability 1 %, looked at as often as one
likes) or when its time has passed with the limit kept.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

from backout.analysis.detector.wording import count, format_percent
from backout.analysis.statistics.baseline import FLOOR
from backout.analysis.statistics.limits import estimate_requests, log_e_below
from backout.analysis.statistics.quantiles import UNNOTICED_MS, find_quantile_bucket
from backout.analysis.statistics.rates import log_e_above
from backout.model.guard.signals import find_bucket, get_bucket_floor_ms, merge_latency, sum_counts
from backout.model.guard.verdict import CriterionState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backout.model.guard.policy import Criteria
    from backout.model.guard.signals import Counts

BETA = 0.01
SURE = -math.log(BETA)
REST = 0.01
"""Share of the traffic that the version left may keep without being noticed (with probability 1 %)."""
_TAIL = 0.01
_FEW = 3
"""Fewer errors than this prove no rate."""
_ENOUGH = 1000
"""From this many latencies on the measured p99 is taken at its word."""

FRESH_S = 5
"""A certain failure was seen for this many seconds, and is still there in the last ones."""

Claim = tuple[CriterionState, str]
NO_REQUEST = "no request was seen"


class Settled:
    """Counts since the switch, of the live version and of the one left.

    Args:
        baseline: the live version's counts from before; without them response times have nothing to be compared with.
    """

    def __init__(self, criteria: Criteria, live: str, left: str | None, baseline: Sequence[Counts]) -> None:
        self._criteria = criteria
        self._live, self._left = live, left
        self._window: deque[Counts] = deque()
        self._requests = self._errors = self._slow = self._timed = 0
        self._first_at: int | None = None
        self._last_at: int | None = None
        self._left_last_at: int | None = None
        self._left_requests = 0
        self._since_left = 0
        rows = [row for row in baseline if row.requests]
        normal = merge_latency(rows)
        requests, errors = sum_counts(rows)
        self._usual_errors = errors / requests if requests else 0.0
        p99 = find_quantile_bucket(normal, 1 - _TAIL)
        self._usual_p99_ms = None if p99 is None else get_bucket_floor_ms(p99 + 1)
        never_ms = criteria.latency_never_above_s * 1000
        p99_ms = self._usual_p99_ms
        usual_ms = never_ms if p99_ms is None else max(p99_ms, UNNOTICED_MS) * criteria.latency_p99_at_most
        self._limit_ms = min(usual_ms, never_ms)  # what was as slow before is not normal for that
        self._slow_bucket = find_bucket(self._limit_ms)
        self._usual_slow = self._share_slow(normal)

    def _share_slow(self, latency: dict[int, int]) -> float:
        number = sum(latency.values())
        return sum(n for b, n in latency.items() if b > self._slow_bucket) / number if number else 0.0

    def add(self, counts: Iterable[Counts]) -> None:
        """Take rows of final seconds."""
        for row in sorted(counts, key=lambda row: row.second):
            if row.requests and row.version == self._left:
                self._left_requests += row.requests
                self._left_last_at = row.second
                self._since_left = 0
            elif row.requests and row.version == self._live:
                self._add_live(row)

    def _add_live(self, row: Counts) -> None:
        self._first_at = row.second if self._first_at is None else self._first_at
        self._last_at = row.second
        self._requests += row.requests
        self._errors += row.errors
        self._since_left += row.requests
        self._timed += sum(row.latency.values())
        self._slow += sum(n for b, n in row.latency.items() if b > self._slow_bucket)
        self._window.append(row)
        while self._window[0].second <= row.second - self._criteria.error_rate_for_s:
            self._window.popleft()

    @property
    def _watched_s(self) -> int:
        """Seconds between the first and the last second with a request, both counted."""
        return 0 if self._last_at is None or self._first_at is None else self._last_at - self._first_at + 1

    def errors(self, *, final: bool) -> Claim:
        """Return whether the error rate is below its limit."""
        if not self._requests:
            return (CriterionState.UNMEASURED if final else CriterionState.WAITING), NO_REQUEST
        limit = self._criteria.error_rate_below
        requests, errors = sum_counts(self._window)
        seen = f"{self._errors:,} of {count(self._requests, 'request')} failed"
        recent = f"{errors:,} of {count(requests, 'request')} failed in the last {self._criteria.error_rate_for_s:g} s"
        kept = errors < limit * requests
        usual = max(FLOOR, min(limit / 2, self._usual_errors))
        known = log_e_below(self._errors, self._requests, usual, limit)
        if known >= SURE and log_e_above(errors, requests, limit) < SURE:
            return CriterionState.PASSED, f"{seen}; {format_percent(limit)} is excluded (99 % sure)"
        if kept and (final or self._watched_s >= self._criteria.error_rate_for_s):
            return CriterionState.PASSED, recent
        if not final:
            more = estimate_requests(known, usual, limit, BETA)
            return CriterionState.WAITING, f"{seen}; about {count(more or 1, 'more request')} would tell"
        if errors < _FEW and log_e_above(errors, requests, limit) < SURE:
            return CriterionState.UNMEASURED, f"{recent}: too few requests to tell"
        return CriterionState.FAILED, recent

    def hopeless(self, alpha: float, min_bad: int) -> str | None:
        """Return how the error rate is above its limit for sure, and still is, or None.

        Wrong with probability `alpha`, looked at as often as one likes; fewer than `min_bad` errors carry nothing.
        """
        if self._last_at is None or self._watched_s < FRESH_S or self._errors < min_bad:
            return None
        limit = self._criteria.error_rate_below
        requests, errors = sum_counts(row for row in self._window if row.second > self._last_at - FRESH_S)
        sure = log_e_above(self._errors, self._requests, limit) >= -math.log(alpha)
        if not sure or log_e_above(errors, requests, limit) <= 0.0:
            return None
        return (
            f"{self._errors:,} of {count(self._requests, 'request')} failed; {format_percent(limit)} is "
            "exceeded for sure"
        )

    def latency(self, *, final: bool) -> Claim:
        """Return whether the p99 is at most its ratio to the baseline's; without one it can only fail."""
        found = self._latency(final=final)
        if self._usual_p99_ms is not None or found[0] is CriterionState.FAILED:
            return found
        return CriterionState.NOT_SET_UP, "no response times of this version from before to compare with"

    def _latency(self, *, final: bool) -> Claim:
        if not self._timed:
            return (CriterionState.UNMEASURED if final else CriterionState.WAITING), NO_REQUEST
        seen = f"{self._slow:,} of {count(self._timed, 'request')} took longer than {self._limit_ms:.0f} ms"
        usual = max(FLOOR, self._usual_slow)
        known = log_e_below(self._slow, self._timed, usual, _TAIL) if usual < _TAIL else 0.0
        if known >= SURE:
            return CriterionState.PASSED, f"{seen}; a p99 above that is excluded (99 % sure)"
        recent = merge_latency(self._window)
        bucket = find_quantile_bucket(recent, 1 - _TAIL)
        p99_ms = get_bucket_floor_ms(bucket + 1) if bucket is not None else 0.0
        usual_ms = self._usual_p99_ms
        against = f"{self._limit_ms:.0f} ms at most" if usual_ms is None else f"{usual_ms:.0f} ms before"
        measured = f"p99 {p99_ms:.0f} ms against {against}"
        if p99_ms <= self._limit_ms and (final or self._watched_s >= self._criteria.error_rate_for_s):
            return CriterionState.PASSED, measured
        if not final:
            more = estimate_requests(known, usual, _TAIL, BETA) if usual < _TAIL else None
            return CriterionState.WAITING, f"{seen}" + (
                f"; about {count(more, 'more request')} would tell" if more else ""
            )
        timed = sum(recent.values())
        slow = round(self._share_slow(recent) * timed)
        if timed < _ENOUGH and log_e_above(slow, timed, _TAIL) < SURE:
            return CriterionState.UNMEASURED, f"{measured}: too few requests to tell"
        return CriterionState.FAILED, measured

    def left(self, *, final: bool) -> Claim:
        """Return whether no requests reach the replaced version any more."""
        if not self._requests:
            return (CriterionState.UNMEASURED if final else CriterionState.WAITING), NO_REQUEST
        seen = f"0 of the last {count(self._since_left, 'request')} went to it"
        since = self._first_at if self._left_last_at is None else self._left_last_at
        quiet_s = 0 if self._last_at is None or since is None else self._last_at - since
        enough = self._since_left * -math.log1p(-REST) >= SURE
        if self._since_left and (enough or quiet_s >= self._criteria.old_version_quiet_s):
            return CriterionState.PASSED, f"{seen}, in {max(quiet_s, 1)} s"
        if not final:
            return (
                CriterionState.WAITING,
                seen if self._since_left else f"it answered {count(self._left_requests, 'request')}",
            )
        if self._since_left and quiet_s > 0:
            return CriterionState.UNMEASURED, f"{seen}, in {quiet_s} s: too few requests to tell"
        return CriterionState.FAILED, f"it still answers: {count(self._left_requests, 'request')} since the switch"
