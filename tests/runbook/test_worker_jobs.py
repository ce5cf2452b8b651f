"""The jobs of a worker: which is due, what two workers make of it, and what becomes of one that fails."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from backout.errors import BackoutError, ProviderUnavailable
from backout.model.incident.incident import Event
from backout.runbook.worker.job_runner import KIND, JobRunner
from backout.runbook.worker.jobs import (
    FIRST_WAIT_S,
    LEAST_S,
    Job,
    Needs,
    Past,
    add_attempt,
    add_elsewhere,
    find_due_at,
    list_due,
    list_jobs,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = ("a", "b", "c")
NEEDS = Needs(snapshot_every_s=3600.0, backup_every_s=86400.0, prove_within_s=691200.0, drills={"throws": 604800.0})
START = 1_800_000_000.0


@dataclass
class FakeClock:
    """The test's own time, in Unix seconds."""

    at: float

    def now(self) -> float:
        return self.at

    def advance(self, seconds: float) -> None:
        self.at += seconds


def make_event(seq: int, at: float, environment: str, data: dict[str, Any]) -> Event:
    return Event(seq=seq, at=at, environment=environment, run="", step=None, kind=KIND, actor="me", data=data, hash="")


def event(seq: int, at: float, outcome: str) -> Event:
    return make_event(seq, at, "a", {"job": "snapshot", "outcome": outcome})


@dataclass
class Book:
    """What the runner uses of the port Journal, in memory."""

    clock: FakeClock
    written: list[Event] = field(default_factory=list)
    keys: set[tuple[str, str]] = field(default_factory=set)

    def events(self, *, environment: str, kind: str, after: int) -> Iterator[Event]:
        assert kind == KIND
        yield from [each for each in self.written if each.environment == environment and each.seq > after]

    def note(self, environment: str, kind: str, key: str, data: dict[str, object], *, actor: str) -> Event | None:
        if (environment, key) in self.keys:
            return None
        self.keys.add((environment, key))
        made = make_event(len(self.written) + 1, self.clock.now(), environment, data)
        self.written.append(made)
        return made


@dataclass
class Work:
    """Port JobWork in memory; a job takes `takes_s`, and ends with a code of `codes`."""

    clock: FakeClock
    jobs: dict[str, tuple[Job, ...]]
    codes: dict[str, int] = field(default_factory=dict)
    takes_s: float = 5.0
    elsewhere: dict[str, float] = field(default_factory=dict)
    under_way: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    started: list[tuple[float, Job]] = field(default_factory=list)
    at_work: int = 0
    hangs: bool = False
    terminated: int = 0

    def list_jobs(self, environment: str) -> tuple[Job, ...]:
        if environment in self.unknown:
            raise ProviderUnavailable("its folder cannot be read")
        return self.jobs[environment]

    def find_elsewhere(self, job: Job) -> float | None:
        return self.elsewhere.get(job.name)

    def is_run_under_way(self, environment: str) -> bool:
        return environment in self.under_way

    def start(self, job: Job) -> At:
        assert self.at_work == 0, "two at once"
        self.at_work += 1
        self.started.append((self.clock.now(), job))
        if self.codes.get(job.name) == 127:
            self.at_work -= 1
            raise BackoutError("no such program")
        return At(self, self.codes.get(job.name, 0))


@dataclass
class At:
    """A job at work."""

    work: Work
    code: int
    asked: bool = False

    def wait(self, seconds: float) -> int | None:
        if self.work.hangs and not self.asked:
            return None
        self.work.clock.advance(max(self.work.takes_s, seconds))
        return -15 if self.asked else self.code

    def terminate(self) -> None:
        self.asked = True
        self.work.terminated += 1

    def kill(self) -> None:
        self.work.at_work -= 1


class Bench:
    """Some workers with one journal, whose clock is the test's."""

    def __init__(self, names: tuple[str, ...] = NAMES, needs: Needs = NEEDS) -> None:
        self.clock = FakeClock(START)
        self.book = Book(self.clock)
        self.work = Work(self.clock, {name: list_jobs(name, needs) for name in names})
        self.said: list[tuple[str, str, str]] = []

    def runner(self) -> JobRunner:
        return JobRunner(self.work, self.book, self.clock, lambda *words: self.said.append(words), actor="me")  # type: ignore[arg-type]

    def run(self, runner: JobRunner, for_s: float, held: tuple[str, ...] = NAMES, step_s: float = 30.0) -> None:
        until, stop = self.clock.now() + for_s, threading.Event()
        while self.clock.now() < until:
            runner.run_due(held, lambda: NAMES, stop)
            self.clock.advance(step_s)

    def outcomes(self, name: str) -> list[object]:
        return [each.data["outcome"] for each in self.book.written if each.data["job"] == name]


