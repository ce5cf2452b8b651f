"""An incident as JSON values and for a terminal; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.report.text import format_fields, leave_plain, wrap_text
from backout.report.times import format_clock, format_day, format_duration, format_percent, format_time

if TYPE_CHECKING:
    from backout.model.incident.case import Case
    from backout.model.incident.impact import Impact
    from backout.report.text import Paint


def make_record(case: Case) -> dict[str, object]:
    """Return the payload of `backout.incident/1`."""
    found = case.record
    return {
        "id": found.id,
        "environment": found.environment,
        "title": case.title,
        "severity": str(case.severity),
        "state": str(found.state),
        "opened_at": format_time(found.opened_at),
        "opened_by": found.opened_by,
        "began_at": format_time(case.began_at),
        "acknowledged_at": _format_time(found.acknowledged_at),
        "acknowledged_by": found.acknowledged_by or None,
        "resolved_at": _format_time(found.resolved_at),
        "resolved_by": found.resolved_by or None,
        "runs": list(found.runs),
        "timeline": [
            {"at": format_time(line.at), "text": line.text, "actor": line.actor or None, "source": str(line.source)}
            for line in case.timeline
        ],
        "told": [
            {
                "at": format_time(told.at),
                "channel": told.channel,
                "what": told.what,
                "acknowledged_at": _format_time(told.acknowledged_at),
            }
            for told in case.told
        ],
        "impact": make_impact_record(case.impact),
        "actions": [
            {
                "number": action.number,
                "text": action.text,
                "kind": action.kind,
                "owner": action.owner or None,
                "due": action.due or None,
                "url": action.url or None,
            }
            for action in found.actions
        ],
        "report_path": case.report or None,
        "picture_path": case.picture or None,
    }


def make_impact_record(impact: Impact) -> dict[str, object]:
    """Return the impact as JSON values; `rows` and `objects` are those that were lost or brought back."""
    return {
        "requests_failed": impact.requests_failed,
        "share": impact.share,
        "duration_s": impact.duration_s,
        "rows": _add(impact.rows_lost, impact.rows_rescued),
        "rows_lost": impact.rows_lost,
        "rows_rescued": impact.rows_rescued,
        "objects": _add(impact.objects_lost, impact.objects_rescued),
        "objects_lost": impact.objects_lost,
        "objects_rescued": impact.objects_rescued,
        "exactness": {name: str(how) for name, how in impact.exactness.items()},
    }


def list_impact(impact: Impact, *, is_over: bool = True) -> list[str]:
    """Return the numbers in words, each with how it is known; `is_over`: whether the incident is resolved."""
    how = impact.exactness
    lines = []
    if impact.requests_failed is not None and impact.share is not None:
        said = f"{impact.requests_failed:,} requests failed, {format_percent(impact.share)} of that time's"
        lines.append(f"{said} ({how['requests_failed']})")
    if impact.duration_s is not None:
        lasted = "it lasted" if is_over else "it has lasted"
        lines.append(f"{lasted} {format_duration(impact.duration_s)} from the first sign on ({how['duration_s']})")
    for name, what in (("rows", "rows"), ("objects", "objects")):
        for fate, words in (("rescued", "brought back"), ("lost", "lost")):
            number = getattr(impact, f"{name}_{fate}")
            if number is not None:
                lines.append(f"{number:,} {what} {words} ({how[f'{name}_{fate}']})")
    return lines


def format_text(case: Case, *, width: int = 80, paint: Paint = leave_plain) -> str:
    """Return the incident for a person: what, since when, how bad, who was told, then the timeline."""
    found = case.record
    state = f"{case.severity}, {found.state}"
    rows = [
        ("state", f"{state} by {found.resolved_by}" if found.resolved_by else state),
        ("opened", f"{_format_moment(found.opened_at)} by {found.opened_by}"),
        (
            "taken",
            f"{_format_moment(found.acknowledged_at)} by {found.acknowledged_by}" if found.acknowledged_at else "",
        ),
        ("resolved", _format_moment(found.resolved_at) if found.resolved_at else ""),
        ("impact", "; ".join(list_impact(case.impact, is_over=found.resolved_at is not None))),
        ("runs", ", ".join(found.runs)),
        ("report", case.report),
        ("picture", case.picture),
    ]
    lines = [paint("strong", f"{found.environment}: {case.title}"), paint("dim", found.id), ""]
    lines += format_fields([row for row in rows if row[1]], width, paint=paint)
    if case.told:
        lines += ["", paint("strong", "Told")]
        for told in case.told:
            taken = f", acknowledged {format_clock(told.acknowledged_at)}" if told.acknowledged_at else ""
            lines += wrap_text(f"{format_clock(told.at)}  {told.channel}: {told.what}{taken}", width, hanging=" " * 10)
    lines += ["", paint("strong", f"Timeline, {format_day(case.began_at)} UTC")]
    for line in case.timeline:
        by = f" ({line.actor})" if line.actor else ""
        lines += wrap_text(f"{format_clock(line.at)}  {line.text}{by}", width, hanging=" " * 10)
    if found.actions:
        lines += ["", paint("strong", "Action items")]
    for action in found.actions:
        more = ", ".join(part for part in (action.kind, action.owner, action.due, action.url) if part)
        lines += wrap_text(f"{action.number}. {action.text} ({more})", width, hanging="   ")
    return "\n".join(lines)


def _format_moment(at: float | None) -> str:
    return "" if at is None else f"{format_day(at)} {format_clock(at)} UTC"


def _format_time(at: float | None) -> str | None:
    return None if at is None else format_time(at)


def _add(one: int | None, other: int | None) -> int | None:
    return None if one is None and other is None else (one or 0) + (other or 0)
