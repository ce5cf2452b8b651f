"""A timeline for a person at any width, and as JSON values; pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from backout.escaping import shorten
from backout.model.incident.timeline import EntryKind
from backout.model.plan import PlanKind
from backout.report.incident.timeline_entries import describe_traffic, describe_until
from backout.report.text import format_fields, leave_plain, wrap_text
from backout.report.times import format_ago, format_clock, format_day, format_time

if TYPE_CHECKING:
    from backout.model.hold import Hold
    from backout.model.incident.timeline import Entry, Moment, Timeline
    from backout.report.text import Paint

MOST = 480
"""How many characters of an entry are shown; --json has all of it."""
_KIND = 10
"""Columns of the longest kind."""


def make_record(found: Timeline) -> dict[str, object]:
    """Return the payload of `backout.timeline/1`."""
    moment = found.moment
    return {
        "environment": found.environment,
        "since": format_time(found.since),
        "until": format_time(found.until),
        "at": None if moment is None else format_time(moment.at),
        "then": None if moment is None else _make_moment_record(moment),
        "events": [
            {"at": format_time(e.at), "kind": str(e.kind), "text": e.text, "run": e.run or None, "by": e.by or None}
            for e in found.entries
        ],
        "left_out": found.left_out,
        "notes": list(found.notes),
    }


def _make_moment_record(moment: Moment) -> dict[str, object]:
    live = moment.deployment
    return {
        "live": None
        if live is None
        else {
            "deployment_id": live.id,
            "since": format_time(live.created_at),
            "versions": [{"version": share.version, "percentage": share.percentage} for share in live.shares],
        },
        "runs": [run.id for run in moment.runs],
        "hold": None if moment.hold is None else {"until": _format_until(moment.hold), "why": moment.hold.why},
    }


def _format_until(hold: Hold) -> str | None:
    return None if math.isinf(hold.until) else format_time(hold.until)


def format_text(found: Timeline, *, width: int = 80, paint: Paint = leave_plain) -> str:
    """Return what was live at the moment, if one was asked for, then the entries, oldest first, grouped by day."""
    lines = _format_moment(found.moment, found.environment, width, paint) if found.moment is not None else []
    if found.left_out:
        lines += [paint("dim", f"{found.left_out} older ones are left out; --limit shows more"), ""]
    days: list[str] = []
    for entry in found.entries:
        if format_day(entry.at) not in days:
            days.append(format_day(entry.at))
            lines += [*([""] if len(days) > 1 else []), paint("strong", f"{days[-1]} UTC")]
        lines += _format_entry(entry, width, paint)
    if not found.entries:
        span = (
            f"from {format_day(found.since)} {format_clock(found.since)} to {format_day(found.until)} "
            f"{format_clock(found.until)} UTC"
        )
        lines.append(f"nothing is known to have happened in {found.environment} {span}")
    for note in found.notes:
        lines += wrap_text(f"note: {note}", width)
    return "\n".join(lines)


def _format_entry(entry: Entry, width: int, paint: Paint) -> list[str]:
    head = f"{format_clock(entry.at)}  {entry.kind:<{_KIND}}  "
    found = wrap_text(_add_author(entry), width, indent=head, hanging=" " * len(head))
    shown = (
        f"{format_clock(entry.at)}  "
        f"{paint(_ROLES.get(entry.kind, 'plain'), entry.kind)}{' ' * (_KIND - len(entry.kind))}"
    )
    return [shown + found[0][len(head) - 2 :], *found[1:]]


def _add_author(entry: Entry) -> str:
    """Return the text and the person, within the brackets that name the run if the text ends with them."""
    text = shorten(entry.text, MOST)
    if not entry.by or entry.kind in _BY_ITSELF:
        return text
    names_run = bool(entry.run) and f"({entry.run}" in text[text.rfind("(") :] and text.endswith(")")
    return f"{text[:-1]}, by {entry.by})" if names_run else f"{text} (by {entry.by})"


_BY_ITSELF = (EntryKind.VERDICT, EntryKind.RUN)
"""The person who typed the command is named with the command."""
_ROLES = {"verdict": "strong", "command": "note", "change": "warn", "deployment": "good"}


def _format_moment(moment: Moment, environment: str, width: int, paint: Paint) -> list[str]:
    live = moment.deployment
    rows = [("live", "nothing is known of that time")]
    if live is not None:
        since = (
            f"since {format_day(live.created_at)} {format_clock(live.created_at)} "
            f"({format_ago(live.created_at, moment.at)})"
        )
        rows = [("live", f"{describe_traffic(live)}, {since}, deployment {live.id}")]
    watches = [run.id for run in moment.runs if run.plan.kind is PlanKind.GUARD]
    rows.append(("guard", ", ".join(watches) if watches else "no watch was under way"))
    rows += [
        ("run", f"{run.id}: {shorten(run.plan.why)}") for run in moment.runs if run.plan.kind is not PlanKind.GUARD
    ]
    if moment.hold is not None:
        rows.append(("hold", f"{describe_until(moment.hold)}: {shorten(moment.hold.why)}"))
    head = f"{environment} at {format_day(moment.at)} {format_clock(moment.at)} UTC"
    return [paint("strong", head), *format_fields(rows, width, paint=paint), ""]