def test_what_is_configured_is_run() -> None:
    """Each job of each environment: as often as it is due in two days, and no more."""
    bench = Bench()
    bench.run(bench.runner(), 2 * 86400.0 - 600)
    count = Counter((job.environment, job.name) for _, job in bench.work.started)
    for name in NAMES:
        assert count[name, "backup"] == 2
        assert count[name, "proof"] == count[name, "drill throws"] == 1
        assert 45 <= count[name, "snapshot"] <= 48
    assert list_jobs("a", Needs()) == ()
    assert list_jobs("a", Needs(snapshot_every_s=0.5))[0].every_s == LEAST_S


def test_a_proof_waits_for_a_backup_and_drills_for_both() -> None:
    """Each comes after the first attempt of the others, also a failed one, and whichever moment it has of its own."""
    needs = Needs(backup_every_s=86_400.0, prove_within_s=691_200.0, drills={"a": 86_400.0, "b": 86_400.0})
    jobs, past = list_jobs("production", needs), dict[tuple[str, str], Past]()

    def list_names() -> list[str]:
        return [each.name for each in list_due(jobs, past, 1e6, 0.0)]

    assert list_names() == ["backup"]
    past["production", "backup"] = Past(turn=3, began_at=1e6 - 1, failures=0)  # stopped
    assert list_names() == ["backup"]
    past["production", "backup"] = Past(turn=7, began_at=1e6 - 1, failures=1)
    assert list_names() == ["proof"]
    past["production", "proof"] = Past(well_at=1e6 - 1, done_at=1e6)  # a person's
    assert set(list_names()) == {"drill a", "drill b"}


def test_not_all_begin_at_once() -> None:
    since = [find_due_at(Job(f"shop-{n}", "snapshot", (), 3600.0), Past(), START) - START for n in range(60)]
    assert len(set(since)) == 60
    assert 20.0 < max(since) < 30.0
    assert min(since) < 10.0


def test_one_that_fails_is_tried_after_a_growing_wait() -> None:
    bench = Bench(("a",), Needs(backup_every_s=86400.0))
    bench.work.codes["backup"] = 7
    bench.run(bench.runner(), 3 * 86400.0, ("a",), step_s=1.0)
    at = [when for when, _ in bench.work.started]
    waits = [later - before for before, later in pairwise(at)]
    for number, wait in enumerate(waits):
        assert 0 <= wait - min(FIRST_WAIT_S * 2**number, 86400.0) < 10.0
    assert len(waits) >= 8
    assert bench.outcomes("backup")[:2] == ["began", "failed"]
    assert bench.book.written[1].data["exit_code"] == 7
    bench.work.codes["backup"] = 0
    bench.run(bench.runner(), 3 * 86400.0, ("a",), step_s=60.0)
    assert bench.outcomes("backup")[-4:] == ["began", "done"] * 2


def test_one_that_cannot_be_started_has_failed() -> None:
    bench = Bench(("a",), Needs(backup_every_s=86400.0))
    bench.work.codes["backup"] = 127
    bench.run(bench.runner(), 300.0, ("a",))
    assert bench.outcomes("backup") == ["began", "failed"]
    assert ("a", "backup", "cannot be started: no such program") in bench.said


def test_none_is_run_beside_a_run_or_for_an_unknown_environment() -> None:
    bench = Bench()
    bench.work.under_way, bench.work.unknown = {"a"}, {"b"}
    runner = bench.runner()
    bench.run(runner, 600.0)
    assert {job.environment for _, job in bench.work.started} == {"c"}
    assert bench.said.count(("b", "", "the jobs are not known: its folder cannot be read")) == 1
    runner.run_due(["a"], tuple, threading.Event())  # a watch is under way here
    bench.work.under_way, bench.work.unknown = set(), set()
    bench.run(runner, 600.0)
    assert {job.environment for _, job in bench.work.started} == {"a", "b", "c"}


def test_what_somebody_else_did_counts() -> None:
    bench = Bench(("a",), Needs(prove_within_s=20_000.0))
    bench.work.elsewhere["proof"] = START - 1_000.0
    bench.run(bench.runner(), 8_900.0, ("a",))
    assert bench.work.started == []
    bench.run(bench.runner(), 400.0, ("a",))
    assert len(bench.work.started) == 1
    failed = Past(3, 100.0, 50.0, 60.0, 2)
    assert add_elsewhere(failed, 120.0) == Past(3, 100.0, 120.0, 120.0, 0)
    assert add_elsewhere(failed, 80.0).failures == 2
    assert add_elsewhere(failed, 55.0) == add_elsewhere(failed, None) == failed


