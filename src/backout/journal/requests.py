"""What a person may ask of a run that is not over; the rule: a request is an event, and whoever drives the run obeys.

`abort`, `pause`, `resume`, `approve`, `break-glass` (go on without the approval), and for a blocked run `decide:done`
or `decide:retry`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.errors import Refused, UsageError
from backout.journal.gate import find_unprovable, refuse_unprovable
from backout.journal.history import DECISIONS
from backout.journal.store import Entry
from backout.model.approval import NOT_PROVABLE, Approver

if TYPE_CHECKING:
    from backout.journal.gate import Gate
    from backout.journal.history import RunRecord
    from backout.journal.store import Roles

REQUESTS: Final = ("abort", "pause", "resume", "approve", "break-glass", *DECISIONS)


def make_request(record: RunRecord, what: str, reason: str, gate: Gate, *, now: float, roles: Roles) -> Entry:
    """Return the event of a request.

    Args:
        record: the run as of the transaction that the event is written in.
        now: Unix seconds, of that transaction.
        roles: of whoever asks, and of those who asked for the plan.

    Raises:
        UsageError: there is no such request.
        Refused: the run is over, or not in the state that the request is about.
    """
    if what not in REQUESTS:
        raise UsageError(f"{what!r} cannot be asked of a run; {', '.join(REQUESTS)} can", where=record.id)
    if record.end is not None:
        raise Refused(f"the run is over ({record.end})", where=record.id, hint=f"backout runs show {record.id}")
    why_not = _find_obstacle(record, what, gate)
    if why_not:
        raise Refused(why_not, where=record.id, hint=f"backout runs resume {record.id}")
    data: dict[str, object] = {"what": what, "reason": reason}
    if what == "approve":
        data |= _approve(record, gate, now, roles)
    return Entry("run.asked", record.id, record.blocked if what in DECISIONS else None, data)


def _find_obstacle(record: RunRecord, what: str, gate: Gate) -> str:
    """Return why the run is not in the state that a request is about, "" where it is."""
    if what in DECISIONS and record.blocked is None:
        return "the run waits for no decision"
    if what == "resume" and record.pause is None:
        return "the run is not paused"
    if what == "pause" and record.pause is not None:
        return f"the run is paused already, by {record.pause.by}"
    if what == "approve" and not record.lacks_approval:
        return "the run waits for no approval"
    if what == "break-glass" and (gate.find_rule(record) is None or record.glass is not None):
        return "the run waits for no approval"
    return ""


def _approve(record: RunRecord, gate: Gate, now: float, roles: Roles) -> dict[str, object]:
    """Return what an approval binds: the plan by its hash, and until when. By whom is what the server will say.

    Raises:
        Refused: a second person has to approve it, and this is none, or not provably.
    """
    rule = gate.find_rule(record)
    assert rule is not None
    if rule.by is Approver.SECOND_PERSON:
        if why := find_unprovable((*record.asked_by, roles.own), roles):
            raise refuse_unprovable(record.environment, why)
        if roles.own in record.asked_by:
            raise Refused(
                f"{NOT_PROVABLE}: the role {roles.own} of the journal's database asked for the plan, too",
                where=record.id,
                hint="give each person a role of their own, and its connection string: docs/team.md; then have somebody"
                " else approve it",
            )
    return {"hash": record.plan.hash, "expires_at": now + rule.expires_s}
