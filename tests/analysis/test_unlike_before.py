"""Bad versions that little is known of: no baseline or one of seconds, few requests, no names, or broken late."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backout.analysis.detector.decision import Detector
from backout.analysis.shifts.volume import estimate_volume
from backout.model.guard.answers import AnswerClass
from backout.model.guard.policy import Policy
from backout.model.guard.routes import OTHER
from backout.model.guard.shift import UNMATCHED, Outcome
from backout.model.guard.signals import Counts, RouteCounts
from backout.model.guard.verdict import Verdict

from answers_sim import AT, NEW, OLD

if TYPE_CHECKING:
    from collections.abc import Callable

NOT_FOUND, REDIRECT = AnswerClass.NOT_FOUND, AnswerClass.REDIRECT
Asked = dict[str, tuple[int, int]]
"""{route: (requests, those that are answered 404)}; "" for those that the source has no route of."""


def row_of(version: str, second: int, asked: Asked, kind: AnswerClass = NOT_FOUND) -> Counts:
    routes = {name: RouteCounts(number, 0, classes={kind: bad} if bad else {}) for name, (number, bad) in asked.items()}
    requests, bad = sum(number for number, _ in asked.values()), sum(bad for _, bad in asked.values())
    routes.pop("", None)
    return Counts(version, second, requests, 0, routes=routes, classes={kind: bad} if bad else {})


def watch(
    after: Callable[[int], Asked],
    before: Asked | None = None,
    *,
    before_s: int = 600,
    watch_s: int = 600,
    split: float = 1.0,
    every_s: int = 1,
    kind: AnswerClass = NOT_FOUND,
) -> tuple[list[Verdict], Detector]:
    """Return the verdicts of a watch, looked at every 20 s, and its detector."""
    baseline = [row_of(OLD, AT - t, before) for t in range(1, before_s + 1)] if before else []
    detector = Detector(
        version=NEW, old=OLD, deployed_at=AT, split=split, baseline=baseline, policy=Policy(), watch_s=watch_s
    )
    found = []
    for t in range(watch_s):
        if t % every_s == 0:
            detector.add([row_of(NEW, AT + t, after(t), kind)])
        if t % 20 == 19:
            detector.note_until(AT + t + 1.0)
            found.append(detector.judge(AT + t + 1.0)[0])
    return found, detector


@pytest.mark.parametrize("kind", [NOT_FOUND, REDIRECT])
@pytest.mark.parametrize("every_s", [8, 3])
def test_a_slow_site_without_a_baseline_is_not_healthy_whatever_the_window_has(kind: AnswerClass, every_s: int) -> None:
    """Two minutes of it may have fewer than twenty requests; the whole watch has more, none of them answered well."""
    found, detector = watch(lambda _: {"": (1, 1)}, watch_s=700 * every_s, every_s=every_s, kind=kind)
    assert set(found) <= {Verdict.UNMEASURED, Verdict.INCONCLUSIVE}
    (shift,) = detector.decide(AT + 700.0 * every_s).shifts
    assert shift.outcome is Outcome.HOLD


def test_nor_is_one_beside_too_few_answers_of_the_old_version() -> None:
    """Nothing to compare with is no sign of health."""
    found, _ = watch(lambda t: {"": (3, 3 if t % 2 else 2)}, split=0.995)
    assert Verdict.HEALTHY not in found


@pytest.mark.parametrize("seconds", [5, 10, 20])
def test_a_baseline_of_seconds_is_no_minute(seconds: int) -> None:
    """As many good answers a minute as there were in ten seconds before are not "as many as before"."""
    found, detector = watch(lambda _: {"": (10, 8)}, {"": (10, 0)}, before_s=seconds)
    assert Verdict.HEALTHY not in found
    assert detector.decide(AT + 600.0).shifts[0].outcome is Outcome.HOLD


def test_the_law_of_a_part_of_a_minute_grants_that_it_is_one() -> None:
    """Nor does a handful of requests say how many are usual: then nothing is more or fewer than that."""
    assert estimate_volume([50], 0.5).mean == 100.0
    unknown = estimate_volume([9], 0.9)
    assert not unknown.rose(1000, 1.0, 0.0)
    assert not unknown.fell(0, 1.0, 0.0)


def test_a_small_route_that_breaks_late_is_held_however_well_it_began() -> None:
    """Every order since the fifth minute was answered 404: not nearly all of the whole watch, but all of them now."""
    before: Asked = {"GET /": (30, 0), "POST /api/orders": (1, 0)}
    broken: Asked = {"GET /": (150, 0), "POST /api/orders": (1, 1)}
    found, detector = watch(lambda t: before if t < 300 else broken, before, watch_s=600)
    last = detector.decide(AT + 600.0)
    assert found[14] is Verdict.HEALTHY
    assert set(found[17:]) == {Verdict.INCONCLUSIVE}
    assert last.shifts[0].stratum == "POST /api/orders"


def test_what_is_over_is_no_collapse_any_more() -> None:
    """Ten seconds of a route's 404s, and everything is answered well since."""
    before: Asked = {"GET /": (60, 0), "POST /api/orders": (1, 0)}
    found, detector = watch(lambda t: {**before, "POST /api/orders": (1, int(300 <= t < 310))}, before)
    assert detector.decide(AT + 600.0).shifts == ()
    assert found[-1] is Verdict.HEALTHY


