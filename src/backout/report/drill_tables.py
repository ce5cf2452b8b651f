"""Drills as tables for a person: what ended, the history, and the scorecard, for a terminal of 80 columns; pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from backout.model.drill import DrillEnd, DrillGroup
from backout.report.drills import describe_missed, format_span
from backout.report.times import format_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.analysis.drills import DrillSummary
    from backout.model.drill import DrillRecord, Loss

Mark = Callable[[DrillEnd], str]
"""The end of a drill -> its symbol."""

HEADERS: Final = ("", "DRILL", "ACTION", "DETECT", "RTO", "BAD", "VERIFY", "LOST, MISSED")
HISTORY_HEADERS: Final = ("", "AT (UTC)", "DRILL", "ACTION", "DETECT", "RTO", "BAD", "LOST, MISSED")
SCORE_HEADERS: Final = ("", "DRILL", "PASSED", "DETECT", "RTO", "NEWEST", "BAD", "VERIFY", "LAST SUCCESS, MISSED")
GROUPS: Final = {
    DrillGroup.ROLL_BACK: "a bad version, and guard has to return to the good one",
    DrillGroup.MUST_NOT: "it looks bad, and is no version's fault",
    DrillGroup.OTHER: "what else a night brings",
}


def make_row(record: DrillRecord, mark: Mark) -> tuple[str, ...]:
    """Return the cells of a drill that ended, as of `HEADERS`."""
    if record.result is None:
        return (mark(record.end), record.name, *"-----", "; ".join(explain_missed(record)))
    measured = record.result.measured
    return (
        mark(record.end),
        record.name,
        str(measured.action),
        format_span(measured.detect_s),
        format_span(measured.rto_s),
        str(measured.bad_requests),
        format_span(measured.verify_s),
        "; ".join([*_describe_lost(measured.rpo), *explain_missed(record)]),
    )


def make_history_row(record: DrillRecord, mark: Mark) -> tuple[str, ...]:
    """Return the cells of a drill of the history, as of `HISTORY_HEADERS`."""
    sign, name, action, detect, rto, bad, _, why = make_row(record, mark)
    at = format_time(record.at)[5:16].replace("T", " ")
    return sign, at, name, action, detect, rto, bad, why


def make_score_row(summary: DrillSummary, mark: Mark) -> tuple[str, ...]:
    """Return the cells of what the history says of a drill, as of `SCORE_HEADERS`."""
    last, result = summary.last, summary.last.result
    why = []
    if last.end is not DrillEnd.PASSED:
        at = summary.last_passed_at
        why = ["it never passed" if at is None else f"it passed last on {format_time(at)[:10]}", *explain_missed(last)]
    elif result is not None:
        why = list(_describe_lost(result.measured.rpo))
    return (
        mark(last.end),
        summary.name,
        f"{summary.passed}/{summary.runs}",
        format_span(summary.detect_s),
        format_span(summary.rto_s),
        "-" if result is None else format_span(result.measured.rto_s),
        "-" if summary.bad_requests is None else f"{summary.bad_requests:g}",
        format_span(summary.verify_s),
        "; ".join(why),
    )


def explain_missed(record: DrillRecord) -> tuple[str, ...]:
    """Return why a drill did not pass, and what was seen in it; nothing of one that passed."""
    missed = () if record.end is DrillEnd.PASSED else describe_missed(record)
    seen = record.result.measured.detail if record.result is not None else ""
    return (*missed, f"seen: {seen}") if missed and seen else missed


def describe_scores(summaries: Sequence[DrillSummary]) -> str:
    """Return how many drills passed, and what the columns are."""
    passing = sum(each.last.end is DrillEnd.PASSED for each in summaries)
    return (
        f"The newest run of {passing} of {len(summaries)} drills passed. Seconds are medians over those that "
        "passed; NEWEST is the RTO of the newest run, BAD are bad requests."
    )


def _describe_lost(loss: Loss) -> Sequence[str]:
    parts = [f"{number:,} {word}" for number, word in ((loss.rows, "rows"), (loss.objects, "objects")) if number]
    if not parts:
        return ()
    span = f" of {loss.seconds:.1f} s" if loss.seconds else ""
    return (f"lost: {', '.join(parts)}{span}",)
