"""Approvals as events; the rule: who approved what, and until when it counts, stands in the record.

Who that was is what the journal's server says of each event, see `model.person`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from backout.journal.rows import decode_columns
from backout.model.approval import Approval, Approver, Waiting
from backout.model.person import SPOOLED, find_named, find_writer
from backout.model.value import Value

if TYPE_CHECKING:
    from backout.model.approval import ApprovalRule
    from backout.model.incident.incident import Event

REQUEST = "request"
"""In the data of an event of a worker's command: the number of the request that it is done for."""


class Asker(Value, frozen=True):
    """Who submitted a plan, or drove it to where it waits.

    Args:
        role: of the journal's database, as its server says; "" where it does not.
        request: the number of the request on the pages that it was done for, 0 for none.
    """

    role: str
    request: int = 0


class _Approved(msgspec.Struct):
    reason: str
    hash: str
    expires_at: float


class _Waits(msgspec.Struct):
    by: Approver
    expires_s: float


def read_approval(event: Event) -> Approval:
    """Return the approval that an event records. Raises DamagedRow."""
    found = decode_columns(event.data, _Approved, "an approval")
    spooled = SPOOLED in event.data
    return Approval(
        event.actor,
        find_writer(event),
        found.reason,
        event.at,
        found.expires_at,
        found.hash,
        spooled,
        find_named(event),
    )


def read_waiting(event: Event) -> Waiting:
    """Return what a run waits for, by its event. Raises DamagedRow."""
    found = decode_columns(event.data, _Waits, "what a run waits for")
    return Waiting(found.by, found.expires_s, event.at)


def read_asker(event: Event) -> Asker:
    """Return who wrote an event at first, and for which request."""
    request = event.data.get(REQUEST)
    return Asker(find_writer(event), request if isinstance(request, int) else 0)


def make_request_data(request: int) -> dict[str, object]:
    """Return what the events of a command say of the request that it is done for; nothing where it is for none."""
    return {REQUEST: request} if request else {}


def make_waiting_data(rule: ApprovalRule, request: int = 0) -> dict[str, object]:
    """Return the data of the event that a run waits for an approval."""
    return {"by": str(rule.by), "expires_s": rule.expires_s, **make_request_data(request)}
