"""What a person asks of an environment on a page, for the worker that guards it to do; the page itself can do none."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from msgspec import field

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.plan import Json

MADE: Final = "request.made"
TAKEN: Final = "request.taken"
ENDED: Final = "request.ended"
KINDS: Final = (MADE, TAKEN, ENDED)
"""The kinds of its events: each has the request's `key`, or one that begins with its number."""
EVERY_KIND: Final = "request.*"
"""What stands for all of them where events are asked for."""
EXPIRES_S: Final = 60.0
"""A request that no worker took within this is never acted on: by then the situation may be another one."""


class Act(StrEnum):
    """What is asked for; the values are part of the JSON and of the journal."""

    PLAN = "plan"  # of a rollback: nothing is changed
    DIAGNOSE = "diagnose"  # reads the logs, names the cause
    REPORT = "report"  # may guard act alone?
    WATCH = "watch"  # look for a new deployment now
    ROLLBACK = "rollback"
    HOLD = "hold"
    UNHOLD = "unhold"
    RESUME = "resume"
    UNDO = "undo"

    @property
    def changes(self) -> bool:
        """Whether anything is changed by it."""
        return self not in (Act.PLAN, Act.DIAGNOSE, Act.REPORT, Act.WATCH)


class RequestState(StrEnum):
    """Where a request stands; the values are part of the JSON."""

    WAITING = "waiting"  # no worker has taken it yet
    TAKEN = "taken"  # a worker acts on it
    DONE = "done"
    FAILED = "failed"
    EXPIRED = "expired"  # no worker took it in time
    LOST = "lost"  # its worker ended before it did; what was done stands in the runs

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes of it."""
        return self not in (RequestState.WAITING, RequestState.TAKEN)


class Requester(Value, frozen=True):
    """Who asks on a page: a login by its name, and the role of the journal's database that it is of, "" for none."""

    name: str
    person: str = ""


class ActionRequest(Value, frozen=True):
    """One request.

    Args:
        id: the place of its event in the journal.
        key: chosen by whoever asked, so that asking twice is asking once.
        target: the version of a rollback, the run that is resumed or undone, the duration of a hold; "" for none.
        why: the reason that was typed.
        by: the login that asked.
        at: Unix seconds, by the journal's clock.
        taken_by: the worker, "" for none yet.
        exit_code: of the command that did it, None while it is not over.
        answer: what the command answered with `--json`; empty while there is none.
    """

    id: int
    key: str
    environment: str
    act: Act
    target: str
    why: str
    by: str
    at: float
    state: RequestState = RequestState.WAITING
    taken_by: str = ""
    taken_at: float | None = None
    ended_at: float | None = None
    exit_code: int | None = None
    answer: Mapping[str, Json] = field(default_factory=dict)

    @property
    def expires_at(self) -> float:
        """Until when a worker may take it, Unix seconds."""
        return self.at + EXPIRES_S


def name_asker(request: ActionRequest) -> str:
    """Return who asked, and by which request: the reason of what a worker does for it ends with this."""
    return f"(asked for by {request.by}, request {request.id})"
