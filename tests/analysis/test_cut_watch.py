"""A watch that is cut at every tick decides as the whole one does, whichever way it is taken up again.

Two ways: from a checkpoint of the detector, and as guard does, by feeding the kept counts to a new detector and
restoring what was seen by looking.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING

import pytest

from backout.analysis.detector.decision import Detector
from backout.model.guard.answers import AnswerClass
from backout.model.guard.bodies import find_size_bucket
from backout.model.guard.connections import ConnectionUse
from backout.model.guard.policy import Expectation, GuardPolicy, Policy
from backout.model.guard.probes import PairedAnswer, ProbesBefore, SyntheticAnswer, VersionAnswer
from backout.model.guard.signals import (
    Counts,
    Criticality,
    HealthReport,
    Reach,
    RouteCounts,
    ServiceHealth,
    ServiceState,
    TriggerCounts,
    merge_latency,
)

from extent import long

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.model.guard.verdict import Decision

AT, WATCH_S, OLD, NEW = 1_800_000_000, 75, "old", "new"
ROUTES = ("GET /", "GET /app", "POST /orders", "GET /img/{id}.png")
BAD = (None, "404", "401", "redirect", "error", "slow", "tiny", "hanging", "silent", "cron", "full")


@lru_cache(4)
def baseline_of(course: Course) -> tuple[Counts, ...]:
    """Return what the version before answered before the deployment."""
    return tuple(course.row(OLD, second) for second in range(-course.baseline_s, 0))


@dataclass(frozen=True)
class Course:
    """What happens in one watch."""

    seed: int
    bad: str | None
    since: int
    rate: int
    split: float
    baseline_s: int
    confirm_s: float
    can_ask: bool
    is_answered: bool = True
    """Whether asking both versions comes to anything."""

    def policy(self) -> Policy:
        guard = GuardPolicy(
            confirm_s=self.confirm_s,
            expect=(Expectation("GET", "/old", (410,)),),
            vital=("POST /orders",),
            synthetic=("/app",),
            slow_start_s=10,
        )
        return Policy(guard=guard, services={"database": Criticality.CRITICAL})

    def row(self, version: str, second: int) -> Counts:
        """Return what a version answered in a second, counted from the deployment."""
        random = Random(f"{self.seed} {version} {second}")  # noqa: S311 - no secret
        is_bad = version == NEW and second >= self.since
        routes = {}
        for name in (*ROUTES, "GET /new" if version == NEW else "GET /wp-login.php"):
            asked = random.randint(0, 2 * self.rate)
            if is_bad and self.bad == "silent":
                asked //= 8
            if not asked:
                continue
            routes[name] = self.route(random, name, asked, is_bad=is_bad)
        requests = sum(route.requests for route in routes.values())
        classes: dict[AnswerClass, int] = {}
        for route in routes.values():
            for kind, number in route.classes.items():
                classes[kind] = classes.get(kind, 0) + number
        hangs = is_bad and self.bad == "hanging"
        return Counts(
            version,
            AT + second,
            requests,
            sum(route.errors for route in routes.values()),
            canceled=3 if hangs else int(random.random() < 0.05),
            latency=merge_latency(routes.values()),
            routes=routes,
            classes=classes,
            started=requests + (9 if hangs else 1),
            triggers={"cron 0 * * * *": TriggerCounts(1, int(is_bad and self.bad == "cron"))}
            if second % 15 == 0
            else {},
        )

    def route(self, random: Random, name: str, asked: int, *, is_bad: bool) -> RouteCounts:
        kind = {"404": AnswerClass.NOT_FOUND, "401": AnswerClass.DENIED, "redirect": AnswerClass.REDIRECT}.get(
            self.bad or ""
        )
        hit = is_bad and (name != "GET /" or self.seed % 2 == 0)
        errors = asked if hit and self.bad == "error" and name == "POST /orders" else int(random.random() < 0.02)
        classes = {kind: asked - errors} if hit and kind is not None and asked > errors else {}
        size = find_size_bucket(4 if hit and self.bad == "tiny" else 9_000)
        sizes = {size: asked} if name.startswith("GET") and not classes else {}
        latency: dict[int, int] = {}
        for _ in range(asked):
            bucket = 95 + int(random.expovariate(0.2)) + (60 if is_bad and self.bad == "slow" else 0)
            latency[bucket] = latency.get(bucket, 0) + 1
        return RouteCounts(asked, errors, latency, classes, sizes, asked)

    def detector(self) -> Detector:
        """Return a detector as guard makes it when the watch begins, or begins anew."""
        made = Detector(
            version=NEW,
            old=OLD,
            deployed_at=AT + 0.5,
            split=self.split,
            baseline=baseline_of(self),
            policy=self.policy(),
            watch_s=WATCH_S,
            health_before=health(-2, 200),
            probed=ProbesBefore({"health": (300, 0), "/app": (300, 0)}, frozenset({"/app"})),
            unseen="this source sees no methods",
            declared=frozenset({"cron 0 * * * *"}),
            can_ask=self.can_ask,
            healthy_after_s=5,
        )
        made.add_usual_health(health(-600, 200))
        made.add_connections(ConnectionUse(AT - 5.0, 5, 100))
        if self.split < 1:
            made.set_split(AT + 60.0, 1.0)
        return made

    def rows(self, second: int) -> list[Counts]:
        rows = [self.row(NEW, second)]
        return [*rows, self.row(OLD, second)] if self.split < 1 else rows

    def look(self, second: int) -> list[Callable[[Detector], object]]:
        """Return what guard sees at a second beside the counts."""
        is_bad = second >= self.since
        status = 404 if is_bad and self.bad == "404" and self.seed % 3 == 0 else 200
        answer = SyntheticAnswer(AT + second, "/app", status, media_type="text/html")
        seen: list[Callable[[Detector], object]] = []
        if second % 2 == 0:
            seen += [lambda d: d.add_health(health(second, status)), lambda d: d.add_synthetic([answer])]
        if second % 10 == 0:
            seen.append(
                lambda d: d.add_connections(
                    ConnectionUse(AT + float(second), 90 if is_bad and self.bad == "full" else 5, 100)
                )
            )
        if second == self.since + 20 and self.seed % 5 == 0:
            seen.append(lambda d: d.accept("GET:/app:404"))
        return seen

    def pair(self, second: int) -> PairedAnswer:
        worse = second >= self.since and self.bad in ("404", "401", "redirect") and self.seed % 4 != 1
        return PairedAnswer(AT + second, "/app", VersionAnswer(404 if worse else 200, ""), VersionAnswer(200, ""))


def health(second: int, status: int) -> HealthReport:
    services = (ServiceHealth("database", ServiceState.OK),)
    return HealthReport(AT + float(second), Reach.ANSWERED, status, ServiceState.OK, services, version=None)


@dataclass
class Watched:
    """One watch of a course; `reborn` takes it up again at each tick."""

    course: Course
    reborn: Callable[[Watched, Detector], Detector] | None = None
    fed: list[Counts] = field(default_factory=list)

    def decisions(self) -> list[Decision]:
        detector, found = self.course.detector(), []
        for second in range(WATCH_S):
            rows = self.course.rows(second)
            self.fed += rows
            detector.add(rows)
            detector.note_until(AT + second + 1)
            for take in self.course.look(second):
                take(detector)
            if self.course.is_answered and self.course.can_ask and detector.wants_probe and second % 2:
                detector.add_pairs([self.course.pair(second)])
            found.append(detector.decide(AT + second + 1.0))
            if self.reborn is not None:
                detector = self.reborn(self, detector)
        return found


def from_checkpoint(watched: Watched, detector: Detector) -> Detector:
    """Return the detector as a checkpoint keeps it."""
    return Detector.from_state(json.loads(json.dumps(detector.state(), allow_nan=False)), watched.course.policy())


def as_guard_does(watched: Watched, detector: Detector) -> Detector:
    """Return a new detector that was fed with what is kept, and with what was seen by looking."""
    again, looks = watched.course.detector(), json.loads(json.dumps(detector.looks(), allow_nan=False))
    again.accept_again(looks)
    again.add(watched.fed)
    again.restore_looks(looks)
    return again


def drawn(number: int) -> Course:
    """Return one of the courses; every kind of bad comes up among the first few."""
    if number == len(BAD):  # next to nothing is answered well, and nobody answers who is asked beside
        return Course(2, "404", 20, 20, 1.0, 300, 0.0, can_ask=True, is_answered=False)
    random = Random(number)  # noqa: S311 - no secret
    return Course(
        seed=random.randrange(999),
        bad=BAD[number % len(BAD)],
        since=random.choice([0, 20, 35]),
        rate=random.choice([2, 6, 20]),
        split=random.choice([1.0, 1.0, 0.5]),
        baseline_s=random.choice([0, 90, 300]),
        confirm_s=random.choice([0.0, 8.0]),
        can_ask=random.random() < 0.5,
    )


FEW = (0, 4, len(BAD))
"""One that ends healthy, one that waits to be confirmed, one in which next to nothing is answered well."""
NUMBERS = [*FEW, *(long(number) for number in range(len(BAD)) if number not in FEW)]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_watch_that_is_cut_at_every_tick_decides_as_the_whole_one(number: int) -> None:
    """The verdict, its reason with what the source does not see, evidence, shifts, and when it was bad first."""
    course = drawn(number)
    assert Watched(course, from_checkpoint).decisions() == Watched(course).decisions()


@pytest.mark.parametrize("number", NUMBERS)
def test_a_watch_that_guard_takes_up_again_decides_as_the_whole_one(number: int) -> None:
    """Cut at some ticks, and taken up from the kept counts and what was seen by looking."""
    course = drawn(number)
    cuts = frozenset(Random(number).sample(range(WATCH_S), 6))  # noqa: S311 - no secret

    def sometimes(watched: Watched, detector: Detector) -> Detector:
        second = watched.fed[-1].second - AT
        return as_guard_does(watched, detector) if second in cuts else detector

    assert Watched(course, sometimes).decisions() == Watched(course).decisions()


def test_when_it_was_bad_first_is_known_although_the_checkpoint_is_older() -> None:
    """The counts are kept before what was looked at: the first error may have come in between."""
    course = Course(2, None, 0, 6, 1.0, 300, 0.0, can_ask=False)
    detector = course.detector()
    older = json.loads(json.dumps(detector.looks()))
    rows = [row for second in range(30) for row in course.rows(second)]
    detector.add(rows)
    again = course.detector()
    again.accept_again(older)
    again.add(rows)
    again.restore_looks(older)
    assert detector.decide(AT + 30.0).first_bad_at is not None
    assert again.decide(AT + 30.0) == detector.decide(AT + 30.0)


def test_what_is_accepted_is_accepted_once() -> None:
    """Guard looks every few seconds who accepted what: that forgets no evidence of the same class elsewhere."""
    course = Course(2, "404", 20, 20, 0.5, 300, 0.0, can_ask=False)

    def accepting(_watched: Watched, detector: Detector) -> Detector:
        if _watched.fed[-1].second >= AT + 40:
            detector.accept("GET:/app:404")
        return detector

    def once(watched: Watched, detector: Detector) -> Detector:
        return accepting(watched, detector) if watched.fed[-1].second == AT + 40 else detector

    assert Watched(course, accepting).decisions() == Watched(course, once).decisions()
