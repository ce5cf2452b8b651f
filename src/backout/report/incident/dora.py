"""The DORA metrics for a person, and as JSON values; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.report.text import leave_plain, wrap_text
from backout.report.times import format_day, format_duration, format_percent, format_time

if TYPE_CHECKING:
    from backout.analysis.history.dora import Dora, Metric
    from backout.report.text import Paint

_TITLES = {
    "deployment_frequency": "Deployment frequency",
    "lead_time": "Change lead time",
    "change_failure_rate": "Change fail rate",
    "recovery_time": "Failed deployment recovery time",
    "rework_rate": "Deployment rework rate",
    "guard_precision": "Guard: precision",
    "guard_misses": "Guard: misses",
    "guard_bad_requests": "Guard: bad requests served",
    "guard_saved": "Guard: time saved",
}


def make_record(found: Dora) -> dict[str, object]:
    """Return the payload of `backout.dora/1`."""
    return {
        "environment": found.environment,
        "window": {"since": format_time(found.since), "until": format_time(found.until)},
        "metrics": {
            name: {
                "value": metric.value,
                "unit": metric.unit,
                "shown": format_value(metric),
                "n": metric.n,
                "count": metric.count,
                "formula": metric.formula,
                "excluded": dict(metric.excluded),
            }
            for name, metric in found.metrics.items()
        },
    }


def format_value(metric: Metric) -> str:
    """Return a figure in words: "3 of 8" where a percentage would say too much."""
    if metric.unit == "share":
        of = f"{metric.count} of {metric.n}"
        return f"{format_percent(metric.value)} ({of})" if metric.value is not None else of
    if metric.value is None:
        return "not known"
    if metric.unit == "per_day":
        return f"{metric.value:.2g} a day"
    if metric.unit == "seconds":
        return f"{'-' if metric.value < 0 else ''}{format_duration(abs(metric.value))}"
    return f"{metric.value:,.0f}"


def format_text(found: Dora, *, width: int = 80, paint: Paint = leave_plain) -> str:
    """Return each figure with its formula, its n and what was left out under it."""
    span = f"{format_day(found.since)} to {format_day(found.until)}"
    lines = [paint("strong", f"{found.environment}, {span} (UTC)")]
    for name, metric in found.metrics.items():
        lines += ["", f"{_TITLES[name]}: {paint('strong', format_value(metric))}"]
        left = ", ".join(f"{number} {why}" for why, number in metric.excluded.items())
        said = f"{metric.formula}; n = {metric.n}" + (f"; left out: {left}" if left else "")
        lines += [paint("dim", line) for line in wrap_text(said, width, indent="  ")]
    return "\n".join(lines)
