"""Shifts in what is answered: each row of the decision table, and odd healthy deployments that are left alone."""

from __future__ import annotations

import json
from dataclasses import replace as altered
from typing import TYPE_CHECKING

import pytest
from values import replace

from backout.analysis.detector.decision import Detector
from backout.analysis.shifts import Shifts
from backout.model.guard.answers import AnswerClass
from backout.model.guard.policy import Expectation, GuardPolicy, OnInconclusive, Policy
from backout.model.guard.probes import PairedAnswer, SyntheticAnswer, VersionAnswer
from backout.model.guard.shift import UNMATCHED, Outcome, ShiftKind
from backout.model.guard.signals import Counts, RouteCounts
from backout.model.guard.verdict import Cause, Verdict

from answers_sim import AT, ERROR, NEW, OLD, USUAL, Answering, Answers, World, all_of, detector_of, more_of, row_of, see
from extent import by_extent

if TYPE_CHECKING:
    from collections.abc import Callable

NOT_FOUND, DENIED, REDIRECT = AnswerClass.NOT_FOUND, AnswerClass.DENIED, AnswerClass.REDIRECT
WATCH_S, WORSE, ALIKE = 150, VersionAnswer(404), VersionAnswer(200)
CUT, HALF = World(watch_s=WATCH_S), World(watch_s=WATCH_S, split=0.5)
DRY = Policy(guard=GuardPolicy(on_inconclusive=OnInconclusive.ACCEPT))


def pairs(number: int, new: VersionAnswer = WORSE, old: VersionAnswer = ALIKE) -> list[PairedAnswer]:
    return [PairedAnswer(AT + 60.0, "/app", new, old)] * number


def judged(detector: Detector, at: float = AT + WATCH_S) -> tuple[Verdict, Cause]:
    verdict, cause, _ = detector.judge(at)
    return verdict, cause


@pytest.mark.parametrize("kind", [NOT_FOUND, DENIED, REDIRECT, AnswerClass.BAD_REQUEST, AnswerClass.LIMITED])
@pytest.mark.parametrize("split", [0.5, 0.1])
def test_in_a_split_the_labels_decide(kind: AnswerClass, split: float) -> None:
    """Everything of the new version is answered otherwise, and nothing of the old one: gone within seconds."""
    seen = see(World(split=split, new=all_of(kind), watch_s=60), 1)
    assert seen.regressed_s is not None
    assert seen.regressed_s <= 15
    assert (seen.decision.cause, seen.decision.shifts[0].to) == (Cause.ANSWERS, kind)
    assert seen.decision.reason.split(";")[0].endswith(("by the version beside it", "before"))
    assert not seen.detector.wants_probe


def test_in_a_split_with_sticky_visitors_it_is_held() -> None:
    """Then the labels are not random: it is advice."""
    seen = see(altered(HALF, new=all_of(NOT_FOUND)), 1, Policy(guard=GuardPolicy(sticky=True)))
    assert (seen.decision.verdict, seen.decision.cause) == (Verdict.INCONCLUSIVE, Cause.ANSWERS)
    assert seen.decision.shifts[0].outcome is Outcome.HOLD


def test_in_a_cut_over_a_shift_is_held_until_pairs_decide() -> None:
    """Shares and good answers a minute fell: a probe is wanted; ten pairs that are worse roll back, and none holds."""
    world = altered(CUT, new=all_of(NOT_FOUND, only="GET /app"))
    seen = see(world, 1)
    assert (seen.decision.verdict, seen.decision.cause) == (Verdict.INCONCLUSIVE, Cause.ANSWERS)
    assert seen.detector.wants_probe
    seen.detector.add_pairs(pairs(1))
    assert judged(seen.detector)[0] is Verdict.INCONCLUSIVE
    seen.detector.add_pairs(pairs(2))
    verdict, cause, reason = seen.detector.judge(AT + WATCH_S)
    assert (verdict, cause) == (Verdict.REGRESSED, Cause.ANSWERS)
    assert "GET /app: " in reason or "of 3," in reason
    assert "were answered 404 (not found)" in reason


@pytest.mark.parametrize(("kind", "status"), [(AnswerClass.LIMITED, 429), (DENIED, 403)])
def test_in_a_cut_over_a_limit_of_requests_is_held(kind: AnswerClass, status: int) -> None:
    """What limits robots answers guard's own requests so as well: such pairs are no evidence, and of 429 none is."""
    seen = see(altered(CUT, new=all_of(kind, only="GET /app")), 1)
    seen.detector.add_pairs(pairs(24, VersionAnswer(status)))
    verdict, cause, reason = seen.detector.judge(AT + WATCH_S)
    assert (verdict, cause) == (Verdict.INCONCLUSIVE, Cause.ANSWERS)
    assert "one version alone refused 24 of them (403 or 429)" in reason
    seen.detector.add_pairs(pairs(3))
    assert judged(seen.detector)[0] is (Verdict.INCONCLUSIVE if status == 429 else Verdict.REGRESSED)


