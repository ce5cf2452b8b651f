"""A past watch repeated with today's detector on the stored counts: how the evidence grew; pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from backout.analysis.detector.decision import Detector
from backout.analysis.shifts import PART
from backout.model.guard.verdict import Verdict
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.model.guard.policy import Policy
    from backout.model.guard.signals import Counts
    from backout.model.guard.verdict import Decision

_MOST_POINTS = 900
"""Looks of one retrace: one a second for 15 minutes, fewer for longer ones."""


class Recorded(Value, frozen=True):
    """The input of a past watch.

    Args:
        old: the version that it was compared with, "" for none.
        split: share of the new version in (0, 1].
        since, until: Unix seconds.
        baseline, counts: rows before and after `since`.
        steps: later shares, (from, share).
        for_s: the planned length of the watch, None for the policy's.
    """

    version: str
    old: str
    split: float
    since: float
    until: float
    baseline: tuple[Counts, ...]
    counts: tuple[Counts, ...]
    steps: tuple[tuple[float, float], ...] = ()
    for_s: float | None = None


class Point(Value, frozen=True):
    """One look: the log evidence against "healthy", in total and by stream, and the verdict."""

    at: float
    log_evidence: float
    streams: dict[str, float]
    verdict: Verdict


class Trace(Value, frozen=True):
    """The growth of the evidence, up to the verdict "regressed" or the end of the watch.

    Args:
        threshold: the log evidence that a verdict needs.
        crossed_at: when it was first reached, None: never.
        regressed_at: when the verdict followed (it may wait for enough bad requests, or for `confirm`), None: never.
        decision: the last one; None of a watch that took no time.
    """

    points: tuple[Point, ...]
    threshold: float
    crossed_at: float | None
    regressed_at: float | None
    decision: Decision | None

    @property
    def peak(self) -> float:
        """The most evidence that there was at any look."""
        return max((point.log_evidence for point in self.points), default=0.0)


def retrace(recorded: Recorded, policy: Policy) -> Trace:
    """Return the trace of a past watch; health looks are not kept, so it judges the requests alone."""
    points: list[Point] = []
    crossed_at = regressed_at = None
    threshold, decision = -math.log((1 - PART) * policy.guard.alpha), None
    for now, detector in _replay_looks(recorded, policy):
        decision = detector.decide(now)
        point = _make_point(detector, decision)
        points.append(point)
        if crossed_at is None and point.log_evidence >= threshold:
            crossed_at = now
        if point.verdict is Verdict.REGRESSED:
            regressed_at = now
            break
    return Trace(tuple(points), threshold, crossed_at, regressed_at, decision)


def find_regression(recorded: Recorded, policy: Policy) -> tuple[float, str] | None:
    """Return when a past watch would have been called regressed and why, or None."""
    for now, detector in _replay_looks(recorded, policy):
        verdict, _, reason = detector.judge(now)
        if verdict is Verdict.REGRESSED:
            return now, reason
    return None


def _replay_looks(recorded: Recorded, policy: Policy) -> Iterator[tuple[float, Detector]]:
    """Yield (Unix seconds, detector) at each look, fed with what had been counted by then."""
    detector = Detector(
        version=recorded.version,
        old=recorded.old or None,
        deployed_at=recorded.since,
        split=recorded.split,
        baseline=recorded.baseline,
        policy=policy,
        watch_s=recorded.for_s,
    )
    for at, share in recorded.steps:
        detector.set_split(at, share)
    rows = sorted(recorded.counts, key=lambda row: row.second)
    step = max(1.0, (recorded.until - recorded.since) / _MOST_POINTS)
    fed, now = 0, recorded.since
    while now < recorded.until:
        now = min(now + step, recorded.until)
        upto = fed
        while upto < len(rows) and rows[upto].second + 1 <= now:
            upto += 1
        detector.add(rows[fed:upto])
        detector.note_until(now)
        fed = upto
        yield now, detector


def _make_point(detector: Detector, decision: Decision) -> Point:
    streams = {each.stream: each.log_evidence for each in decision.evidence if not each.stream.startswith("health")}
    return Point(decision.at, detector.log_evidence(), streams, decision.verdict)
