"""Whether users get what they got before: the part of "healthy" that the classes of answers decide.

Healthy needs evidence that the good share did not fall by more than two points overall, nor by a fifth on a route with
a twentieth of the traffic; each is excluded at 1 %. Every answer is held against the good share of its own stratum, so
that another mix of requests is no fall. One fall that is over is forgiven, which took half of the time at most: an
identity provider that was down, a wave of logouts. A part of the bet is a mixture over when such a fall began and
ended, with no stake on what came in between; and what was seen since must be enough by itself.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from backout.analysis.statistics.baseline import FLOOR
from backout.analysis.statistics.beta import log_add
from backout.analysis.statistics.noninferiority import BETA

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

FALL = 0.02
"""A fall of the good share that is too much overall."""
ROUTE_FALL, ROUTE_SHARE = 0.2, 0.05
"""And on a route with so large a part of the traffic: by that part of itself."""
_SURE = -math.log(BETA)
_BOLDEST = 0.9
_BEGINS, _ENDS = 0.125, 0.25
"""Prior of a stretch in which the one fall that is forgiven begins, and of one in which it ends."""
_FORGIVING = 0.2
"""The part of the bet that forgives one fall."""
_FELL = -math.log(20)
"""A stretch with less evidence than this fell by itself."""
_BAD_ANYWAY = 0.5
"""Where more than this is bad as a rule, a fall of the good share shows in the whole."""


class Answered(NamedTuple):
    """One stratum: the usual share of bad answers, and the observed number, out of the total.

    Args:
        parts: the same by stretch of time, as (number of the stretch, bad, total); () where that is not known.
    """

    usual: float
    bad: int
    total: int
    parts: tuple[tuple[int, int, int], ...] = ()


class Goodness(NamedTuple):
    """The certainty that the good share has not fallen.

    Args:
        missing: about how many more requests would show it; 0 when it is shown.
        fell: the number of stretches of a fall that is over; 0 where nothing was forgiven.
    """

    missing: int
    fell: int = 0


def weigh(strata: Iterable[Answered]) -> Goodness:
    """Return how sure it is that the good share has not fallen, or not to stay.

    Overall: a bet on each answer's distance from its stratum's usual share, bounded as the distance is. While the good
    share is lower by `FALL`, averaged over what is asked, its mean is at most 1, however unlike the strata are.
    Source: Waudby-Smith and Ramdas, JRSS B 86 (2024), testing the mean of bounded numbers by betting.

    >>> weigh([Answered(0.01, 10, 1000)]), weigh([Answered(0.01, 60, 1000)]).missing > 0
    (Goodness(missing=0, fell=0), True)
    >>> weigh([Answered(0.01, 60, 1000, ((0, 6, 600), (1, 54, 100), (2, 0, 300)))])
    Goodness(missing=0, fell=1)
    """
    known = [each for each in strata if each.total]
    total = sum(each.total for each in known)
    if not total:
        return Goodness(1)
    too_bad = min(sum(each.total * each.usual for each in known) / total + FALL, _BOLDEST)
    bet = min(_BOLDEST, FALL / (too_bad * (1 - too_bad)))  # the best one where all strata are alike
    gain = 0.0
    parts: dict[int, float] = {}
    for each in known:
        bad, good = math.log1p(bet * (FALL - 1 + each.usual)), math.log1p(bet * (FALL + each.usual))
        _add(parts, each, bad, good)
        gain += each.total / total * (each.usual * bad + (1 - each.usual) * good)
    found = [_weigh_evidence(parts, gain)]
    for each in known:
        if each.total >= ROUTE_SHARE * total and each.usual < _BAD_ANYWAY:
            missing, fell = _judge_on_route(each)
            found.append(Goodness(missing * total // each.total, fell))
    return Goodness(max(each.missing for each in found), max(each.fell for each in found))


def _judge_on_route(route: Answered) -> Goodness:
    usual = max(route.usual, FLOOR)
    limit = usual + ROUTE_FALL * (1 - usual)
    parts: dict[int, float] = {}
    bad, good = math.log(usual / limit), math.log((1 - usual) / (1 - limit))
    _add(parts, route, bad, good)
    return _weigh_evidence(parts, usual * bad + (1 - usual) * good)


def _add(parts: dict[int, float], each: Answered, bad: float, good: float) -> None:
    """Add what each stretch's answers bring."""
    for number, hits, total in each.parts or ((0, each.bad, each.total),):
        parts[number] = parts.get(number, 0.0) + hits * bad + (total - hits) * good


def _weigh_evidence(parts: Mapping[int, float], gain: float) -> Goodness:
    """Return what log evidence by stretch amounts to; `gain`: what another request would add to it."""
    by_time = [parts[number] for number in sorted(parts)]
    plain = sum(by_time) + math.log(1 - _FORGIVING)
    if plain >= _SURE:
        return Goodness(0)
    fell = [at for at, each in enumerate(by_time) if each < _FELL]
    lacking = _SURE - plain
    if fell and 2 * (length := fell[-1] + 1 - fell[0]) <= len(by_time):
        since = sum(by_time[fell[-1] + 1 :])  # what came before says nothing of whether it is over
        lacking = _SURE - min(since, log_add(plain, _forgive_one_run(by_time)))
        if lacking <= 0:
            return Goodness(0, length)
    return Goodness(max(1, math.ceil(lacking / gain)) if gain > 0 else 1)


def _forgive_one_run(parts: Sequence[float]) -> float:
    """Return the log evidence of bets that leave one run of stretches out, and are on again."""
    before, during, after = math.log(_FORGIVING), -math.inf, -math.inf
    for each in parts:
        after = log_add(after, during + math.log(_ENDS)) + each
        during = log_add(during + math.log1p(-_ENDS), before + math.log(_BEGINS))
        before += math.log1p(-_BEGINS) + each
    return log_add(before, after)