def test_two_that_fail_of_a_route_that_worked_are_worth_a_question() -> None:
    """Too few to hold anything, and the verdict is not said before the answer; 410 asks nothing, it was meant."""
    world = World(mix={"GET /": 4.0, "GET /search": 2.0}, usual={"GET /": {}, "GET /search": {}})
    for kind, asks in ((AnswerClass.NOT_FOUND, True), (AnswerClass.GONE, False)):
        answering = Answering(altered(world, new=all_of(kind, only="GET /search")), 5)
        detector = detector_of(world, answering, can_ask=True)
        seen = 0
        for t in range(30):
            rows = answering.second(t)
            seen += sum(row.routes["GET /search"].requests for row in rows if "GET /search" in row.routes)
            detector.add(rows)
            detector.note_until(AT + t + 1)
            if seen >= 2:
                break
        assert seen == 2
        assert detector.judge(AT + t + 1)[0] is Verdict.INCONCLUSIVE
        assert not any(shift.outcome == "hold" for shift in detector.decide(AT + t + 1).shifts)
        assert detector.wants_probe is asks
        assert ("GET /search" in detector.suspected) is asks


def test_a_page_that_moved_is_told_in_a_short_watch_too() -> None:
    """301 to a page that is there, on a route with few requests: told, and only requests are lacking in the end."""
    world = World(mix={"GET /": 4.0, "GET /a": 0.5}, usual={"GET /": {}, "GET /a": {}}, watch_s=60)
    answering = Answering(altered(world, new=all_of(REDIRECT, only="GET /a")), 3)
    detector = detector_of(world, answering, can_ask=True)
    moved = PairedAnswer(AT + 1.0, "/a", VersionAnswer(301, "/b", ends_well=True), ALIKE)
    for t in range(60):
        detector.add(answering.second(t))
        detector.note_until(AT + t + 1)
        if detector.wants_probe:
            detector.add_pairs([moved])
    found = detector.decide(AT + 60)
    assert (found.verdict, found.cause) == (Verdict.INCONCLUSIVE, Cause.NONE)
    assert "more requests would tell" in found.reason
    assert [(shift.name, shift.outcome) for shift in found.shifts] == [("GET:/a:3xx", Outcome.TOLD)]


def test_a_page_that_moved_says_nothing_of_another_route() -> None:
    """One page moved for good, as asking shows, and orders are answered with a redirect to the login: that is held."""
    world = World(mix={"GET /": 4.0, "POST /api/orders": 0.5}, usual={"GET /": {}, "POST /api/orders": {}}, watch_s=120)
    answering = Answering(altered(world, new=all_of(REDIRECT, only="POST /api/orders")), 3)
    detector = detector_of(world, answering, can_ask=True)
    moved = PairedAnswer(AT + 1.0, "/about", VersionAnswer(301, "/about-us", ends_well=True), ALIKE)
    for t in range(120):
        detector.add(answering.second(t))
        detector.note_until(AT + t + 1)
        if detector.wants_probe:
            detector.add_pairs([moved])
    found = detector.decide(AT + 120)
    assert (found.verdict, found.cause) == (Verdict.INCONCLUSIVE, Cause.ANSWERS)
    assert [(shift.name, shift.outcome) for shift in found.shifts] == [("POST:/api/orders:3xx", Outcome.HOLD)]


@pytest.mark.parametrize(("path", "new"), [("/app", 200), ("/account", 200), ("/account", 404)])
def test_pairs_excuse_what_both_answer_so_and_nothing_else(path: str, new: int) -> None:
    """Both were alike on another request, or while this one was still answered well: its 404 is held all the same."""
    answering = Answering(World(watch_s=240), 3)
    detector = detector_of(World(watch_s=240), answering, can_ask=True)
    both = VersionAnswer(new)
    detector.add_pairs([PairedAnswer(AT + 1.0, path, both, both)] * 12)
    for t in range(240):
        detector.add(answering.second(t))
        detector.note_until(AT + t + 1)
        detector.add_synthetic([SyntheticAnswer(AT + t, "/account", 200 if t < 200 else 404)])
    found = detector.decide(AT + 240)
    (shift,) = found.shifts
    assert (shift.name, shift.outcome) == ("GET:/account:404", Outcome.HOLD if new == 200 else Outcome.TOLD)
    assert found.verdict is Verdict.INCONCLUSIVE


