"""Approvals as events; the rule: who approved what, and until when it counts, stands in the record.

Who that was is what the journal's server says of each event, never a name in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from backout.journal.rows import decode_columns
from backout.model.approval import Approval, Approver, Waiting

if TYPE_CHECKING:
    from backout.model.approval import ApprovalRule
    from backout.model.incident.incident import Event

SPOOLED = "spooled"
"""In the data of an event that was recorded elsewhere while the journal's server was away, and merged."""


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
    return Approval(event.actor, find_writer(event), found.reason, event.at, found.expires_at, found.hash, spooled)


def read_waiting(event: Event) -> Waiting:
    """Return what a run waits for, by its event. Raises DamagedRow."""
    found = decode_columns(event.data, _Waits, "what a run waits for")
    return Waiting(found.by, found.expires_s, event.at)


def find_writer(event: Event) -> str:
    """Return the role that wrote an event at first, as the server says; "" where it was merged by somebody later."""
    return "" if SPOOLED in event.data else event.writer


def make_waiting_data(rule: ApprovalRule) -> dict[str, object]:
    """Return the data of the event that a run waits for an approval."""
    return {"by": str(rule.by), "expires_s": rule.expires_s}
