"""Whether failures go on: what failed for two seconds and is over is a blip, which no rollback would mend.

A spell of failures is over when, at the share that failed in it, so many requests without a failure would come one time
in a thousand. One spell is forgiven; what comes back is not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from backout.analysis.detector.streams import AGREES
from backout.analysis.detector.wording import count
from backout.analysis.shifts.strata import fold_by_stratum
from backout.analysis.statistics.beta import log_beta
from backout.analysis.statistics.rates import log_e_above
from backout.model.guard.signals import LATE_S

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.guard.signals import Counts

LASTS_S = 4
"""Failures that are still there in the last second are a reason to roll back when they were seen for so long.

A blip of two seconds touches three of them."""
_FULL_S = 3
_BLIP_S = 2.5
"""Or for so long, if at the worst second's share they fill more time than a blip of two seconds does."""
_COARSE_S = 3
"""A source whose rows are never closer than this counts several seconds in one."""
_KEPT = 16
_FEWEST_GAPS = 2
_OVER = -6.9
"""Log probability of the requests since the last failure, at the share that failed before."""
_SURE = math.log(1000)
"""Log evidence of a spell that is the forgiven one, and of a route's failures that are a reason after it.

A lone failure among few requests speaks 20:1 now and then by chance."""


@dataclass(slots=True)
class Spell:
    """Failures that hang together.

    Args:
        first, last: the Unix seconds in which a request failed first and last.
        failed, total: of the requests from `first` to `last`.
        until: how many requests there were in the whole watch up to `last`.
    """

    first: int
    last: int
    failed: int
    total: int
    until: int

    def extend(self, later: Spell) -> None:
        """Take failures of a later second into it, and all requests until then."""
        self.last = max(self.last, later.last)
        self.failed += later.failed
        self.total += later.until - self.until
        self.until = later.until

    def is_over(self, requests: int) -> bool:
        """Return whether it is, after so many requests in the whole watch."""
        a, b = float(self.failed), float(self.total - self.failed + 1)
        return log_beta(a, b + requests - self.until) - log_beta(a, b) < _OVER