def test_one_that_fails_or_a_route_that_often_does_asks_nothing() -> None:
    """One of three logins is denied as a rule: two in a row are nobody's fault."""
    world = World(mix={"GET /": 4.0, "POST /login": 2.0}, usual={**USUAL, "POST /login": {AnswerClass.DENIED: 0.3}})
    answering = Answering(altered(world, new=all_of(AnswerClass.DENIED, only="POST /login")), 2)
    detector = detector_of(world, answering, can_ask=True)
    detector.add(answering.second(0))
    detector.note_until(AT + 1)
    assert not detector.wants_probe


def test_what_is_gone_on_purpose_makes_nothing_else_worse() -> None:
    """A route that answers 410 and, as ever, a few requests that nobody understands: no more of those than before."""
    usual: Answers = {"GET /": {}, "GET /search": {AnswerClass.BAD_REQUEST: 0.01}}
    world = World(mix={"GET /": 10.0, "GET /search": 2.5}, usual=usual, split=0.1)
    detector = detector_of(world, Answering(world, 1))
    for t in range(160):
        kind = AnswerClass.BAD_REQUEST if t in (9, 60, 120) else AnswerClass.GONE
        odd = {AnswerClass.BAD_REQUEST: 1} if t == 80 else {}
        rows = [row_of(OLD, AT + t, {"GET /": RouteCounts(9, 0), "GET /search": RouteCounts(2, 0, classes=odd)})]
        found = {"GET /": RouteCounts(1, 0)}
        if t % 3 == 0:
            found["GET /search"] = RouteCounts(1, 0, classes={kind: 1})
        detector.add((*rows, row_of(NEW, AT + t, found)))
        detector.note_until(AT + t + 1)
        assert detector.judge(AT + t + 1)[0] is not Verdict.REGRESSED
    assert {shift.outcome for shift in detector.decide(AT + 160).shifts} == {Outcome.TOLD}


def test_pairs_that_are_alike_ask_no_more_and_hold() -> None:
    """Both answer alike: the probe cannot see what visitors see, and a person decides."""
    seen = see(altered(CUT, new=all_of(DENIED, only="GET /api")), 1)
    assert seen.detector.wants_probe
    seen.detector.add_pairs(pairs(11, ALIKE))
    assert not seen.detector.wants_probe
    assert judged(seen.detector) == (Verdict.INCONCLUSIVE, Cause.ANSWERS)


def test_pairs_that_both_fail_say_that_it_is_not_the_deployment() -> None:
    """An identity provider is down, or the database of both."""
    seen = see(altered(CUT, both=all_of(DENIED, only="GET /a")), 1)
    seen.detector.add_pairs(pairs(3, VersionAnswer(503), VersionAnswer(503)))
    verdict, cause, reason = seen.detector.judge(AT + WATCH_S)
    assert (verdict, cause) == (Verdict.INCONCLUSIVE, Cause.OUTSIDE)
    assert "not the deployment" in reason


@pytest.mark.parametrize("kind", [NOT_FOUND, REDIRECT, DENIED])
def test_extinction_is_rolled_back_at_once(kind: AnswerClass) -> None:
    """Next to nothing of the site is answered well, of twenty requests in known strata."""
    seen = see(World(new=all_of(kind), watch_s=30), 1)
    assert seen.regressed_s in (1, 2)
    assert seen.decision.shifts[0].kind is ShiftKind.EXTINCTION
    assert seen.decision.reason.startswith("none of ")


def outage(since_s: int, until_s: int, share: float = 0.8) -> Callable[[int, Answers], Answers]:
    """Return that logins are denied from one second to another, whichever version is asked."""
    return lambda t, usual: all_of(DENIED, share, only="POST /login")(t, usual) if since_s <= t < until_s else usual


@pytest.mark.parametrize(("until_s", "verdict"), [(270, Verdict.HEALTHY), (600, Verdict.INCONCLUSIVE)])
def test_logins_that_failed_for_a_while_in_a_cut_over(until_s: int, verdict: Verdict) -> None:
    """An identity provider was down: held meanwhile, healthy once enough is seen of what came after, and it is said."""
    world = World(mix={**CUT.mix, "POST /login": 2.0}, both=outage(60, until_s))
    held = False
    answering = Answering(world, 3)
    detector = detector_of(world, answering)
    for t in range(world.watch_s):
        detector.add(answering.second(t))
        detector.note_until(AT + t + 1)
        if t % 20 == 0:
            held = held or judged(detector, AT + t + 1)[1] is Cause.ANSWERS
    found, cause, reason = detector.judge(AT + world.watch_s)
    assert held
    assert found is verdict, reason
    assert ("fewer answers were good than before, which is over" in reason) is (verdict is Verdict.HEALTHY)
    again = Detector.from_state(json.loads(json.dumps(detector.state())), Policy())
    assert again.judge(AT + world.watch_s) == (found, cause, reason)


