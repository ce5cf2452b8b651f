"""A verdict explained: for a person at 80 columns, and as JSON values with the data of its charts; pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from backout.analysis.detector.wording import format_odds, format_percent
from backout.report.text import format_fields, leave_plain, wrap_text
from backout.report.times import format_clock, format_day, format_duration, format_time

if TYPE_CHECKING:
    from backout.analysis.hindsight.explained import Explained
    from backout.analysis.hindsight.retrace import Trace
    from backout.report.text import Paint

_ID = 8
_STEP = math.log(10)
_ROLES = {"healthy": "good", "regressed": "bad"}


def make_record(found: Explained) -> dict[str, object]:
    """Return the payload of `backout.guard-explain/1`."""
    decision, recorded, trace = found.decision, found.recorded, found.trace
    return {
        "environment": found.environment,
        "run_id": found.run,
        "version": decision.version,
        "compared_with": recorded.old or None,
        "split": recorded.split,
        "since": format_time(recorded.since),
        "decided_at": format_time(decision.at),
        "watched_s": round(decision.watched_s, 3),
        "verdict": decision.verdict,
        "cause": decision.cause,
        "reason": decision.reason,
        "requests": decision.requests,
        "errors": decision.errors,
        "action": found.action or None,
        "why": found.why or None,
        "rule": found.rule or None,
        "streams": [
            {
                "stream": each.stream,
                "sentence": each.sentence,
                "bad": each.bad,
                "total": each.total,
                "expected": each.expected,
                "expected_from": each.expected_from,
                "log_evidence": each.log_evidence,
            }
            for each in decision.evidence
        ],
        "threshold": None if trace is None else {"log_evidence": trace.threshold, "odds": format_odds(trace.threshold)},
        "crossed_after_s": None if trace is None else _measure_after(recorded.since, trace.crossed_at),
        "regressed_after_s": None if trace is None else _measure_after(recorded.since, trace.regressed_at),
        "chart": None if trace is None else _make_chart(recorded.since, trace),
        "would_change": list(found.would_change),
        "notes": list(found.notes),
    }


def _measure_after(since: float, at: float | None) -> float | None:
    return None if at is None else round(at - since, 3)


def _make_chart(since: float, trace: Trace) -> dict[str, object]:
    names = dict.fromkeys(name for point in trace.points for name in point.streams)
    return {
        "after_s": [round(point.at - since, 3) for point in trace.points],
        "all": [round(point.log_evidence, 4) for point in trace.points],
        "streams": {
            name: [None if name not in p.streams else round(p.streams[name], 4) for p in trace.points] for name in names
        },
    }


def format_text(found: Explained, *, width: int = 80, paint: Paint = leave_plain) -> str:
    """Return the explanation: the verdict in a sentence, each stream, how the evidence grew, what would change it."""
    decision, recorded = found.decision, found.recorded
    word = paint(_ROLES.get(decision.verdict, "warn"), decision.verdict)
    against = f"version {recorded.old[:_ID]}" if recorded.old else "the limits of the success criteria"
    rows = [
        ("version", f"{decision.version} at {format_percent(recorded.split)} of the traffic"),
        ("compared with", against),
        (
            "watched",
            (
                f"from {format_day(recorded.since)} {format_clock(recorded.since)} UTC, "
                f"{format_duration(decision.watched_s)}"
            ),
        ),
    ]
    if found.action:
        held = f": {found.why}" if found.why and found.why != decision.reason else ""
        rows.append(("then", f"{found.action}{held}"))
    lines = [f"{paint('strong', found.run)} on {found.environment}: {word}"]
    lines += [*wrap_text(f"{decision.reason}.", width), "", *format_fields(rows, width, paint=paint), ""]
    lines.append(paint("strong", "What each stream says"))
    for each in sorted(decision.evidence, key=lambda each: -each.log_evidence):
        lines += wrap_text(
            f"- {each.sentence}: evidence {format_odds(each.log_evidence)}", width, indent="  ", hanging="    "
        )
    if found.trace is not None:
        lines += ["", paint("strong", "How the evidence grew"), *_describe_growth(found, found.trace, width)]
    if found.would_change:
        lines += ["", paint("strong", "What would have changed it")]
        for sentence in found.would_change:
            lines += wrap_text(f"- {sentence}", width, indent="  ", hanging="    ")
    for note in found.notes:
        lines += ["", *wrap_text(f"note: {note}", width)]
    return "\n".join(lines)


def _describe_growth(found: Explained, trace: Trace, width: int) -> list[str]:
    """Return when each power of ten was first reached."""
    since, reached, level = found.recorded.since, [], _STEP
    for point in trace.points:
        if point.log_evidence < level:
            continue
        size = math.floor(point.log_evidence / _STEP + 1e-9)
        reached.append(f"{format_odds(size * _STEP)} after {format_duration(point.at - since)}")
        level = (size + 1) * _STEP
    needed = f"needed: {format_odds(trace.threshold)}"
    crossed = (
        "never reached" if trace.crossed_at is None else f"reached after {format_duration(trace.crossed_at - since)}"
    )
    steps = wrap_text(", ".join(reached), width, indent="  ", hanging="  ") if reached else ["  it stayed below 10:1"]
    return [*steps, f"  {needed}, {crossed}"]
