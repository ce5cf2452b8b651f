"""What `backout audit log` shows: the journal's events as they were written, of all environments."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from backout.cli.runs import describe_event
from backout.cli.timeline import parse_moment
from backout.report.event_records import make_event_record
from backout.report.times import format_clock, format_day

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell
    from backout.journal.stored import StoredJournal
    from backout.model.incident.incident import Event

PROGRESS: Final = "step.progress"


def show_log(shell: Shell, *, since: str | None, kind: str | None, limit: int) -> int:
    """Show the newest events, oldest first."""
    from backout.wiring import clock
    from backout.wiring.records import open_journal

    config = shell.config()
    begin = 0.0 if since is None else parse_moment(since, clock.now(), "--since")
    found = _read_newest(open_journal(config), shell.flags.environment, kind, begin, limit)
    rows = [
        (
            str(event.seq),
            f"{format_day(event.at)} {format_clock(event.at)}",
            event.environment or "-",
            event.kind,
            event.actor,
            describe_event(event),
        )
        for event in found
    ]
    records = [
        {"environment": event.environment or None, **make_event_record(event), "writer": event.writer or None}
        for event in found
    ]
    out = shell.output
    human = out.table(("SEQ", "UTC", "ENVIRONMENT", "EVENT", "BY", "WHAT"), rows, whole=True) or "no events"
    out.result("audit-log", {"events": records}, human)
    out.next("backout audit verify  # whether each is as it was written")
    return 0


def _read_newest(
    book: StoredJournal, environment: str | None, kind: str | None, begin: float, limit: int
) -> deque[Event]:
    """Return the newest events that are asked for; what a step records on its way only where its kind is named."""
    found: deque[Event] = deque(maxlen=limit)
    for event in book.events(environment=environment, kind=kind):
        if event.at >= begin and (kind is not None or event.kind != PROGRESS):
            found.append(event)
    return found
