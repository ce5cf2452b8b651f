"""How long the detector would need at today's traffic, and how to shorten that; pure and deterministic.

The answer is the detector's own: it is fed the expected counts, each event at the median of its time, until it
calls the version regressed. No separate formula can disagree with it. For errors and latency at 0.2 requests/s and
more the answer is within a factor of two of the median over simulated traffic (tests/analysis/test_forecast.py).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.analysis.detector.decision import Detector
from backout.analysis.detector.persistence import get_stretch, make_persistence
from backout.analysis.detector.wording import count
from backout.analysis.hindsight.expected import Stretch
from backout.model.guard.forecast import FIVE_PERCENT, HEALTHY, TROUBLES, Detection, Forecast, Outlook, Way
from backout.model.guard.probes import ProbesBefore, SyntheticAnswer
from backout.model.guard.signals import merge_latency
from backout.model.guard.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backout.model.guard.forecast import Today, Trouble
    from backout.model.guard.policy import Policy
    from backout.model.guard.signals import Counts

NEW, OLD, PATH = "the new version", "the version live today", "/"
MINUTE_S, HOUR_S, HORIZON_S = 60, 3600, 86_400
"""Trouble that is not found in a day is not found at this traffic."""
_STEPS = ((120, 1), (900, 5), (HORIZON_S, 60))
"""(until this second, a look every so many seconds): beyond two minutes a look is late by at most 4 %."""


def list_ways(synthetic_per_s: float, holdback: float = 0.0) -> tuple[Way, ...]:
    """Return the ways to deploy that are compared.

    Args:
        holdback: percentage that the old version keeps in the first minutes of a cut-over, 0 for none.
    """
    held = (Way(f"holdback {holdback:g} %", 1.0 - holdback / 100),) if holdback else ()
    return (
        Way("cut-over", 1.0),
        *held,
        Way("split 50/50", 0.5),
        Way("split 10/90", 0.1),
        Way("with probes", 1.0, synthetic_per_s),
    )


def make_forecast(today: Today, policy: Policy, *, synthetic_per_s: float = 1.0) -> Forecast:
    """Return when today's detector would find what, for each way to deploy, with advice."""
    outlooks = tuple(_make_outlook(today, way, policy) for way in list_ways(synthetic_per_s, policy.guard.holdback))
    watch_s = policy.criteria.watch_s
    advised, why = _choose_advice(outlooks, watch_s)
    stretch_s = get_stretch(make_persistence(watch_s, policy.guard.slow_start_s))
    return Forecast(today, watch_s, outlooks, advised, why, _count_missing(outlooks[0], watch_s), stretch_s)


def _count_missing(cut_over: Outlook, watch_s: float) -> int | None:
    """Return how many more requests than the watch brings find errors of 5 %."""
    found = cut_over.of(FIVE_PERCENT)
    if found.after_s is None:
        return None if not found.same_as_today else 0
    return 0 if found.after_s <= watch_s else found.requests - math.floor(cut_over.new_per_s * watch_s)


def _choose_advice(outlooks: Sequence[Outlook], watch_s: float) -> tuple[Way | None, tuple[str, ...]]:
    """Return the way to deploy, and why.

    A split is better where it finds as much in the watch as a cut-over does: beside the old version, trouble that both
    share is told from trouble of the new one. Of two splits, the one that serves fewer bad requests until then.
    """
    cut_over, *splits, probed = outlooks
    within = f"the watch of {_format_time(watch_s)}"
    five = cut_over.of(FIVE_PERCENT)
    if five.same_as_today:
        return cut_over.way, ("5 % of today's requests fail already: first find out why",)
    best = len(cut_over.list_found_within(watch_s))
    equal = [split for split in splits if len(split.list_found_within(watch_s)) >= best]
    if equal and _is_found(equal[0], watch_s):
        chosen = min(equal, key=lambda split: sum(found.bad_requests for found in split.list_found_within(watch_s)))
        return chosen.way, (
            f"within {within} it finds as much as a cut-over",
            "beside the old version, an outage that hits both is told from a bad version",
        )
    if _is_found(cut_over, watch_s):
        return cut_over.way, (
            f"a split would find less within {within}",
            "an outage of something that both versions need looks like a bad version in a cut-over",
        )
    brought = math.floor(cut_over.new_per_s * watch_s)
    need = "more than a day brings" if five.after_s is None else f"about {count(five.requests, 'request')}"
    more = _count_missing(cut_over, watch_s)
    lacks = f"too little traffic: errors of 5 % need {need} of the new version, and {within} brings {brought:,}"
    lacks += f": {more:,} more are needed" if more else ""
    longer = () if five.after_s is None else (f"or watch for {_format_time(five.after_s)}: criteria.watch",)
    if not _is_found(probed, watch_s):
        return None, (lacks, *longer)
    per_s = probed.way.synthetic_per_s
    sent = f"have guard send a synthetic request every {_format_time(1 / per_s)} (guard.synthetic): then they are found"
    return probed.way, (lacks, f"{sent} after {_format_time(probed.of(FIVE_PERCENT).after_s or 0.0)}", *longer)


