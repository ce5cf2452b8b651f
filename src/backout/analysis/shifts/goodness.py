"""Whether people get what they got before: the part of "healthy" that the classes of answers decide.

Healthy needs evidence that the good share did not fall by more than two points overall, nor by a fifth on a route with
a twentieth of the traffic; each is excluded at 1 %. Every answer is held against the good share of its own stratum, so
that another mix of requests is no fall.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from backout.analysis.baseline import FLOOR
from backout.analysis.exclusion import BETA
from backout.analysis.rates import log_e_below, requests_to_exclude

if TYPE_CHECKING:
    from collections.abc import Iterable

FALL = 0.02
"""A fall of the good share that is too much overall."""
ROUTE_FALL, ROUTE_SHARE = 0.2, 0.05
"""And on a route with so large a part of the traffic: by that part of itself."""
_SURE = -math.log(BETA)
_BOLDEST = 0.9
_BAD_ANYWAY = 0.5
"""Where more than this is bad as a rule, a fall of the good share shows in the whole."""


class Answered(NamedTuple):
    """One stratum: what share of its answers is usually bad, and how many were, of how many."""

    usual: float
    bad: int
    total: int


def requests_missing(strata: Iterable[Answered]) -> int:
    """Return about how many more requests would show that the good share has not fallen; 0 when that is shown.

    Overall: a bet on each answer's distance from its stratum's usual share, bounded as the distance is. While the good
    share is lower by `FALL`, averaged over what is asked, its mean is at most 1, however unlike the strata are.
    Source: Waudby-Smith and Ramdas, JRSS B 86 (2024), testing the mean of bounded numbers by betting.

    >>> requests_missing([Answered(0.01, 10, 1000)]), requests_missing([Answered(0.01, 60, 1000)]) > 0
    (0, True)
    """
    known = [each for each in strata if each.total]
    total = sum(each.total for each in known)
    if not total:
        return 1
    too_bad = min(sum(each.total * each.usual for each in known) / total + FALL, _BOLDEST)
    bet = min(_BOLDEST, FALL / (too_bad * (1 - too_bad)))  # the best one where all strata are alike
    log_e = gain = 0.0
    for each in known:
        bad, good = math.log1p(bet * (FALL - 1 + each.usual)), math.log1p(bet * (FALL + each.usual))
        log_e += each.bad * bad + (each.total - each.bad) * good
        gain += each.total / total * (each.usual * bad + (1 - each.usual) * good)
    missing = 0 if log_e >= _SURE else max(1, math.ceil((_SURE - log_e) / gain)) if gain > 0 else 1
    for each in known:
        if each.total >= ROUTE_SHARE * total and each.usual < _BAD_ANYWAY:
            missing = max(missing, _missing_on_route(each) * total // each.total)
    return missing


def _missing_on_route(route: Answered) -> int:
    usual = max(route.usual, FLOOR)
    limit = usual + ROUTE_FALL * (1 - usual)
    log_e = log_e_below(route.bad, route.total, usual, limit)
    return 0 if log_e >= _SURE else requests_to_exclude(log_e, usual, limit, BETA) or 1
