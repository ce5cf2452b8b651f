"""A timeline for a person at any width, and as JSON values; pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from backout.escaping import brief
from backout.model.incident.timeline import EntryKind
from backout.model.plan import PlanKind
from backout.report.incident.timeline_entries import in_words, until
from backout.report.text import fields, plain, wrap_text
from backout.report.times import ago, clock, day, rfc3339

if TYPE_CHECKING:
    from backout.model.hold import Hold
    from backout.model.incident.timeline import Entry, Moment, Timeline
    from backout.report.text import Paint

MOST = 480
"""How many characters of an entry are shown; --json has all of it."""
_KIND = 10
"""Columns of the longest kind."""


def record(found: Timeline) -> dict[str, object]:
    """Return the payload of `backout.timeline/1`."""
    moment = found.moment
    return {
        "environment": found.environment,
        "since": rfc3339(found.since),
        "until": rfc3339(found.until),
        "at": None if moment is None else rfc3339(moment.at),
        "then": None if moment is None else _moment_record(moment),
        "events": [
            {"at": rfc3339(e.at), "kind": str(e.kind), "text": e.text, "run": e.run or None, "by": e.by or None}
            for e in found.entries
        ],
        "left_out": found.left_out,
        "notes": list(found.notes),
    }


def _moment_record(moment: Moment) -> dict[str, object]:
    live = moment.deployment
    return {
        "live": None
        if live is None
        else {
            "deployment_id": live.id,
            "since": rfc3339(live.created_at),
            "versions": [{"version": share.version, "percentage": share.percentage} for share in live.shares],
        },
        "runs": [run.id for run in moment.runs],
        "hold": None if moment.hold is None else {"until": _until(moment.hold), "why": moment.hold.why},
    }


def _until(hold: Hold) -> str | None:
    return None if math.isinf(hold.until) else rfc3339(hold.until)


def text(found: Timeline, *, width: int = 80, paint: Paint = plain) -> str:
    """Return what was live at the moment, if one was asked for, then the entries, oldest first, grouped by day."""
    lines = _moment_lines(found.moment, found.environment, width, paint) if found.moment is not None else []
    if found.left_out:
        lines += [paint("dim", f"{found.left_out} older ones are left out; --limit shows more"), ""]
    days: list[str] = []
    for entry in found.entries:
        if day(entry.at) not in days:
            days.append(day(entry.at))
            lines += [*([""] if len(days) > 1 else []), paint("strong", f"{days[-1]} UTC")]
        lines += _lines(entry, width, paint)
    if not found.entries:
        span = f"from {day(found.since)} {clock(found.since)} to {day(found.until)} {clock(found.until)} UTC"
        lines.append(f"nothing is known to have happened in {found.environment} {span}")
    for note in found.notes:
        lines += wrap_text(f"note: {note}", width)
    return "\n".join(lines)


def _lines(entry: Entry, width: int, paint: Paint) -> list[str]:
    head = f"{clock(entry.at)}  {entry.kind:<{_KIND}}  "
    found = wrap_text(_with_author(entry), width, indent=head, hanging=" " * len(head))
    shown = f"{clock(entry.at)}  {paint(_ROLES.get(entry.kind, 'plain'), entry.kind)}{' ' * (_KIND - len(entry.kind))}"
    return [shown + found[0][len(head) - 2 :], *found[1:]]


def _with_author(entry: Entry) -> str:
    """Return the text and the person, within the brackets that name the run if the text ends with them."""
    text = brief(entry.text, MOST)
    if not entry.by or entry.kind in _BY_ITSELF:
        return text
    names_run = bool(entry.run) and f"({entry.run}" in text[text.rfind("(") :] and text.endswith(")")
    return f"{text[:-1]}, by {entry.by})" if names_run else f"{text} (by {entry.by})"


_BY_ITSELF = (EntryKind.VERDICT, EntryKind.RUN)
"""The person who typed the command is named with the command."""
_ROLES = {"verdict": "strong", "command": "note", "change": "warn", "deployment": "good"}


def _moment_lines(moment: Moment, environment: str, width: int, paint: Paint) -> list[str]:
    live = moment.deployment
    rows = [("live", "nothing is known of that time")]
    if live is not None:
        since = f"since {day(live.created_at)} {clock(live.created_at)} ({ago(live.created_at, moment.at)})"
        rows = [("live", f"{in_words(live)}, {since}, deployment {live.id}")]
    watches = [run.id for run in moment.runs if run.plan.kind is PlanKind.GUARD]
    rows.append(("guard", ", ".join(watches) if watches else "no watch was under way"))
    rows += [("run", f"{run.id}: {brief(run.plan.why)}") for run in moment.runs if run.plan.kind is not PlanKind.GUARD]
    if moment.hold is not None:
        rows.append(("hold", f"{until(moment.hold)}: {brief(moment.hold.why)}"))
    head = f"{environment} at {day(moment.at)} {clock(moment.at)} UTC"
    return [paint("strong", head), *fields(rows, width, paint=paint), ""]
