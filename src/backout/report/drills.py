"""Drills as JSON values, as a table's rows for a person, and as a scorecard in Markdown; pure."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from backout.escaping import cell
from backout.model.drill import DrillAction, DrillEnd
from backout.report.text import wrap_text
from backout.report.times import format_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from backout.analysis.drills import DrillSummary
    from backout.model.drill import DrillDue, DrillRecord, DrillResult, Expected, Loss


def make_result_record(result: DrillResult) -> dict[str, object]:
    """Return a drill of `backout.drills/1`."""
    measured = result.measured
    return {
        "name": result.name,
        "environment": result.environment,
        "expected_scenario": result.expected.scenario,
        "actual_scenario": measured.scenario,
        "expected_action": result.expected.action,
        "actual_action": measured.action,
        "detect_s": measured.detect_s,
        "decide_s": measured.decide_s,
        "act_s": measured.act_s,
        "verify_s": measured.verify_s,
        "rto_s": measured.rto_s,
        "rpo": make_loss_record(measured.rpo),
        "bad_requests": measured.bad_requests,
        "requests": measured.requests,
        "passed": result.passed,
        "missed": list(result.missed),
        "detail": measured.detail,
        "at": format_time(result.at),
        "took_s": result.took_s,
    }


def make_failure_record(record: DrillRecord, expected: Expected | None = None) -> dict[str, object]:
    """Return the same for a drill that ended without a result: nothing was measured, and it did not pass."""
    nothing = ("detect_s", "decide_s", "act_s", "verify_s", "rto_s")
    return {
        "name": record.name,
        "environment": record.environment,
        "expected_scenario": None if expected is None else expected.scenario,
        "actual_scenario": None,
        "expected_action": None if expected is None else expected.action,
        "actual_action": None,
        **dict.fromkeys(nothing),
        "rpo": dict.fromkeys(("rows", "objects", "seconds")),
        "bad_requests": None,
        "requests": None,
        "passed": False,
        "missed": [record.why or "it was interrupted"],
        "detail": "",
        "at": format_time(record.at),
        "took_s": None,
    }


def make_record(record: DrillRecord) -> dict[str, object]:
    """Return a drill of the history."""
    known = make_failure_record(record) if record.result is None else make_result_record(record.result)
    return {**known, "run": record.run, "ended": record.end}


def make_loss_record(loss: Loss) -> dict[str, object]:
    """Return what was lost."""
    return {"rows": loss.rows, "objects": loss.objects, "seconds": loss.seconds}


def make_summary_record(summary: DrillSummary) -> dict[str, object]:
    """Return what the history says of a drill."""
    passed_at = summary.last_passed_at
    return {
        "name": summary.name,
        "runs": summary.runs,
        "passed": summary.passed,
        "last_at": format_time(summary.last.at),
        "last_ended": summary.last.end,
        "last_passed_at": None if passed_at is None else format_time(passed_at),
        "last_rto_s": None if summary.last.result is None else summary.last.result.measured.rto_s,
        "median_detect_s": summary.detect_s,
        "median_decide_s": summary.decide_s,
        "median_act_s": summary.act_s,
        "median_rto_s": summary.rto_s,
        "median_verify_s": summary.verify_s,
        "median_bad_requests": summary.bad_requests,
    }


def make_due_record(due: DrillDue) -> dict[str, object]:
    """Return a drill that should be run again."""
    at = due.last_passed_at
    return {"name": due.name, "last_passed_at": None if at is None else format_time(at), "why": due.why}


def format_due(due: Sequence[DrillDue], of: int, lacking: Mapping[str, str], width: int) -> str:
    """Return the drills that are due, and of those that cannot be run yet what they lack; each reason once.

    Args:
        of: how many drills there are.
        lacking: what each of the others lacks, by name.
    """
    by_reason: dict[str, list[str]] = {}
    for each in due:
        by_reason.setdefault(each.why, []).append(each.name)
    for name, lacks in lacking.items():
        by_reason.setdefault(f"not set up: {lacks}", []).append(name)
    lines = [f"{len(due)} of {of} drills are due" if due else "no drill is due"]
    for reason, names in by_reason.items():
        lines += ["", *wrap_text(reason, width)]
        lines += wrap_text(", ".join(names), width, indent="  ", hanging="  ")
    return "\n".join(lines)


def make_medians(results: Iterable[DrillResult]) -> dict[str, float | None]:
    """Return the median seconds from the first bad request to the last, by drill; over the runs that passed."""
    by_name: dict[str, list[float]] = {}
    for result in results:
        if result.passed and result.measured.rto_s is not None:
            by_name.setdefault(result.name, []).append(result.measured.rto_s)
    return {name: round(statistics.median(found), 3) for name, found in by_name.items()}


def count_wrong_rollbacks(results: Iterable[DrillResult]) -> int:
    """Return how many rollbacks there were where none was right."""
    return sum(
        result.measured.action is DrillAction.ROLLBACK and result.expected.action is not DrillAction.ROLLBACK
        for result in results
    )


def _format_loss(loss: Loss) -> str:
    return "-" if loss.rows is None else f"{loss.rows}/{loss.objects}/{format_span(loss.seconds)}"


def _format_trend(summary: DrillSummary) -> str:
    """Return the median RTO, and that of the newest run where there are several."""
    last = summary.last.result
    newest = None if last is None or summary.runs == 1 else last.measured.rto_s
    return format_span(summary.rto_s) + ("" if newest is None else f" ({format_span(newest)})")


_COLUMNS = (
    *("drill", "what happens", "newest", "passed", "scenario, action", "detect", "decide", "act", "RTO"),
    *("bad requests", "RPO", "verify"),
)


def format_span(seconds: float | None) -> str:
    """Return seconds with one decimal, `-` for none.

    >>> format_span(2.25), format_span(None)
    ('2.2', '-')
    """
    return "-" if seconds is None else f"{seconds:.1f}"


def format_scorecard(summaries: Sequence[DrillSummary], titles: Mapping[str, str], at: float) -> str:
    """Return the scorecard in Markdown.

    Args:
        titles: of the drills, by name.
        at: Unix seconds.
    """
    passing = sum(summary.last.end is DrillEnd.PASSED for summary in summaries)
    day, of = format_time(at)[:10], len(summaries)
    lines = [
        "# Drills",
        "",
        f"{day}: the newest run of {passing} of {of} drills passed. Seconds are medians over the runs that passed:",
        "to the verdict; from it to the beginning of the switch; the switch; from the first bad request to the last ",
        "(RTO; in brackets: the newest run); the verification. RPO is of the newest run: rows/objects/seconds.",
        "",
        f"| {' | '.join(_COLUMNS)} |",
        "|---" * len(_COLUMNS) + "|",
    ]
    for summary in summaries:
        result = summary.last.result
        bad = "-" if summary.bad_requests is None else f"{summary.bad_requests:g}"
        cells = (
            summary.name,
            titles.get(summary.name, ""),
            f"{summary.last.end} {format_time(summary.last.at)[:10]}",
            f"{summary.passed} of {summary.runs}",
            "-" if result is None else f"{result.measured.scenario or 'none'}, {result.measured.action}",
            format_span(summary.detect_s),
            format_span(summary.decide_s),
            format_span(summary.act_s),
            _format_trend(summary),
            bad,
            "-" if result is None else _format_loss(result.measured.rpo),
            format_span(summary.verify_s),
        )
        lines.append(f"| {' | '.join(cell(text) for text in cells)} |")
    missed = [
        f"- {cell(each.name)}: {cell('; '.join(describe_missed(each.last)))}"
        for each in summaries
        if each.last.end is not DrillEnd.PASSED
    ]
    if missed:
        lines += ["", "## Missed", "", *missed]
    return "\n".join([*lines, ""])


def describe_missed(record: DrillRecord) -> tuple[str, ...]:
    """Return why a drill did not pass, sentences without a final stop."""
    if record.result is None:
        return (record.why or "it was interrupted",)
    return record.result.missed
