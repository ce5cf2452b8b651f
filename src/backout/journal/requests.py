"""What a person may ask of a run that is not over; the rule: a request is an event, and whoever drives the run obeys.

`abort`, `pause`, `resume`, `approve`, `break-glass` (go on without the approval), and for a blocked run `decide:done`
or `decide:retry`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.errors import Refused, UsageError
from backout.journal.gate import refuse_unprovable
from backout.journal.history import DECISIONS
from backout.journal.store import Entry
from backout.model.approval import NOT_PROVABLE, Approver
from backout.model.person import ON_BEHALF_OF

if TYPE_CHECKING:
    from backout.journal.gate import Gate
    from backout.journal.history import RunRecord
    from backout.journal.people import People

REQUESTS: Final = ("abort", "pause", "resume", "approve", "break-glass", *DECISIONS)


def make_request(record: RunRecord, what: str, reason: str, gate: Gate, *, now: float, people: People) -> Entry:
    """Return the event of a request.

    Args:
        record: the run as of the transaction that the event is written in.
        now: Unix seconds, of that transaction.
        people: whoever asks, and those who asked for the plan.

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
        data |= _approve(record, gate, now, people)
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


def _approve(record: RunRecord, gate: Gate, now: float, people: People) -> dict[str, object]:
    """Return what an approval binds: the plan by its hash, and until when. By whom is what the server will say.

    The pages say themselves for whom: what they write is theirs, whoever uses them.

    Raises:
        Refused: a second person has to approve it, and this is none, or not provably.
    """
    rule = gate.find_rule(record)
    assert rule is not None
    if rule.by is Approver.SECOND_PERSON:
        if why := people.find_unprovable((*people.askers, *people.own)):
            raise refuse_unprovable(record.environment, why)
        if same := set(people.own).intersection(people.askers):
            raise Refused(
                f"{NOT_PROVABLE}: the role {min(same)} of the journal's database asked for the plan, too",
                where=record.id,
                hint="give each person a role of their own, and its connection string: docs/team.md; then have somebody"
                " else approve it",
            )
    found: dict[str, object] = {"hash": record.plan.hash, "expires_at": now + rule.expires_s}
    return {**found, ON_BEHALF_OF: people.own[0]} if people.own[0] != people.roles.own else found