def test_extinction_waits_for_a_probe_where_one_can_be_made_and_two_alike_veto() -> None:
    """Five seconds; pairs that are worse end the wait, pairs that are alike hold."""
    answering = Answering(World(new=all_of(NOT_FOUND)), 5)
    detector = detector_of(World(), answering, can_ask=True)
    for t in range(3):
        detector.add(answering.second(t))
        detector.note_until(AT + t + 1)
        assert judged(detector, AT + t + 1)[0] is Verdict.INCONCLUSIVE
        assert detector.wants_probe
    saved = json.loads(json.dumps(detector.state()))
    assert judged(detector, AT + 20)[0] is Verdict.REGRESSED
    worse, alike = (Detector.from_state(saved, Policy()) for _ in range(2))
    worse.add_pairs(pairs(1))
    assert judged(worse, AT + 4)[0] is Verdict.REGRESSED
    alike.add_pairs(pairs(11, ALIKE))
    assert judged(alike, AT + 20) == (Verdict.INCONCLUSIVE, Cause.ANSWERS)


def test_a_site_that_is_gone_is_rolled_back_although_no_pair_is_worse() -> None:
    """410 to everything in a cut-over: pairs in which the new version says so are neither worse nor alike."""
    answering = Answering(World(new=all_of(AnswerClass.GONE)), 5)
    detector = detector_of(World(), answering, can_ask=True)
    for t in range(3):
        detector.add(answering.second(t))
        detector.note_until(AT + t + 1)
        detector.judge(AT + t + 1)
    detector.add_pairs(pairs(20, VersionAnswer(410)))
    assert judged(detector, AT + 4)[0] is Verdict.INCONCLUSIVE
    assert judged(detector, AT + 20)[0] is Verdict.REGRESSED


def test_a_site_that_is_gone_is_never_healthy_however_much_is_asked() -> None:
    """410 to everything, and half as many requests again: so many that it is no extinction, and yet no retired API."""
    more = altered(CUT, visitors=lambda _, mix: {name: 1.5 * rate for name, rate in mix.items()})
    answering = Answering(altered(more, new=all_of(AnswerClass.GONE)), 3)
    detector = detector_of(CUT, answering, can_ask=True)
    for t in range(WATCH_S):
        detector.add(answering.second(t))
        detector.note_until(AT + t + 1)
    found = detector.decide(AT + WATCH_S)
    assert (found.verdict, found.cause) == (Verdict.INCONCLUSIVE, Cause.ANSWERS)
    assert found.shifts[0].name == "site:410"


@pytest.mark.parametrize(("split", "errors"), [(1.0, True), (0.5, True), (1.0, False)])
def test_small_and_vital(split: float, errors: bool) -> None:
    """Every order fails, half a percent of the traffic: found by its own few requests, and named first."""
    kind = ERROR if errors else NOT_FOUND
    rates = {name: rate * (0.5 if name == "POST /api/orders" else 1.0) for name, rate in CUT.mix.items()}
    seen = see(World(mix=rates, split=split, new=all_of(kind, only="POST /api/orders"), watch_s=400), 1)
    assert (seen.regressed_s is not None) == errors
    assert seen.decision.reason.startswith("POST /api/orders: ")
    assert ("requests failed, " if errors else "were answered 404") in seen.decision.reason
    assert seen.decision.verdict is (Verdict.REGRESSED if errors else Verdict.INCONCLUSIVE)


def test_nine_of_nine_orders_fail() -> None:
    """The trial's case: none of 300 orders failed before, then each of nine does, among 3,000 good answers."""

    def route(requests: int, errors: int = 0) -> RouteCounts:
        return RouteCounts(requests, errors)

    before = [
        row_of(OLD, AT - t, {"GET /": route(10)} | ({"POST /api/orders": route(1)} if t % 6 == 0 else {}))
        for t in range(1, 1801)
    ]
    detector = Detector(version=NEW, old=OLD, deployed_at=AT, split=1.0, baseline=before, policy=Policy())
    for t in range(60):
        parts = {"GET /": route(50)} | ({"POST /api/orders": route(1, 1)} if t % 6 == 0 and t < 54 else {})
        detector.add([row_of(NEW, AT + t, parts)])
        if judged(detector, AT + t + 1)[0] is Verdict.REGRESSED:
            break
    decision = detector.decide(AT + t + 1)
    assert decision.verdict is Verdict.REGRESSED
    assert decision.reason.startswith(
        f"POST /api/orders: {decision.errors} of {decision.errors} requests failed, 0 of 300"
    )
    assert decision.errors <= 6


