"""Notices to people, and what became of each (safety rule 18)."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from msgspec import field

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping


class NoticeKind(StrEnum):
    """Why a notice is sent; the values are part of what receivers see."""

    ROLLED_BACK = "rolled_back"  # another version is live; whether it is proven good stands in the text
    SECRETS_PUSHED = "secrets_pushed"  # guard set secrets that were missing; whether that helped stands in the text
    ROLLED_FORWARD = "rolled_forward"  # a fixed version is live; the text says whether it is proven good
    NOT_RESTORED = "not_restored"  # rolled back or forward, and still not well
    WOULD_ROLL_BACK = "would_roll_back"  # regressed, and guard only observes
    REFUSED = "refused"  # a rule forbids the rollback
    HELD = "held"  # a person has to decide: about a rollback, or about a shift in what is answered
    SHIFT = "shift"  # a shift in what is answered that is told only, or one that held a version which is well after all
    INCONCLUSIVE = "inconclusive"
    SOURCE_LOST = "source_lost"  # the counts stopped coming, or turned into estimates
    TOKEN_LOST = "token_lost"  # noqa: S105 - the name of a kind
    UNGUARDED = "unguarded"  # a fresh deployment that no guard watches
    KNOWN_BAD = "known_bad"  # quarantined code is live again under a new version id
    CHANGED = "changed"  # long after a deployment what is live began to fail or to be slow, or is well again
    HOLD_SET = "hold_set"  # a person stopped, or allowed again, every automatic action
    HOLD_ENDS = "hold_ends"  # a hold will end soon, or goes on because an incident is open
    HOLD_UNSIGNED = "hold_unsigned"  # marks are signed, and a hold that is not stops guard for two hours
    BROKE_GLASS = "broke_glass"  # a person goes on without the approval that a plan needs
    UNPROTECTED = "unprotected"  # the database could not be brought back to every moment any more
    PROTECTED = "protected"  # and now it could again
    UNPROVED = "unproved"  # the last proof of the backups failed, or is older than allowed
    FAILED = "failed"  # a run ended with an error
    INCIDENT = "incident"  # a person opened, acknowledged or resolved an incident
    UPDATE = "update"  # one sentence for customers about an incident
    TEST = "test"  # the channels are being tested
    SUMMARY = "summary"  # several notices in one, when there were too many

    @property
    def is_critical(self) -> bool:
        """Whether something is wrong that waits for a person: such a notice is never held back for long."""
        return self not in _CALM


_CALM = (
    NoticeKind.ROLLED_BACK,
    NoticeKind.SECRETS_PUSHED,
    NoticeKind.ROLLED_FORWARD,
    NoticeKind.SHIFT,
    NoticeKind.HOLD_SET,
    NoticeKind.HOLD_ENDS,
    NoticeKind.PROTECTED,
    NoticeKind.UPDATE,
    NoticeKind.TEST,
    NoticeKind.SUMMARY,
)


class Notice(Value, frozen=True):
    """One message to people.

    Args:
        at: Unix seconds.
        title: one line.
        text: whole sentences with numbers.
        next: commands to type.
        key: notices with the same key are one notice, however often they are submitted.
        facts: data for programs (version ids, run id, verdict, ...).
    """

    kind: NoticeKind
    environment: str
    at: float
    title: str
    text: str
    key: str
    run: str = ""
    next: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)


PAGE: Final = "page"
"""The fact of a notice that has the address of its page."""


def make_page_url(pages: str, notice: Notice) -> str:
    """Return where `backout serve` shows what a notice is about.

    Args:
        pages: where that answers.

    >>> make_page_url("https://b.example.com/", Notice("test", "production", 0.0, "", "", "k", run="guard-1"))
    'https://b.example.com/env/production/run/guard-1'
    """
    incident = notice.facts.get("incident", "")
    where = f"/run/{quote(notice.run, safe='')}" if notice.run else ""
    where = f"/incident/{quote(incident, safe='')}" if incident and not where else where
    return f"{pages.rstrip('/')}/env/{quote(notice.environment, safe='')}{where}"


class QueueState(StrEnum):
    """The state of one notice in one channel."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    GIVEN_UP = "given_up"


class QueuedNotice(Value, frozen=True):
    """One notice in one channel.

    Args:
        tries: how often it was sent so far.
        at: Unix seconds of the next try, of its arrival, or of giving up.
        why: why the last try failed, or "".
    """

    notice: Notice
    channel: str
    state: QueueState
    tries: int
    at: float
    why: str = ""


class Delivery(Value, frozen=True):
    """The results of the notices so far: how many arrived, wait for another try, or were given up.

    Args:
        problems: failures of this process, one sentence for each channel or for the outbox itself.
    """

    delivered: int = 0
    waiting: int = 0
    given_up: int = 0
    problems: tuple[str, ...] = ()