class FailingSpells:
    """The spells of failures of one version, or of one of its routes, from its counts of each second.

    Args:
        usual: the share of requests that fails as a rule, in (0, 1).
    """

    def __init__(self, usual: float) -> None:
        self._usual = usual
        self._requests = 0
        self._until = -math.inf
        self._recent: dict[int, tuple[int, int]] = {}
        """{second: (requests, failed)} of the last seconds that had requests."""
        self._open: Spell | None = None
        self._newest: Spell | None = None
        """The failures of the open spell since the last pause before it was beyond doubt."""
        self._grave_before = 0
        self._asked_at: float | None = None

    def add(self, second: int, requests: int, failed: int) -> None:
        """Count a second (Unix), or a part of one."""
        known = self._recent.get(second, (0, 0))
        self._recent[second] = known[0] + requests, known[1] + failed
        if len(self._recent) > _KEPT:
            del self._recent[min(self._recent)]
        if failed:
            self._add_failures(second, requests, failed)
        self._requests += requests
        self.note_until(second + 1)

    def note_until(self, until: float) -> None:
        """Take note that all that was answered before that time (Unix seconds) has been added."""
        self._until = max(self._until, until)

    def _add_failures(self, second: int, requests: int, failed: int) -> None:
        alone = Spell(second, second, failed, requests, self._requests + requests)
        spell = self._open
        if spell is None or self._newest is None or spell.is_over(self._requests):
            self._grave_before += self._is_grave(spell, _SURE)
            self._open = self._newest = alone
            return
        if second - spell.last > 1 and not self._is_grave(spell):
            self._newest = alone
        elif self._newest is not spell:
            self._newest.extend(alone)
        spell.extend(alone)
        if self._newest is not spell and self._is_grave(self._newest):
            self._open = self._newest  # what failed now and then before does not make it older

    def _is_grave(self, spell: Spell | None, evidence: float = AGREES) -> bool:
        return spell is not None and log_e_above(spell.failed, spell.total, self._usual) >= evidence

    @property
    def goes_on(self) -> bool:
        """Whether failures are there beyond doubt, and are neither over nor may be a blip."""
        spell = self._open
        if spell is None or not self._is_grave(spell, _SURE) or spell.is_over(self._requests):
            return False
        return self._measure_newest_s() >= LASTS_S and self._find_left_s(spell) <= 0

    def _measure_newest_s(self) -> int:
        """Return how many seconds the newest failures touch, from the last pause in which requests went well."""
        recent = sorted(self._recent.items(), reverse=True)
        last = first = next((second for second, (_, failed) in recent if failed), 0)
        went_well = False
        for second, (_, failed) in recent:
            if second >= first:
                continue
            if not failed:
                went_well = True
            elif went_well and first - second >= LASTS_S:
                break
            else:
                first, went_well = second, False
        return last - first + 1

    def explain_wait(self, at: float, *, is_last: bool) -> str:
        """Return why failures are no reason to roll back yet, or any more, "" when they are.

        Args:
            at: Unix seconds; a source from which nothing comes any more is not waited for.
            is_last: nothing more will be seen.
        """
        spell = self._open
        is_grave = self._is_grave(spell)
        if spell is None or self._grave_before + is_grave != 1:  # none stands out, or it came back
            return ""
        if not is_grave or spell.is_over(self._requests):
            return f"but that is over: {count(self._requests - spell.until, 'request')} since then went well"
        self._asked_at = at if self._asked_at is None else self._asked_at
        left_s = min(self._find_left_s(spell), math.ceil(self._asked_at + LATE_S - at))
        return "" if left_s <= 0 or is_last else f"and {left_s} s more will tell whether it goes on"

    def _find_left_s(self, spell: Spell) -> int:
        """Return after how many seconds more, at least, it is known whether it is a blip."""
        newest, spacing_s = max(self._recent), self._measure_spacing()
        nobody_s = math.ceil(newest + spacing_s + LASTS_S - self._until)
        if nobody_s <= 0:
            return 0  # nobody asks any more
        shares = [(failed, total) for at, (total, failed) in self._recent.items() if at >= spell.first]
        worst = 1.0 if spacing_s > 1 else max((failed + 1) / (total + 1) for failed, total in shares)
        filled_s = spacing_s * sum(failed / total for failed, total in shares if total) / worst
        span_s = newest - spell.first + spacing_s
        if span_s >= _FULL_S and filled_s >= _BLIP_S:
            return 0
        if spell.last < newest:  # it may be over
            return max(1, LASTS_S - span_s)
        return spacing_s if spacing_s > 1 and spell.first == newest else LASTS_S - span_s

    def _measure_spacing(self) -> int:
        """Return how many seconds a row covers: 1, or the least distance of rows that are far apart."""
        gaps = [later - sooner for sooner, later in pairwise(sorted(self._recent))]
        least = min(gaps) if len(gaps) >= _FEWEST_GAPS else 1
        return least if least >= _COARSE_S else 1


class Failures:
    """Whether the failures of one version go on, from its counts.

    Args:
        usual: the share of requests that fails as a rule, in (0, 1).
        routes: {route: the same of its requests} of the routes that are compared with themselves.
    """

    def __init__(self, usual: float, routes: Mapping[str, float]) -> None:
        self._all = FailingSpells(usual)
        self._routes = {name: FailingSpells(share) for name, share in routes.items()}

    def add(self, row: Counts) -> None:
        """Count a second, or a part of one."""
        self._all.add(row.second, row.requests, row.errors)
        for name, route in fold_by_stratum(row.routes).items() if self._routes else ():
            if name in self._routes:
                self._routes[name].add(row.second, route.requests, route.errors)

    def note_until(self, until: float) -> None:
        """Take note that all that was answered before that time (Unix seconds) has been added."""
        self._all.note_until(until)

    def explain_wait(self, at: float, *, is_last: bool) -> str:
        """Return why failures are no reason to roll back, "" when they are; see `FailingSpells.explain_wait`."""
        if any(route.goes_on for route in self._routes.values()):
            return ""
        return self._all.explain_wait(at, is_last=is_last)