def test_what_fails_for_all_is_named_first_though_too_few_were_seen_before_to_act() -> None:
    """All of ten orders fail, and only six were seen before: how many requests failed of all would hide it."""
    good, order = RouteCounts(10, 0), RouteCounts(1, 0)
    rows = [
        row_of(OLD, AT - t, {"GET /": good} | ({"POST /api/orders": order} if t % 10 == 0 else {})) for t in range(61)
    ]
    detector = Detector(version=NEW, old=OLD, deployed_at=AT, split=1.0, baseline=rows[1:], policy=Policy())
    for t in range(60):
        parts = {"GET /": good} | ({"POST /api/orders": RouteCounts(1, 1)} if t % 6 == 0 else {})
        detector.add([row_of(NEW, AT + t, parts)])
    verdict, cause, reason = detector.judge(AT + 60)
    assert (verdict, cause) == (Verdict.INCONCLUSIVE, Cause.NONE)
    assert reason.startswith("POST /api/orders: 10 of 10 requests failed, 0 of 6 before; 10 of 610 requests failed; ")


def told(seen_shifts: object) -> bool:
    return all(shift.outcome is Outcome.TOLD for shift in seen_shifts)  # type: ignore[attr-defined]


HEALTHY = {
    "quiet": CUT,
    "campaign": altered(CUT, visitors=more_of(**{"GET /": 6.0, "GET /app": 2.0})),
    "crawler": altered(CUT, visitors=lambda _, mix: mix | {f"GET /wp-{n}": 4.0 for n in range(10)}),
    "attack": altered(CUT, visitors=more_of(**{"POST /login": 40.0}), both=all_of(DENIED, 0.97, only="POST /login")),
    "attack in a split": altered(
        HALF, visitors=more_of(**{"POST /login": 40.0}), both=all_of(DENIED, 0.97, only="POST /login")
    ),
    "an attack that ends": altered(
        CUT,
        visitors=lambda t, mix: mix | {"POST /login": 24.0 if 60 <= t < 150 else 0.6},
        both=lambda t, usual: all_of(DENIED, 0.97, only="POST /login")(t, usual) if 60 <= t < 150 else usual,
    ),
    "retired": altered(CUT, new=all_of(AnswerClass.GONE, only="GET /api")),
    "a new route": altered(CUT, visitors=lambda _, mix: mix | {"GET /new": 6.0}),
    "fewer of one route": altered(CUT, visitors=more_of(**{"GET /api/items": 0.1})),
    "peak": altered(CUT, visitors=lambda _, mix: {name: 4 * rate for name, rate in mix.items()}),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_odd_healthy_deployments_are_healthy(name: str) -> None:
    """What visitors do otherwise, and what a version announces as gone, is told at most."""
    for seed in range(1, 1 + by_extent(1, 3, proof=6)):
        seen = see(altered(HEALTHY[name], watch_s=300), seed)
        assert seen.regressed_s is None
        assert seen.decision.verdict is Verdict.HEALTHY, seen.decision.reason
        assert told(seen.decision.shifts)
    if name in ("attack", "retired"):
        assert seen.decision.shifts


HELD = {
    "logout wave": altered(CUT, both=all_of(REDIRECT, 0.9, only="GET /account")),
    "identity provider down": altered(CUT, both=all_of(DENIED, only="GET /a")),
    "app release full of 400s": altered(CUT, both=all_of(AnswerClass.BAD_REQUEST, 0.6, only="GET /api")),
    "rate limit": altered(CUT, new=all_of(AnswerClass.LIMITED, 0.7, only="GET /app")),
}


@pytest.mark.parametrize("name", HELD)
def test_what_looks_like_a_bad_version_in_a_cut_over_is_held_and_never_rolled_back(name: str) -> None:
    """No probe says that the version is behind it; whatever the policy makes of a watch without a verdict."""
    for seed in range(1, 1 + by_extent(1, 3, proof=6)):
        seen = see(HELD[name], seed, DRY)
        assert seen.regressed_s is None
        assert (seen.decision.verdict, seen.decision.cause) == (Verdict.INCONCLUSIVE, Cause.ANSWERS)
    if name != "rate limit":
        beside = see(altered(HELD[name], split=0.5), 1)
        assert beside.regressed_s is None


def test_a_page_that_has_moved_is_told() -> None:
    """A redirect for good whose target is there, as the pairs show."""
    seen = see(altered(CUT, new=all_of(REDIRECT, only="GET /app")), 1)
    assert seen.decision.cause is Cause.ANSWERS
    seen.detector.add_pairs(pairs(11, VersionAnswer(301, "/new", ends_well=True)))
    assert seen.detector.judge(AT + WATCH_S)[1] is not Cause.ANSWERS
    assert told(seen.detector.decide(AT + WATCH_S).shifts)


def test_a_redirect_loop_is_rolled_back() -> None:
    """Three loops that the version before does not have."""
    seen = see(CUT, 1)
    seen.detector.add_pairs(pairs(3, VersionAnswer(302, "/", ends_well=False, loops=True)))
    verdict, cause, reason = seen.detector.judge(AT + WATCH_S)
    assert (verdict, cause) == (Verdict.REGRESSED, Cause.ANSWERS)
    assert "leads round and round" in reason


def test_what_is_declared_is_good() -> None:
    """`guard.expect` in the file: neither a shift nor a fall."""
    expect = (Expectation("GET", "/app", (404,)), Expectation("GET", "/api/*", (403,)))
    policy = Policy(guard=GuardPolicy(expect=expect))
    both = all_of(NOT_FOUND, only="GET /app")
    world = World(new=lambda t, a: all_of(DENIED, only="GET /api")(t, both(t, a)), watch_s=300)
    seen = see(world, 1, policy)
    assert (seen.decision.verdict, seen.decision.shifts) == (Verdict.HEALTHY, ())
    assert see(world, 1).decision.verdict is not Verdict.HEALTHY


def test_what_a_person_accepts_ends_a_hold_and_survives_a_crash() -> None:
    """By the shift's name; in a detector made anew the counts are fed again, and the looks restored."""
    world = World(new=all_of(NOT_FOUND, only="GET /app"), watch_s=300)
    seen = see(world, 1)
    name = next(shift.name for shift in seen.decision.shifts if shift.stratum == "GET /app")
    assert name == "GET:/app:404"
    seen.detector.accept("GET:/account:404")
    assert judged(seen.detector, AT + 300)[0] is Verdict.INCONCLUSIVE
    seen.detector.accept(name)
    assert judged(seen.detector, AT + 300)[0] is Verdict.HEALTHY
    saved = json.loads(json.dumps(seen.detector.looks()))
    answering = Answering(world, 1)
    again = detector_of(world, answering)
    for t in range(300):
        again.add(answering.second(t))
    assert judged(again, AT + 300)[0] is Verdict.INCONCLUSIVE
    again.restore_looks(saved)
    assert judged(again, AT + 300)[0] is Verdict.HEALTHY


def test_traffic_that_falls_below_a_third_is_held() -> None:
    """Half of it, or an evening, is not; without a baseline nothing is said."""

    def thinner(part: float, **more: int) -> World:
        return World(visitors=lambda _, mix: {name: part * rate for name, rate in mix.items()}, watch_s=240, **more)

    held = see(thinner(0.1), 1).decision
    assert (held.cause, held.shifts[0].kind) == (Cause.ANSWERS, ShiftKind.TRAFFIC)
    assert not see(thinner(0.5), 1).decision.shifts
    assert not see(thinner(0.1, baseline_s=0), 1).decision.shifts


def test_empty_bodies_are_held() -> None:
    """Over half of a route's answers are below a tenth of the shortest before; another length is a new front end."""

    def row(version: str, second: int, bucket: int) -> Counts:
        return row_of(version, second, {"GET /": RouteCounts(5, 0, sizes={bucket: 5})})

    for bucket, held in ((3, True), (10, False), (14, False)):
        before = [row(OLD, AT - t, 12) for t in range(1, 301)]
        detector = Detector(version=NEW, old=OLD, deployed_at=AT, split=1.0, baseline=before, policy=Policy())
        detector.add([row(NEW, AT + t, bucket) for t in range(240)])
        shifts = detector.decide(AT + 240).shifts
        assert [shift.kind for shift in shifts] == ([ShiftKind.SIZE] if held else [])


def test_requests_that_begin_and_do_not_end_are_held() -> None:
    """Where the source shows that they begin; as many open ones as before are usual."""

    def row(version: str, second: int, ended: int) -> Counts:
        return replace(row_of(version, second, {"GET /": RouteCounts(ended, 0)}), started=20)

    for ended, held in ((18, True), (20, False)):
        before = [row(OLD, AT - t, 20) for t in range(1, 301)]
        detector = Detector(version=NEW, old=OLD, deployed_at=AT, split=1.0, baseline=before, policy=Policy())
        detector.add([row(NEW, AT + t, ended) for t in range(120)])
        shifts = detector.decide(AT + 120).shifts
        assert [shift.kind for shift in shifts] == ([ShiftKind.HANGING] if held else [])


@pytest.mark.parametrize("split", [1.0, 0.5])
def test_a_restored_detector_goes_on_with_its_shifts(split: float) -> None:
    """The checkpoint holds strata, tests, pairs and what is accepted; a ramp step comes in between."""
    world = World(split=split, baseline_s=600, new=all_of(NOT_FOUND, 0.1, only="GET /app"))
    answering = Answering(world, 7)
    kept = detector_of(world, answering)
    kept.accept("GET:/account:404")
    kept.set_split(AT + 45, 1.0)
    restored = Detector.from_state(json.loads(json.dumps(kept.state())), Policy())
    for t in range(80):
        rows = answering.second(t)
        for each in (kept, restored):
            each.add(rows)
        if t % 20 == 7:
            restored = Detector.from_state(json.loads(json.dumps(restored.state())), Policy())
        assert restored.decide(AT + t + 1) == kept.decide(AT + t + 1)
    assert len(json.dumps(kept.state())) < 64_000


def test_a_version_without_a_usual_share_is_compared_by_what_the_source_tells() -> None:
    """Rows without routes are one stratum; the first words of paths are strata too."""

    def whole(world: World, seed: int) -> Verdict:
        answering = Answering(world, seed)
        detector = Detector(
            version=NEW,
            old=OLD,
            deployed_at=AT,
            split=world.split,
            baseline=[replace(row, routes={}) for row in answering.baseline()],
            policy=Policy(),
        )
        for t in range(20):
            detector.add([replace(row, routes={}) for row in answering.second(t)])
            if judged(detector, AT + t + 1)[0] is Verdict.REGRESSED:
                return Verdict.REGRESSED
        return judged(detector, AT + 20)[0]

    assert whole(altered(HALF, new=all_of(NOT_FOUND)), 1) is Verdict.REGRESSED
    assert whole(altered(CUT, new=all_of(NOT_FOUND)), 1) is Verdict.REGRESSED
    assert whole(CUT, 1) is not Verdict.REGRESSED


def test_usual_redirects_are_good_answers() -> None:
    """A login that answers with a redirect as a rule goes on doing so under an attack."""
    usual: Answers = dict(USUAL) | {"POST /login": {REDIRECT: 0.85, DENIED: 0.15}}
    quiet = see(World(usual=usual, watch_s=300), 1)
    assert (quiet.decision.verdict, quiet.decision.shifts) == (Verdict.HEALTHY, ())
    wave = World(
        usual=usual,
        visitors=more_of(**{"POST /login": 30.0}),
        both=lambda _, known: known | {"POST /login": {REDIRECT: 0.03, DENIED: 0.97}},
        watch_s=300,
    )
    assert see(wave, 1).decision.verdict is Verdict.HEALTHY


def test_what_is_usually_open_rests_on_seconds_without_an_answer_as_well() -> None:
    """Reports that thirty people ask for once a minute, and that take half of it: open are as many as before."""

    def row(version: str, at: int) -> Counts:
        return Counts(version, at, 30 * (at % 60 == 30), 0, started=30 * (at % 60 == 0))

    watched = Shifts(baseline=[row("v1", at) for at in range(3600)], start=3600, split=1.0, policy=GuardPolicy())
    for at in range(3600, 3600 + 75):
        watched.add(row("v2", at), is_new=True, warming=False)
    assert [shift.kind for shift in watched.judge(3675.0).shifts] == []
    for at in range(3675, 3700):
        watched.add(Counts("v2", at, 0, 0, started=30), is_new=True, warming=False)
    assert ShiftKind.HANGING in [shift.kind for shift in watched.judge(3700.0).of(Outcome.HOLD)]


def test_without_a_baseline_labels_decide_and_a_cut_over_is_held() -> None:
    """A first deployment that answers 404 to everyone is not healthy; one that answers is."""
    bare = World(baseline_s=0, watch_s=240)
    assert see(altered(bare, split=0.5, new=all_of(NOT_FOUND)), 1).regressed_s is not None
    held = see(altered(bare, new=all_of(NOT_FOUND)), 1).decision
    assert (held.verdict, held.cause) == (Verdict.INCONCLUSIVE, Cause.ANSWERS)
    assert "nothing to compare with" in held.reason
    assert see(bare, 1).decision.verdict is Verdict.HEALTHY


@pytest.mark.parametrize(
    ("guesses", "usual", "is_told"), [(1, 0, False), (4, 0, True), (4, 3, False), (9, 3, True), (30, 0, True)]
)
def test_what_was_not_known_before_is_told_and_no_evidence(guesses: int, usual: int, is_told: bool) -> None:
    """A crawler's 404s, from a tenth of all and twice as many as usual on; where they are most, "healthy" says so."""
    other = {"other": RouteCounts(usual, 0, classes={NOT_FOUND: usual})} if usual else {}
    before = [row_of("v1", AT - at, {"GET /app": RouteCounts(20, 0), **other}) for at in range(1, 1801)]
    judge = Detector(version="v2", old="v1", deployed_at=AT, split=1.0, baseline=before, policy=Policy())
    asked = {"GET /app": RouteCounts(20, 0), "other": RouteCounts(guesses, 0, classes={NOT_FOUND: guesses})}
    judge.add([row_of("v2", AT + at, asked) for at in range(WATCH_S)])
    decision = judge.decide(AT + WATCH_S)
    assert decision.verdict is Verdict.HEALTHY
    assert [(s.stratum, s.to, s.outcome) for s in decision.shifts] == [(UNMATCHED, NOT_FOUND, Outcome.TOLD)] * is_told
    words = f"{guesses * WATCH_S:,} of {(20 + guesses) * WATCH_S:,} requests asked for what was not known before"
    assert (words in decision.reason) is (guesses > 20)


def test_an_attack_on_a_rare_name_is_told() -> None:
    """It has no stratum of its own, and is answered 401: more was asked, and nothing that worked is lacking."""
    many = {f"GET /{number}": 2.0 for number in range(20)}
    usual: Answers = {name: {} for name in many} | {"POST /rare": {DENIED: 0.1}}
    world = World(
        mix=many | {"POST /rare": 0.3},
        usual=usual,
        visitors=lambda _, mix: mix | {"POST /rare": 6.0},
        both=lambda _, known: known | {"POST /rare": {DENIED: 0.96}},
        watch_s=240,
    )
    seen = see(world, 1)
    assert seen.regressed_s is None
    assert told(seen.decision.shifts)
    broken = see(altered(world, visitors=None, both=None, new=all_of(DENIED, only="POST /rare")), 1)
    assert "POST /rare" in {shift.stratum for shift in broken.decision.shifts if shift.outcome is Outcome.HOLD}


def test_an_old_version_that_comes_back_beside_the_new_one_is_heard() -> None:
    """Held back after a cut-over and full again: labels count while there are two, and what falls on both is not it."""
    shared = World(both=all_of(ERROR, 0.95, only="POST /api/orders", since_s=20))
    alone = altered(shared, both=None, new=all_of(ERROR, 0.95, only="POST /api/orders", since_s=20))
    for world, found in ((shared, False), (alone, True)):
        answering, beside = Answering(world, 1), Answering(altered(world, split=0.5), 2)
        detector = detector_of(world, answering)
        detector.set_split(AT + 10, 0.5)
        detector.set_split(AT + 200, 1.0)
        for t in range(200):
            detector.add((beside if t >= 10 else answering).second(t))
        assert (judged(detector, AT + 200)[0] is Verdict.REGRESSED) == found


def test_what_is_vital_weighs_more() -> None:
    """Named or not, every order that fails is found; named, by no more orders than without."""
    rates = {name: rate * (0.5 if name == "POST /api/orders" else 1.0) for name, rate in CUT.mix.items()}
    world = World(mix=rates, new=all_of(ERROR, only="POST /api/orders"), watch_s=400)
    plain, named = see(world, 1), see(world, 1, Policy(guard=GuardPolicy(vital=("POST /api/orders",))))
    assert plain.regressed_s is not None
    assert named.regressed_s is not None
    assert named.regressed_s <= plain.regressed_s
    assert named.decision.shifts[0].log_evidence <= plain.decision.shifts[0].log_evidence


def timed(rows: list[Counts]) -> list[Counts]:
    """Return rows whose answers took 40 ms: busy routes have streams of their own then."""
    return [
        replace(
            row,
            latency={40: row.requests},
            routes={name: replace(route, latency={40: route.requests}) for name, route in row.routes.items()},
        )
        for row in rows
    ]


def test_a_login_wall_of_which_too_little_is_seen_to_show_it_is_named() -> None:
    """It said that 40,000 more requests would tell, of 1,500 of which a fifth were answered with 401."""
    pages = {"GET /": 24.0, "GET /a": 8.0} | {f"GET /{number}": 0.5 for number in range(12)}
    world = World(mix=pages, usual={name: {} for name in pages}, baseline_s=19, new=all_of(DENIED, only="GET /a"))
    answering = Answering(world, 3)
    before = timed(answering.baseline())
    detector = Detector(version=NEW, old=OLD, deployed_at=AT, split=1.0, baseline=before, policy=Policy())
    for t in range(40):
        detector.add(timed(answering.second(t)))
        detector.note_until(AT + t + 1)
    found = detector.decide(AT + 40)
    assert (found.verdict, found.cause, found.shifts) == (Verdict.INCONCLUSIVE, Cause.NONE, ())
    assert "; GET /a: " in found.reason
    assert "too little was seen to tell whether the version or its visitors are behind it" in found.reason
    assert "more requests" not in found.reason