def test_a_worker_that_ends_stops_its_job_and_that_is_no_failure() -> None:
    bench = Bench(("a",), Needs(backup_every_s=86400.0))
    runner, stop = bench.runner(), threading.Event()
    bench.clock.advance(60.0)
    bench.work.hangs = True
    original = bench.work.start

    def start(job: Job) -> At:
        stop.set()
        return original(job)

    bench.work.start = start  # type: ignore[method-assign]
    runner.run_due(["a"], lambda: NAMES, stop)
    assert (bench.work.terminated, bench.work.at_work, runner.at_work) == (1, 0, "")
    assert bench.outcomes("backup") == ["began", "stopped"]
    assert runner.known["a", "backup"].failures == 0


def test_of_two_workers_with_the_same_knowledge_one_begins() -> None:
    """Both read that it is due, and only then either records its beginning."""
    bench = Bench(("a",), Needs(backup_every_s=86400.0))
    first, second = bench.runner(), bench.runner()
    bench.clock.advance(60.0)
    original = bench.work.is_run_under_way

    def look(environment: str) -> bool:
        bench.work.is_run_under_way = original  # type: ignore[method-assign]
        second.run_due(["a"], lambda: NAMES, threading.Event())
        return False

    bench.work.is_run_under_way = look  # type: ignore[method-assign]
    first.run_due(["a"], lambda: NAMES, threading.Event())
    assert len(bench.work.started) == 1
    assert bench.outcomes("backup") == ["began", "done"]
    bench.run(first, 3600.0, ("a",))
    assert len(bench.work.started) == 1


@given(
    outcomes=st.lists(st.sampled_from(["began", "done", "failed", "stopped", "?"]), max_size=30),
    every_s=st.floats(LEAST_S, 1e6),
)
def test_never_in_a_tight_loop_and_never_later_than_its_interval(outcomes: list[str], every_s: float) -> None:
    """Whatever was recorded: it is due by the interval after the newest beginning, or the worker's own."""
    past, job = Past(), Job("a", "snapshot", (), every_s)
    for number, outcome in enumerate(outcomes, 1):
        past = add_attempt(past, event(number, START + number * 10.0, outcome))
    due_at = find_due_at(job, past, START, 0.0)
    newest = max(past.began_at or START, past.done_at or START)
    assert START <= due_at <= newest + every_s
    if past.failures and past.began_at is not None:
        assert due_at >= past.began_at + min(FIRST_WAIT_S, every_s)


@given(
    codes=st.dictionaries(st.sampled_from(["snapshot", "backup", "proof", "drill throws"]), st.integers(0, 7)),
    takes_s=st.floats(1.0, 900.0),
    workers=st.integers(1, 3),
    seed=st.randoms(use_true_random=False),
)
def test_no_job_starves_and_none_runs_twice_at_once(
    codes: dict[str, int], takes_s: float, workers: int, seed: object
) -> None:
    """With any jobs that fail or are slow, and any worker whose turn it is: all are begun, one at a time."""
    bench = Bench(NAMES)
    bench.work.codes, bench.work.takes_s = codes, takes_s
    runners = [bench.runner() for _ in range(workers)]
    stop = threading.Event()
    for _ in range(60):
        runners[seed.randrange(workers)].run_due(NAMES, lambda: NAMES, stop)  # type: ignore[attr-defined]
        bench.clock.advance(60.0)
    begun = {(job.environment, job.name) for _, job in bench.work.started}
    assert begun == {(name, job.name) for name in NAMES for job in bench.work.jobs[name]}
    by_job: dict[tuple[str, str], list[float]] = {}
    for at, job in bench.work.started:
        by_job.setdefault((job.environment, job.name), []).append(at)
    for ats in by_job.values():
        assert all(later - before >= FIRST_WAIT_S for before, later in pairwise(ats))


def test_the_one_that_waits_longest_is_first() -> None:
    jobs = [Job("b", "x", (), 100.0), Job("a", "x", (), 100.0), Job("a", "y", (), 100.0)]
    past = {
        ("a", "x"): Past(1, 50.0, 50.0, 51.0),
        ("b", "x"): Past(2, 10.0, 10.0, 11.0),
        ("a", "y"): Past(3, 900.0, 900.0),
    }
    assert [(each.environment, each.name) for each in list_due(jobs, past, 950.0, 0.0, 0.0)] == [("b", "x"), ("a", "x")]
