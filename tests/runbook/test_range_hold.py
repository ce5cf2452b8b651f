"""A worker's hold on a range: it knows by itself when it must not change anything any more."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest

from backout.errors import ProviderUnavailable
from backout.model.objects.ranges import Claimed, RangeWork
from backout.model.objects.versions import Carried, ChangeKind, Moment, ObjectChange, Outcome
from backout.runbook.objects import ranges
from backout.runbook.objects.ranges import Hold, RangeLost, work_on
from backout.runbook.objects.tools import Spread

from polling import until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CHANGES = (ObjectChange(ChangeKind.REMOVE, "k", "v1"), ObjectChange(ChangeKind.REMOVE, "l", "v1"))
WORK = RangeWork(
    place="here",
    version="1",
    prefix="",
    moment=Moment(1.0, 2.0),
    again=False,
    attempts=(),
    ahead_s=0.0,
    skew_s=0.0,
    changes=CHANGES,
)
CLAIMED = Claimed("recover-1", 0, 1, WORK, ())


class Claims:
    """Port RangeClaims, as a test has its answers."""

    def __init__(self, beat: Callable[[], bool] = lambda: True, *, keeps: bool = True) -> None:
        self._beat, self._keeps = beat, keeps
        self.beats: list[int] = []
        self.settled: list[Sequence[Carried]] = []
        self.released: list[str] = []

    def claim(self, run: str, first: int | None, worker: str, *, place: str) -> Claimed | None:
        return CLAIMED

    def beat(self, claimed: Claimed, done: int) -> bool:
        self.beats.append(done)
        return self._beat()

    def settle(self, claimed: Claimed, carried: Sequence[Carried]) -> bool:
        self.settled.append(carried)
        return self._keeps

    def release(self, claimed: Claimed, why: str) -> None:
        self.released.append(why)


class Bucket:
    """The part of port BucketVersions that a range needs."""

    def __init__(self, check: Callable[[], None], act: Callable[[], None]) -> None:
        self._check, self._act = check, act

    def carry_out(self, changes: Sequence[ObjectChange], *, hear: Callable[[int], None], **_: Any) -> list[Carried]:
        for done, _change in enumerate(changes, start=1):
            self._check()
            self._act()
            hear(done)
        return [Carried(Outcome.DONE)] * len(changes)


def make_spread(claims: Claims, act: Callable[[], None] = lambda: None) -> Spread:
    connect: Any = lambda: nullcontext(claims)  # noqa: E731
    open_bucket: Any = lambda _prefix, _moment, check: Bucket(check, act)  # noqa: E731
    return Spread(place="here", worker="ann", connect=connect, open=open_bucket)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a second of a worker pass at once."""
    monkeypatch.setattr(ranges, "_BEAT_S", 0.01)


def test_what_was_done_is_kept(quick: None) -> None:
    claims = Claims()
    work_on(make_spread(claims), claims, CLAIMED, threading.Event())
    assert claims.settled == [[Carried(Outcome.DONE)] * 2]
    assert claims.released == []


def test_a_range_that_is_anothers_is_left_at_once(quick: None) -> None:
    """It hears so by its own beat; nothing more is changed."""
    claims, changed = Claims(lambda: False), []

    def act() -> None:
        changed.append(1)
        until(
            lambda: not any(each.name == "backout-range" for each in threading.enumerate()), what="its beat was refused"
        )

    with pytest.raises(RangeLost):
        work_on(make_spread(claims, act), claims, CLAIMED, threading.Event())
    assert (len(changed), len(claims.beats), claims.released) == (1, 1, [""])


def test_who_was_silent_for_too_long_knows_it_without_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was stopped: it is the time that tells it, before the next beat does."""
    claims, now = Claims(), [100.0]
    monkeypatch.setattr(ranges.time, "clock_gettime", lambda _clock: now[0])
    hold = Hold(claims, CLAIMED, threading.Event())
    now[0] += 7.9
    hold.check()
    now[0] += 0.2
    with pytest.raises(RangeLost, match="not this worker's any more"):
        hold.check()
    with pytest.raises(RangeLost):
        hold.hear(1)
    assert claims.beats == []


def test_a_server_that_does_not_answer_for_a_moment_is_asked_again(quick: None) -> None:
    answers = iter([True, False])

    def beat() -> bool:
        if next(answers, False):
            raise ProviderUnavailable("the journal's server does not answer")
        return True

    claims = Claims(beat)
    work_on(
        make_spread(claims, lambda: until(lambda: len(claims.beats) > 2) and None), claims, CLAIMED, threading.Event()
    )
    assert len(claims.settled) == 1


def test_who_is_asked_to_stop_gives_the_range_back(quick: None) -> None:
    claims, stop = Claims(), threading.Event()
    with pytest.raises(RangeLost, match="asked to stop"):
        work_on(make_spread(claims, stop.set), claims, CLAIMED, stop)
    assert (claims.settled, claims.released) == ([], [""])


def test_what_failed_is_told_to_the_driver(quick: None) -> None:
    claims = Claims()

    def act() -> None:
        raise ProviderUnavailable("the store does not answer")

    with pytest.raises(ProviderUnavailable):
        work_on(make_spread(claims, act), claims, CLAIMED, threading.Event())
    assert claims.released == ["ann: the store does not answer"]


def test_a_result_that_comes_too_late_is_not_this_workers(quick: None) -> None:
    claims = Claims(keeps=False)
    with pytest.raises(RangeLost):
        work_on(make_spread(claims), claims, CLAIMED, threading.Event())