def _is_found(outlook: Outlook, watch_s: float) -> bool:
    after_s = outlook.of(FIVE_PERCENT).after_s
    return after_s is not None and after_s <= watch_s


def _format_time(seconds: float) -> str:
    if seconds < 2 * MINUTE_S:
        return f"{seconds:g} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * HOUR_S else f"{seconds / 3600:.1f} h"


def _make_outlook(today: Today, way: Way, policy: Policy) -> Outlook:
    found = tuple(_find_detection(today, way, trouble, policy) for trouble in TROUBLES)
    return Outlook(way, today.rate * way.split, found, _find_healthy_after(today, way, policy))


def _list_looks() -> Iterator[int]:
    second = 0
    for until, step in _STEPS:
        while second < until:
            second += step
            yield second


def _simulate_watch(
    today: Today, way: Way, trouble: Trouble, policy: Policy
) -> Iterator[tuple[int, Detector, Stretch]]:
    """Yield (seconds after the deployment, detector, the new version's counts) at each look of one watch."""
    usual = merge_latency(today.baseline)
    error_rate = today.error_rate if trouble.error_rate is None else trouble.error_rate
    new = Stretch(NEW, today.rate * way.split, error_rate, usual, trouble.latency_factor)
    old = Stretch(OLD, today.rate * (1 - way.split), today.error_rate, usual)
    detector = Detector(
        version=NEW,
        old=OLD,
        deployed_at=today.until,
        split=way.split,
        baseline=[replace(row, version=OLD) for row in today.baseline],
        policy=policy,
        probed=ProbesBefore({PATH: (1, 0)}) if way.synthetic_per_s else None,
    )
    sent = Stretch(NEW, way.synthetic_per_s, error_rate, {})
    for second in _list_looks():
        rows = (stretch.until(second, today.until + second - 1) for stretch in (new, old))
        detector.add([row for row in rows if row is not None])
        detector.add_synthetic(_list_answers(sent.until(second, today.until + second - 1)))
        yield second, detector, new


def _list_answers(row: Counts | None) -> Iterator[SyntheticAnswer]:
    """Yield the synthetic requests of a row, as many of them failed as the row says."""
    if row is not None:
        for number in range(row.requests):
            yield SyntheticAnswer(float(row.second), PATH, 500 if number < row.errors else 200)


def _find_detection(today: Today, way: Way, trouble: Trouble, policy: Policy) -> Detection:
    if trouble.error_rate is not None and trouble.error_rate <= today.error_rate:
        return Detection(trouble, None, 0, 0, same_as_today=True)
    requests = 0
    for second, detector, new in _simulate_watch(today, way, trouble, policy):
        requests = new.requests
        if detector.judge(today.until + second)[0] is Verdict.REGRESSED:
            evidence = detector.decide(today.until + second).evidence
            lead = max(evidence, key=lambda stream: stream.log_evidence)
            bad = new.errors if trouble.error_rate is not None else new.requests
            return Detection(trouble, float(second), new.requests, bad, lead.stream)
    return Detection(trouble, None, requests, 0)


def _find_healthy_after(today: Today, way: Way, policy: Policy) -> float | None:
    for second, detector, _ in _simulate_watch(today, way, HEALTHY, policy):
        if detector.judge(today.until + second)[0] is Verdict.HEALTHY:
            return float(second)
    return None
