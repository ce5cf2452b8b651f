"""Judgements on drills: which requests were bad, whether a drill met what was expected, which one is due; pure."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from backout.model.clock import format_duration
from backout.model.drill import DrillDue, DrillEnd
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from backout.model.drill import DrillRecord, Expected, Limits, Measured, Visit

_SERVER_ERROR = 500


class BadAnswers(Value, frozen=True):
    """Which answers are bad, beside 5xx and none at all from whichever version.

    Args:
        version: that was deployed; of it `statuses` and whatever takes longer than `slower_than_ms` are bad as well.
    """

    version: str = ""
    statuses: tuple[int, ...] = ()
    slower_than_ms: float | None = None


class DrillSummary(Value, frozen=True):
    """What the history says of a drill; seconds are medians over the runs that passed, None: nothing was measured.

    Args:
        last: the newest run.
        last_passed_at: Unix seconds, None: it never passed.
    """

    name: str
    runs: int
    passed: int
    last: DrillRecord
    last_passed_at: float | None
    detect_s: float | None
    decide_s: float | None
    act_s: float | None
    rto_s: float | None
    verify_s: float | None
    bad_requests: float | None


def is_bad(visit: Visit, bad: BadAnswers) -> bool:
    """Whether a visitor was answered badly."""
    if visit.status is None or visit.status >= _SERVER_ERROR:
        return True
    if visit.version != bad.version:
        return False
    return visit.status in bad.statuses or (bad.slower_than_ms is not None and visit.latency_ms > bad.slower_than_ms)


def find_bad(visits: Iterable[Visit], bad: BadAnswers, since: float, until: float) -> tuple[float, ...]:
    """Return when the bad requests in [since, until] were sent, oldest first; Unix seconds."""
    return tuple(sorted(visit.at for visit in visits if since <= visit.at <= until and is_bad(visit, bad)))


def judge_drill(expected: Expected, limits: Limits, measured: Measured) -> tuple[str, ...]:
    """Return each expectation and limit that was not met, as a sentence without a final stop."""
    return tuple(_list_missed(expected, limits, measured))


def _list_missed(expected: Expected, limits: Limits, measured: Measured) -> Iterator[str]:
    if measured.action is not expected.action:
        yield f"the action was {measured.action}, and {expected.action} was right"
    if measured.scenario not in (expected.scenario, expected.or_scenario or expected.scenario):
        yield f"the scenario was {measured.scenario or 'none'}, and {expected.scenario or 'none'} was right"
    if limits.rto_s is not None and (measured.rto_s or 0.0) > limits.rto_s:
        yield f"the first and the last bad request were {measured.rto_s:.1f} s apart, at most {limits.rto_s:g} s"
    if limits.bad_requests is not None and measured.bad_requests > limits.bad_requests:
        yield f"{measured.bad_requests} bad requests, at most {limits.bad_requests}"
    for what in ("rows", "objects", "seconds"):
        most, lost = getattr(limits.rpo, what), getattr(measured.rpo, what)
        if most is not None and lost is None:
            yield f"the loss in {what} was not measured"
        elif most is not None and lost > most:
            yield f"{lost:g} {what} lost, at most {most:g}"


def summarize_drills(records: Iterable[DrillRecord]) -> tuple[DrillSummary, ...]:
    """Return what a history says of each drill, by name."""
    by_name: dict[str, list[DrillRecord]] = {}
    for record in sorted(records, key=lambda each: each.at):
        by_name.setdefault(record.name, []).append(record)
    return tuple(_summarize(name, by_name[name]) for name in sorted(by_name))


def _summarize(name: str, records: Sequence[DrillRecord]) -> DrillSummary:
    passed = [each for each in records if each.end is DrillEnd.PASSED]
    measured = [each.result.measured for each in passed if each.result is not None]
    return DrillSummary(
        name=name,
        runs=len(records),
        passed=len(passed),
        last=records[-1],
        last_passed_at=passed[-1].at if passed else None,
        detect_s=_find_median(each.detect_s for each in measured),
        decide_s=_find_median(each.decide_s for each in measured),
        act_s=_find_median(each.act_s for each in measured),
        rto_s=_find_median(each.rto_s for each in measured),
        verify_s=_find_median(each.verify_s for each in measured),
        bad_requests=_find_median(each.bad_requests for each in measured),
    )


def _find_median(values: Iterable[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return statistics.median(found) if found else None


def list_due(wanted: Mapping[str, float], records: Collection[DrillRecord], now: float) -> tuple[DrillDue, ...]:
    """Return the drills that should be run again, the one that waits longest first.

    Args:
        wanted: for each drill, how many seconds a success counts.
        now: Unix seconds.
    """
    known = {summary.name: summary for summary in summarize_drills(records)}
    due = []
    for name, counts_s in wanted.items():
        summary = known.get(name)
        if summary is None:
            due.append(DrillDue(name, None, "it was never run"))
        elif summary.last.end is not DrillEnd.PASSED:
            ended = "was interrupted" if summary.last.end is DrillEnd.INTERRUPTED else "missed"
            age = format_duration(max(now - summary.last.at, 0.0))
            due.append(DrillDue(name, summary.last_passed_at, f"its newest run, {age} ago, {ended}"))
        elif now - summary.last.at > counts_s:
            age = format_duration(now - summary.last.at)
            due.append(
                DrillDue(name, summary.last_passed_at, f"it passed {age} ago; that counts {format_duration(counts_s)}")
            )
    return tuple(sorted(due, key=lambda each: (each.last_passed_at or 0.0, each.name)))
