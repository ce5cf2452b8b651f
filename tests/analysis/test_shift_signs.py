"""What holds a version within its first minute: a small stratum that is answered otherwise, and people who give up."""

from __future__ import annotations

import json

import pytest
from values import replace

from backout.analysis.detector.decision import Detector
from backout.analysis.shifts.sentences import make_given_up_shift
from backout.analysis.shifts.signs import Signs
from backout.model.guard.answers import AnswerClass
from backout.model.guard.policy import Policy
from backout.model.guard.shift import Outcome
from backout.model.guard.signals import Counts, RouteCounts, find_bucket
from backout.model.guard.verdict import Verdict

from answers_sim import AT, NEW, OLD, SHOP, World, all_of, row_of, see

ORDERS = "POST /api/orders"
CUT = World(mix={**SHOP, ORDERS: 0.4}, watch_s=45)


@pytest.mark.parametrize("kind", [AnswerClass.NOT_FOUND, AnswerClass.OTHER_CLIENT_ERROR, AnswerClass.REDIRECT])
def test_a_small_stratum_that_is_gone_is_held_before_a_second_minute(kind: AnswerClass) -> None:
    """No single minute rolls back in a cut-over; but nobody calls that healthy either."""
    seen = see(replace(CUT, new=all_of(kind, only=ORDERS)), 1)
    (shift,) = [shift for shift in seen.decision.shifts if shift.stratum == ORDERS]
    assert shift.outcome is Outcome.HOLD
    assert seen.decision.verdict is Verdict.INCONCLUSIVE


def test_a_past_of_half_a_minute_is_enough_to_hold_for() -> None:
    """Ten answers that were good before, and twelve that are none of them now: a person is asked."""

    def second(version: str, at: int, kind: AnswerClass | None) -> Counts:
        asked = {ORDERS: RouteCounts(1, 0, classes={} if kind is None else {kind: 1})} if at % 3 == 0 else {}
        return row_of(version, at, {"GET /": RouteCounts(60, 0)} | asked)

    before = [second(OLD, AT - 30 + t, None) for t in range(30)]
    detector = Detector(version=NEW, old=OLD, deployed_at=AT, split=1.0, baseline=before, policy=Policy())
    detector.add([second(NEW, AT + t, AnswerClass.OTHER_CLIENT_ERROR) for t in range(40)])
    detector.note_until(AT + 40)
    decision = detector.decide(AT + 40)
    assert [(shift.stratum, shift.outcome) for shift in decision.shifts] == [(ORDERS, Outcome.HOLD)]
    assert decision.verdict is Verdict.INCONCLUSIVE


def rows(seconds: int, canceled: int, first: int = 0) -> list[Counts]:
    return [Counts("v", first + t, 60, 0, canceled if t % 20 == 0 else 0) for t in range(seconds)]


@pytest.mark.parametrize(
    ("before", "after", "left"),
    [(0, 0, False), (0, 20, True), (0, 3, False), (20, 20, False), (5, 45, True), (20, 40, False)],
)
def test_people_who_give_up(before: int, after: int, left: bool) -> None:
    """Far more of them than before are a sign; as many as before, three times as many, or a few, are none."""
    signs = Signs(rows(60, before))
    for row in rows(60, after, 60):
        signs.add(row)
    assert (signs.left is not None) is left
    again = Signs(())
    again.restore(json.loads(json.dumps(signs.state())))
    assert again.left == signs.left


def waiting(seconds: int, first: int, given_up: dict[str, int] | None = None) -> list[Counts]:
    """Return rows of a page that takes 10 ms and a stream that takes a minute; each second one of each gives up."""
    page, stream = RouteCounts(60, 0, {find_bucket(10): 60}), RouteCounts(6, 0, {find_bucket(50_000): 6})
    whole = {**page.latency, **stream.latency}
    routes = {"GET /": page, "GET /events": stream}
    left = {name: {find_bucket(ms): 1} for name, ms in (given_up or {}).items()}
    return [Counts("v", first + t, 66, 0, len(left), whole, routes, left=left) for t in range(seconds)]


@pytest.mark.parametrize(
    ("given_up", "left"),
    [
        ({"GET /": 5}, 0),
        ({"GET /": 3000}, 60),
        ({"GET /events": 30_000}, 0),
        ({"GET /": 3000, "GET /events": 30_000}, 60),
        ({"GET /seldom": 30_000}, 0),
        ({"GET /seldom": 58_000}, 60),
    ],
)
def test_people_who_leave_earlier_than_answers_come_do_not_give_up(given_up: dict[str, int], left: int) -> None:
    """As long as the slowest answers but one in a thousand of their route took before, of all where it is unknown."""
    signs = Signs(waiting(60, 0))
    for row in waiting(60, 60, given_up):
        signs.add(row)
    again = Signs(())
    again.restore(json.loads(json.dumps(signs.state())))
    for each in (signs, again):
        found = each.left
        assert (found.number if found else 0) == left
        if found is not None:
            ended = "4,080" if len(given_up) == 2 else "4,020"
            said = f"60 of {ended} requests were given up after longer than nearly every answer of their route took"
            assert make_given_up_shift(found).sentence.startswith(said)


def test_without_a_past_nobody_knows_how_many_give_up() -> None:
    """It is no sign, also where a checkpoint of an earlier version tells nothing of it."""
    signs = Signs(())
    for row in rows(60, 30):
        signs.add(row)
    assert signs.left is None
    signs.restore({"usual": 0.0, "started": 0, "ended": 3600})
    assert signs.left is None


def begun(seconds: int, rate: int, open_s: int, first: int = 0) -> list[Counts]:
    """Return rows of requests that are answered so many seconds after they began."""
    return [Counts("v", first + t, rate if t >= open_s else 0, 0, started=rate) for t in range(seconds)]


@pytest.mark.parametrize(("rate", "crowd", "hanging"), [(10, 0.0, 0), (100, 10.0, 0), (100, 0.0, 180)])
def test_a_crowd_has_more_requests_open_at_a_time(rate: int, crowd: float, hanging: int) -> None:
    """Ten times as many come, and each of them takes as long as before: nothing hangs."""
    signs = Signs(begun(60, 10, 2))
    for row in begun(60, rate, 2, 60):
        signs.add(row)
    assert signs.hanging(crowd) == pytest.approx(hanging, abs=2)


@pytest.mark.parametrize(("ended", "hanging"), [(50, 0), (10, 2400)])
def test_without_a_past_most_of_what_began_has_to_hang(ended: int, hanging: int) -> None:
    """How many are open at a time, nobody knows then; and a checkpoint knows that nobody does."""
    signs = Signs(())
    for t in range(60):
        signs.add(Counts("v", t, ended if t else 0, 0, started=50))
    again = Signs(())
    again.restore(json.loads(json.dumps(signs.state())))
    assert signs.hanging(0.0) == again.hanging(0.0) == pytest.approx(hanging, abs=60)
