"""Requests as events of the journal: a page makes one, the worker that guards the environment takes and ends it.

The rule: a request is taken once, by one worker, and in time; one whose worker is gone is never begun again, since
nobody knows how far it came. What it changed stands in the runs, which go on as every run does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec import field
from msgspec.structs import replace

from backout.decoding import Undecodable, decode_values
from backout.errors import Busy
from backout.model.action_request import (
    ENDED,
    EXPIRES_S,
    KINDS,
    MADE,
    TAKEN,
    Act,
    ActionRequest,
    Requester,
    RequestState,
)
from backout.model.person import ON_BEHALF_OF
from backout.model.value import Value
from backout.runbook.serve.new_events import NewEvents

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from backout.model.incident.incident import Event
    from backout.model.plan import Json
    from backout.ports import Journal

_MOST_DIGITS: Final = 16
_STATES: Final = (RequestState.DONE, RequestState.FAILED, RequestState.EXPIRED, RequestState.LOST)


class _Made(Value, frozen=True):
    key: str
    act: Act
    by: str
    target: str = ""
    why: str = ""


class _Ended(Value, frozen=True):
    state: RequestState
    exit_code: int | None = None
    answer: dict[str, Any] = field(default_factory=dict)


def make_request(
    journal: Journal,
    environment: str,
    act: Act,
    *,
    key: str,
    by: Requester,
    target: str = "",
    why: str = "",
    actor: str,
) -> ActionRequest:
    """Record a request and return it; with a key that was used before, the one of then, whatever it asked for.

    Raises:
        Busy: it was recorded by somebody else at this moment, and cannot be read back yet.
        JournalUnavailable: it cannot be recorded.
    """
    data: dict[str, Json] = {"act": str(act), "target": target, "why": why, "by": by.name, ON_BEHALF_OF: by.person}
    made = journal.note(environment, MADE, key, data, actor=actor)
    found = _read_made(made) if made is not None else find_by_key(journal, environment, key)
    if found is None:
        raise Busy("the same request is being recorded", where=environment, hint="send it again")
    return found


def find_by_key(journal: Journal, environment: str, key: str) -> ActionRequest | None:
    """Return the request with a key, None: there is none."""
    return next((each for each in list_requests(journal, environment) if each.key == key), None)


def find_request(journal: Journal, environment: str, number: int) -> ActionRequest | None:
    """Return a request by its number, None: there is none in this environment."""
    return next((each for each in list_requests(journal, environment) if each.id == number), None)


def list_requests(journal: Journal, environment: str) -> tuple[ActionRequest, ...]:
    """Return the requests of an environment, oldest first. Raises JournalUnavailable."""
    return tuple(trace_requests(NewEvents(journal, environment, KINDS).read()).values())


class FollowedRequests:
    """The requests of one environment that are not over, read again and again; of one thread."""

    def __init__(self, journal: Journal, environment: str) -> None:
        self._events = NewEvents(journal, environment, KINDS)
        self._known: dict[int, ActionRequest] = {}

    @property
    def known(self) -> tuple[ActionRequest, ...]:
        """Those of the last time, oldest first."""
        return tuple(self._known.values())

    def read(self) -> tuple[ActionRequest, ...]:
        """Return them as they stand in the journal now, oldest first. Raises JournalUnavailable."""
        found = trace_requests(self._events.read(), self._known)
        self._known = {number: each for number, each in found.items() if not each.state.is_over}
        return self.known


def trace_requests(
    events: Iterable[Event], known: Mapping[int, ActionRequest] | None = None
) -> dict[int, ActionRequest]:
    """Return what became of each request that is known or made in these events, by its number; pure."""
    found = dict(known or {})
    for event in events:
        if event.kind == MADE:
            made = _read_made(event)
            if made is not None:
                found[made.id] = made
            continue
        number = _read_number(event)
        request = found.get(number)
        if request is None or request.state.is_over:
            continue
        if event.kind == TAKEN and request.state is RequestState.WAITING:
            found[number] = replace(request, state=RequestState.TAKEN, taken_by=event.actor, taken_at=event.at)
        elif event.kind == ENDED:
            found[number] = _end(request, event)
    return found


def take_request(journal: Journal, request: ActionRequest, *, actor: str) -> bool:
    """Record that a worker takes a request, and return whether it may act on it.

    It may not when another one has taken it, or when it was recorded too long ago by the journal's own clock; then it
    is recorded as expired.
    """
    taken = journal.note(request.environment, TAKEN, str(request.id), {}, actor=actor)
    if taken is None:
        return False
    if taken.at - request.at <= EXPIRES_S:
        return True
    end_request(journal, request, RequestState.EXPIRED, actor=actor)
    return False


def end_request(
    journal: Journal,
    request: ActionRequest,
    state: RequestState,
    *,
    actor: str,
    exit_code: int | None = None,
    answer: Mapping[str, Json] | None = None,
) -> None:
    """Record how a request ended; the first such record counts."""
    assert state in _STATES
    data: dict[str, Json] = {"state": str(state), "exit_code": exit_code, "answer": dict(answer or {})}
    journal.note(request.environment, ENDED, str(request.id), data, actor=actor)


def describe_state(request: ActionRequest, now: float) -> RequestState:
    """Return where a request stands now: one that waited too long has expired, whether that is recorded or not."""
    if request.state is RequestState.WAITING and now > request.expires_at:
        return RequestState.EXPIRED
    return request.state


def _read_made(event: Event) -> ActionRequest | None:
    """Return the request of an event; None: another version of backout wrote one that this one does not know."""
    try:
        made = decode_values(event.data, _Made)
    except Undecodable:
        return None
    return ActionRequest(event.seq, made.key, event.environment, made.act, made.target, made.why, made.by, event.at)


def _read_number(event: Event) -> int:
    """Return the request that an event is of, 0: none; a number that is written otherwise is the key of no request."""
    key = str(event.data.get("key", ""))
    number = int(key) if key.isdecimal() and len(key) < _MOST_DIGITS else 0
    return number if key == str(number) else 0


def _end(request: ActionRequest, event: Event) -> ActionRequest:
    try:
        ended = decode_values(event.data, _Ended)
    except Undecodable:
        return replace(request, state=RequestState.FAILED, ended_at=event.at)
    if not ended.state.is_over:
        return replace(request, state=RequestState.FAILED, ended_at=event.at)
    return replace(
        request,
        state=ended.state,
        ended_at=event.at,
        exit_code=ended.exit_code,
        answer=ended.answer,
    )