@pytest.mark.parametrize("name", ["", OTHER])
def test_half_of_the_traffic_without_a_name_counts(name: str) -> None:
    """It was answered well, so it is no crawler's guesses; its 404s are of the version."""
    before: Asked = {"GET /api": (5, 0), name: (5, 0)}
    found, detector = watch(lambda _: {"GET /api": (5, 0), name: (5, 5)}, before)
    assert Verdict.HEALTHY not in found
    worst = detector.decide(AT + 600.0).shifts[0]
    assert (worst.stratum, worst.outcome) == (OTHER, Outcome.HOLD)
    assert worst.sentence.startswith("requests without a route of their own: 3,000 of 3,000 requests were answered 404")


@pytest.mark.parametrize("name", ["", OTHER, "GET /{id}"])
def test_names_that_are_lost_with_the_routes_are_held(name: str) -> None:
    """A framework names no route of what it does not find: most of what was known is gone, and as much is unknown."""
    before: Asked = {"GET /": (2, 0), "GET /app": (8, 0)}
    found, detector = watch(lambda _: {"GET /": (5, 0), name: (5, 5)}, before)
    assert Verdict.HEALTHY not in found
    worst = detector.decide(AT + 600.0).shifts[0]
    assert (worst.stratum, worst.outcome) == (UNMATCHED, Outcome.HOLD)


def test_guesses_beside_all_that_was_known_are_only_told() -> None:
    """A crawler adds; nothing is lacking."""
    before: Asked = {"GET /": (2, 0), "GET /app": (8, 0)}
    found, detector = watch(lambda _: {**before, OTHER: (10, 10)}, before)
    assert found[-1] is Verdict.HEALTHY
    assert [shift.outcome for shift in detector.decide(AT + 600.0).shifts] == [Outcome.TOLD]


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_a_site_that_is_gone_beside_the_old_one_is_rolled_back(share: float) -> None:
    """410 is meant where some routes are gone; where all of them are, it is a version that answers nothing."""
    gone = AnswerClass.GONE
    detector = Detector(version=NEW, old=OLD, deployed_at=AT, split=0.5, baseline=[], policy=Policy(), watch_s=300)
    for t in range(300):
        detector.add([row_of(NEW, AT + t, {"": (10, round(10 * share))}, gone), row_of(OLD, AT + t, {"": (10, 0)})])
    assert (detector.judge(AT + 300.0)[0] is Verdict.REGRESSED) is (share == 1.0)
