"""Approvals as events; the rule: who approved what, and until when it counts, stands in the record."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from backout.journal.rows import decode_columns
from backout.model.approval import Approval, Approver, Waiting

if TYPE_CHECKING:
    from backout.model.approval import ApprovalRule
    from backout.model.incident.incident import Event


class _Approved(msgspec.Struct):
    reason: str
    hash: str
    expires_at: float
    person: str = ""


class _Waits(msgspec.Struct):
    by: Approver
    expires_s: float
    person: str = ""


def read_approval(event: Event) -> Approval:
    """Return the approval that an event records. Raises DamagedRow."""
    found = decode_columns(event.data, _Approved, "an approval")
    return Approval(event.actor, found.person, found.reason, event.at, found.expires_at, found.hash)


def read_waiting(event: Event) -> Waiting:
    """Return what a run waits for, by its event. Raises DamagedRow."""
    found = decode_columns(event.data, _Waits, "what a run waits for")
    return Waiting(found.by, found.expires_s, found.person, event.at)


def make_waiting_data(rule: ApprovalRule, person: str) -> dict[str, object]:
    """Return the data of the event that a run waits for an approval."""
    return {"by": str(rule.by), "expires_s": rule.expires_s, "person": person}
