"""The forecast of a watch: for a person at 80 columns, and as JSON values; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.blind_spots import CONTENTS, NEVER, describe_blind_spots, list_blind_spots
from backout.analysis.detector.persistence import FORGIVEN
from backout.analysis.detector.wording import count, format_percent
from backout.report.text import leave_plain, wrap_text
from backout.report.times import format_duration, format_time

if TYPE_CHECKING:
    from backout.model.guard.forecast import Detection, Forecast, Outlook
    from backout.model.guard.policy import GuardPolicy
    from backout.report.text import Paint


def make_record(environment: str, found: Forecast, guard: GuardPolicy) -> dict[str, object]:
    """Return the payload of `backout.guard-plan/1`."""
    today = found.today
    requests = sum(row.requests for row in today.baseline)
    return {
        "environment": environment,
        "measured_until": format_time(today.until),
        "requests_per_s": round(today.rate, 4),
        "error_rate": round(today.error_rate, 6) if requests else None,
        "baseline_s": round(today.span_s, 3),
        "baseline_requests": requests,
        "source_lag_s": today.lag_s,
        "unseen": [sight.name for sight in list_blind_spots(today.traits, guard)] if today.traits is not None else [],
        "watch_s": found.watch_s,
        "ways": [_make_way_record(outlook, found.watch_s) for outlook in found.outlooks],
        "advice": {
            "way": found.advised.name if found.advised else None,
            "why": list(found.why),
            "missing_requests": found.missing_requests,
        },
        "warnings": list(found.warnings),
    }


def _make_way_record(outlook: Outlook, watch_s: float) -> dict[str, object]:
    within = outlook.list_found_within(watch_s)
    return {
        "way": outlook.way.name,
        "split": outlook.way.split,
        "synthetic_per_s": outlook.way.synthetic_per_s,
        "new_requests_per_s": round(outlook.new_per_s, 4),
        "healthy_after_s": outlook.healthy_after_s,
        "detections": [
            {
                "trouble": each.trouble.name,
                "error_rate": each.trouble.error_rate,
                "latency_factor": each.trouble.latency_factor,
                "after_s": each.after_s,
                "requests": each.requests if each.after_s is not None else None,
                "bad_requests": each.bad_requests if each.after_s is not None else None,
                "within_watch": each in within,
                "stream": each.stream or None,
                "same_as_today": each.same_as_today,
            }
            for each in outlook.detections
        ],
    }


def format_text(
    environment: str, found: Forecast, guard: GuardPolicy, *, width: int = 80, paint: Paint = leave_plain
) -> str:
    """Return the forecast: what it is based on, what each way finds and when, the advice."""
    today = found.today
    requests = sum(row.requests for row in today.baseline)
    usual = f", {format_percent(today.error_rate)} of them fail" if requests else ""
    rests = f"{_format_rate(today.rate)} requests/s{usual}; the baseline is {format_duration(today.span_s)} long"
    lines = [paint("strong", f"What guard would find on {environment}"), *wrap_text(rests, width), ""]
    lines += _format_table(found, paint)
    lines += ["", *wrap_text(_format_legend(found), width)]
    name = found.advised.name if found.advised else "none of these"
    lines += ["", paint("good" if found.advised else "warn", f"Advice: {name}")]
    for sentence in found.why:
        lines += wrap_text(f"- {sentence}", width, hanging="  ")
    if found.warnings:
        lines += ["", paint("warn", "Besides")]
        lines += [line for each in found.warnings for line in wrap_text(f"- {each}", width, hanging="  ")]
    blind = describe_blind_spots(today.traits, guard) if today.traits is not None else ""
    if blind:
        lines += ["", *wrap_text(f"{blind[:1].upper()}{blind[1:]}; none of these finds that.", width)]
    if CONTENTS.words in blind:
        lines += wrap_text("`guard.synthetic.checks` says what an answer must contain.", width)
    lines += ["", *wrap_text(NEVER, width)]
    return "\n".join(lines)


def _format_table(found: Forecast, paint: Paint) -> list[str]:
    outlooks = found.outlooks
    heads = [o.way.name if not o.way.synthetic_per_s else f"+ {o.way.synthetic_per_s:g} probe/s" for o in outlooks]
    rows = [["", *heads]]
    for number, detection in enumerate(outlooks[0].detections):
        cells = [_format_cell(outlook.detections[number], found.watch_s) for outlook in outlooks]
        rows.append([detection.trouble.name, *cells])
    rows.append(["time to healthy", *(_format_moment(o.healthy_after_s, found.watch_s) for o in outlooks)])
    first, *widths = (max(len(row[column]) for row in rows) for column in range(len(rows[0])))
    lines = [
        "  ".join([row[0].ljust(first), *(cell.rjust(width) for cell, width in zip(row[1:], widths, strict=True))])
        for row in rows
    ]
    return [paint("dim", lines[0]), *lines[1:]]


def _format_cell(found: Detection, watch_s: float) -> str:
    if found.same_as_today:
        return "as today"
    if found.after_s is None:
        return "over a day"
    return f"{_format_moment(found.after_s, watch_s)}, {found.bad_requests:,}"


def _format_moment(after_s: float | None, watch_s: float) -> str:
    if after_s is None:
        return "over a day"
    return f"{format_duration(after_s)}{'*' if after_s > watch_s else ''}"


def _format_legend(found: Forecast) -> str:
    late = any(
        each.after_s is not None and each.after_s > found.watch_s
        for outlook in found.outlooks
        for each in outlook.detections
    )
    star = f" * after the end of the watch ({format_duration(found.watch_s)})." if late else ""
    lag = f" The source adds up to {count(round(found.today.lag_s), 'second')}." if found.today.lag_s >= 1 else ""
    lasts = f" Slow answers must last: what {FORGIVEN} stretches of {found.stretch_s} s show is forgiven."
    lasts = lasts if found.stretch_s else ""
    return f"Time until guard is sure, bad answers until then; half of all times are shorter.{star}{lag}{lasts}"


def _format_rate(per_s: float) -> str:
    return f"{per_s:.0f}" if per_s >= 10 else f"{per_s:.2g}"
