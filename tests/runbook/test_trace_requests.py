"""Requests, in whatever order their events come: each stands in one state, is one worker's at most, and in time."""

from __future__ import annotations

import itertools
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from journal import toy

from backout.journal.sqlite import SqliteJournal
from backout.model.action_request import ENDED, EXPIRES_S, MADE, TAKEN, Act, Requester, RequestState
from backout.model.incident.incident import Event
from backout.runbook.serve.action_requests import (
    FollowedRequests,
    describe_state,
    end_request,
    list_requests,
    make_request,
    take_request,
    trace_requests,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backout.model.plan import Json

OVER: Final = tuple(each for each in RequestState if each.is_over)
WORKERS: Final = ("one", "two", "three")
WRITTEN: Final = st.lists(
    st.one_of(
        st.tuples(
            st.just(MADE), st.sampled_from(["a", "b", "c"]), st.sampled_from(["plan", "rollback", "of a later day"])
        ),
        st.tuples(st.just(TAKEN), st.integers(0, 12), st.sampled_from(WORKERS)),
        st.tuples(st.just(ENDED), st.integers(0, 12), st.sampled_from([*RequestState, "of a later day"])),
        st.tuples(st.just(TAKEN), st.sampled_from(["", "x", "-1", "01", "1" * 40, "\u0661"]), st.sampled_from(WORKERS)),
    ),
    max_size=25,
)
"""Events as any worker, of any version, may have written them: (kind, key, what)."""


def make_events(written: Iterable[tuple[str, object, object]]) -> list[Event]:
    """Return them as the journal has them."""
    found = []
    for number, (kind, key, what) in enumerate(written, 1):
        data: dict[str, Json] = {"key": str(key)}
        if kind == MADE:
            data |= {"act": str(what), "by": "ada"}
        elif kind == ENDED:
            data |= {"state": str(what)}
        actor = str(what) if kind == TAKEN else "somebody"
        found.append(Event(number, 1000.0 + number, "staging", "", None, kind, data, actor))
    return found


@settings(max_examples=200, deadline=None, derandomize=True)
@given(written=WRITTEN)
def test_each_request_stands_in_one_state(written: list[tuple[str, object, object]]) -> None:
    """The first worker that took it has it, the first end counts, and what comes after that changes nothing."""
    events = make_events(written)
    found = trace_requests(events)
    assert list(found) == [each.seq for each in events if each.kind == MADE and each.data["act"] != "of a later day"]
    for number, request in found.items():
        later = [each for each in events if each.seq > number and each.data["key"] == str(number)]
        ends = [each for each in later if each.kind == ENDED]
        takes = [each for each in later if each.kind == TAKEN and (not ends or each.seq < ends[0].seq)]
        assert (request.taken_by, request.taken_at) == ((takes[0].actor, takes[0].at) if takes else ("", None))
        assert request.ended_at == (ends[0].at if ends else None)
        if ends:
            said = ends[0].data["state"]
            assert request.state == (said if said in OVER else RequestState.FAILED)
        else:
            assert request.state is (RequestState.TAKEN if takes else RequestState.WAITING)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(written=WRITTEN, cuts=st.lists(st.integers(0, 25), max_size=6))
def test_what_is_read_bit_by_bit_is_the_same(written: list[tuple[str, object, object]], cuts: list[int]) -> None:
    """A worker that follows them sees what a page sees that reads them all; and none ever comes back to life."""
    events = make_events(written)
    known = trace_requests([])
    places = [0, *sorted(min(each, len(events)) for each in cuts), len(events)]
    for begin, end in itertools.pairwise(places):
        read = trace_requests(events[begin:end], known)
        for number, before in known.items():
            after = read[number]
            assert after == before or not before.state.is_over
            assert before.taken_by in ("", after.taken_by)
        known = read
    assert known == trace_requests(events)


class Move(NamedTuple):
    """What somebody does at a journal after so many seconds: `make`, `take` or `end`; which request, which worker."""

    what: str
    which: int
    worker: str
    seconds: float


MOVES: Final = st.lists(
    st.builds(
        Move,
        st.sampled_from(["make", "take", "take", "end"]),
        st.integers(0, 1),
        st.sampled_from(WORKERS),
        st.sampled_from([0.0, 0.0, 0.5, 20.0, 59.0, EXPIRES_S, 60.5]),
    ),
    min_size=4,
    max_size=20,
)


@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(moves=MOVES)
def test_a_request_is_taken_once_and_in_time(moves: list[Move]) -> None:
    """By workers that have all seen it waiting, on a real journal: however late each of them comes."""
    clock, taken = toy.FakeClock(), dict[int, str]()
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(SqliteJournal(Path(folder, "journal.db"), clock)) as journal,
    ):
        made = {}
        followed = FollowedRequests(journal, "staging")
        for move in moves:
            clock.at += move.seconds
            if move.what == "make":
                before = made.get(move.which)
                made[move.which] = make_request(
                    journal, "staging", Act.PLAN, key=f"key {move.which}", by=Requester("ada"), actor="ada"
                )
                assert before is None or made[move.which].id == before.id
            elif move.which in made:
                request = made[move.which]
                if move.what == "end":
                    if taken.get(request.id) == move.worker:
                        end_request(journal, request, RequestState.DONE, actor=move.worker)
                elif take_request(journal, request, actor=move.worker):
                    assert request.id not in taken, "it was taken twice"
                    assert clock.at - request.at <= EXPIRES_S, "it was taken too late"
                    taken[request.id] = move.worker
            waiting = {each.id for each in followed.read()}
            for each in list_requests(journal, "staging"):
                assert each.taken_by in ("", taken.get(each.id, each.taken_by))
                assert (each.id in waiting) == (not each.state.is_over)
                if each.id in taken:
                    assert each.taken_by == taken[each.id]
                    assert each.state in (RequestState.TAKEN, RequestState.DONE)
                else:
                    assert each.state in (RequestState.WAITING, RequestState.EXPIRED)
                late = clock.at > each.expires_at
                assert (describe_state(each, clock.at) is RequestState.WAITING) <= (not late)
