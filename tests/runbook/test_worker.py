"""The loop of a worker: what it takes, what it gives back, and what it says when the journal is away."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from backout.errors import ProviderUnavailable
from backout.ports.workers import Shared
from backout.runbook.worker import worker as module
from backout.runbook.worker.share import share_out
from backout.runbook.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest

NAMES = ("a", "b", "c", "d")


@dataclass
class Room:
    """The environments that workers share; who guards which."""

    guards: dict[str, int] = field(default_factory=dict)
    workers: set[int] = field(default_factory=set)
    is_away: bool = False


@dataclass
class Leases:
    """Port GuardLeases in memory."""

    room: Room
    number: int

    def renew(self) -> Shared:
        if self.room.is_away:
            raise ProviderUnavailable("the journal is away")
        self.room.workers.add(self.number)
        guards = self.room.guards
        held = frozenset(name for name in NAMES if guards.get(name) == self.number)
        others = {
            f"worker:{each}": sum(guard == each for guard in guards.values())
            for each in self.room.workers - {self.number}
        }
        return Shared(held, (), tuple(name for name in NAMES if name not in guards), others)

    def take(self, environments: Iterable[str]) -> tuple[str, ...]:
        taken = tuple(name for name in environments if name not in self.room.guards)
        self.room.guards |= dict.fromkeys(taken, self.number)
        return taken

    def give_back(self, environments: Iterable[str]) -> None:
        for name in environments:
            assert self.room.guards.pop(name) == self.number

    def leave(self) -> None:
        self.give_back([name for name, guard in self.room.guards.items() if guard == self.number])
        self.room.workers.discard(self.number)


@dataclass
class Guarded:
    """An environment's guard that ends when the test says so."""

    is_idle: bool = True
    runs: bool = False
    is_asked: bool = False

    def start(self) -> None:
        assert not self.runs
        self.runs, self.is_asked = True, False

    def request_stop(self) -> None:
        self.is_asked = True
        self.runs = self.runs and not self.is_idle

    def has_ended(self) -> bool:
        return not self.runs


@dataclass
class Bench:
    """Two workers that take turns."""

    room: Room = field(default_factory=Room)
    said: list[tuple[str, str]] = field(default_factory=list)

    def worker(self, number: int) -> tuple[Worker, dict[str, Guarded]]:
        guarded = {name: Guarded() for name in NAMES}
        return Worker(Leases(self.room, number), guarded, lambda what, of: self.said.append((what, of))), guarded


def count(bench: Bench, number: int) -> int:
    return sum(each == number for each in bench.room.guards.values())


def test_one_takes_all_and_a_second_gets_its_half() -> None:
    bench = Bench()
    (one, _), (two, _) = bench.worker(1), bench.worker(2)
    one._beat()
    assert count(bench, 1) == 4
    for _ in range(4):
        two._beat()
        one._beat()
    assert (count(bench, 1), count(bench, 2)) == (2, 2)
    before = dict(bench.room.guards)
    for _ in range(5):
        one._beat()
        two._beat()
    assert bench.room.guards == before  # nothing goes back and forth


def test_an_environment_with_a_run_under_way_stays_until_that_is_over() -> None:
    bench = Bench()
    (one, guarded), (two, _) = bench.worker(1), bench.worker(2)
    one._beat()
    for each in guarded.values():
        each.is_idle = False
    for _ in range(5):
        two._beat()
        one._beat()
    assert count(bench, 1) == 4
    guarded["b"].is_idle = True
    for _ in range(5):
        two._beat()
        one._beat()
    assert bench.room.guards["b"] == 2


def test_while_the_journal_is_away_it_is_said_once_and_what_is_held_goes_on() -> None:
    bench = Bench()
    worker, guarded = bench.worker(1)
    worker._beat()
    bench.room.is_away = True
    for _ in range(3):
        worker._beat()
    assert worker.state.trouble == "the journal is away"
    assert all(each.runs for each in guarded.values())
    bench.room.is_away = False
    worker._beat()
    assert [each for each in bench.said if each[0] == "journal"] == [
        ("journal", "the journal is away"),
        ("journal", ""),
    ]


def test_what_another_worker_took_is_stopped_and_not_begun_again_before_it_has_ended() -> None:
    bench = Bench()
    worker, guarded = bench.worker(1)
    worker._beat()
    guarded["a"].is_idle = False
    guarded["a"].request_stop()
    bench.room.guards.pop("a")  # it was lost, and is free by now; its thread is in the middle of a step
    worker._beat()
    assert "a" not in bench.room.guards
    guarded["a"].runs = False
    worker._beat()
    assert bench.room.guards["a"] == 1


def test_a_worker_that_stops_gives_everything_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY_S", 0.01)
    bench, stop = Bench(), threading.Event()
    worker, guarded = bench.worker(1)
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    while not bench.room.guards:
        stop.wait(0.01)
    guarded["c"].is_idle = False
    stop.set()
    while len(bench.room.guards) > 1:
        thread.join(0.01)
    assert bench.room.guards == {"c": 1}  # its step is waited for
    guarded["c"].runs = False
    thread.join()
    assert (bench.room.guards, bench.room.workers) == ({}, set())


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=6),
    st.integers(0, 40),
    st.lists(st.booleans(), max_size=40),
)
def test_any_number_of_workers_comes_to_even_parts(holds: list[int], free: int, busy: list[bool]) -> None:
    """Each looks and changes in turn; in the end nothing is free, no two differ by more than one, and nothing moves."""
    names = iter(map(str, range(sum(holds) + free)))
    held = [{next(names) for _ in range(each)} for each in holds]
    left = list(names)
    stuck = {str(number) for number, is_busy in enumerate(busy) if is_busy}
    for turn in range(4 * len(held) + 4):
        for number in range(len(held)):
            own = held[number]
            others = [len(each) for place, each in enumerate(held) if place != number]
            change = share_out(own, sorted(own - stuck if turn < 2 else own), left, others)
            left = [*(each for each in left if each not in change.take), *change.give]
            held[number] = (own | {*change.take}) - {*change.give}
    assert not left
    assert max(map(len, held)) - min(map(len, held)) <= 1
