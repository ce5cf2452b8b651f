"""What a person may ask of a run that is not over; the rule: a request is an event, and whoever drives the run obeys.

`abort`, `pause`, `resume`, and for a blocked run `decide:done` or `decide:retry`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.errors import Refused, UsageError
from backout.journal.history import DECISIONS
from backout.journal.store import Entry

if TYPE_CHECKING:
    from backout.journal.history import RunRecord

REQUESTS: Final = ("abort", "pause", "resume", *DECISIONS)


def make_request(record: RunRecord, what: str, reason: str) -> Entry:
    """Return the event of a request.

    Args:
        record: the run as of the transaction that the event is written in.

    Raises:
        UsageError: there is no such request.
        Refused: the run is over, or not in the state that the request is about.
    """
    if what not in REQUESTS:
        raise UsageError(f"{what!r} cannot be asked of a run; {', '.join(REQUESTS)} can", where=record.id)
    if record.end is not None:
        raise Refused(f"the run is over ({record.end})", where=record.id, hint=f"backout runs show {record.id}")
    resume = f"backout runs resume {record.id}"
    if what in DECISIONS and record.blocked is None:
        raise Refused("the run waits for no decision", where=record.id, hint=resume)
    if what == "resume" and record.pause is None:
        raise Refused("the run is not paused", where=record.id, hint=resume)
    if what == "pause" and record.pause is not None:
        raise Refused(f"the run is paused already, by {record.pause.by}", where=record.id, hint=resume)
    step = record.blocked if what in DECISIONS else None
    return Entry("run.asked", record.id, step, {"what": what, "reason": reason})
