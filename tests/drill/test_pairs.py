"""Two drills at a time: when the second place is opened, left out, stopped and closed. No twin is needed for these."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, NoReturn, cast

import pytest
from values import replace

from backout.cli.drill.performer import DrillLog, Performer, perform_in_pairs
from backout.cli.drill.run import is_interrupt
from backout.config.scalars import Duration
from backout.errors import BackoutError, PartlyDone
from backout.journal.sqlite import SqliteJournal
from backout.journal.stop import InterruptLatch
from backout.model.guard.signals import Counts, CountsPage
from backout.providers.clock import SystemClock
from backout.wiring.drills.catalogue import load_drills
from backout.wiring.drills.ground import Ground

from polling import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backout.config.drills import Drill
    from backout.runbook.toolbox import Toolbox


class Place(Ground):
    """A place where each drill fails at once.

    Args:
        fails: what opening it fails with; None: it is opened for as long as nobody stops or closes it.
    """

    def __init__(self, directory: Path, fails: Exception | None = None) -> None:
        super().__init__(directory, lambda _: None)
        self.done: list[str] = []
        self.go_on = threading.Event()
        self._fails = fails

    def open(self) -> None:
        self.done.append("opens")
        if self._fails is not None:
            raise self._fails
        assert self.go_on.wait(PATIENCE_S)
        self.done.append("opened")

    def settle(self, drill: Drill) -> NoReturn:
        assert self.go_on.wait(PATIENCE_S)
        raise BackoutError(f"{drill.name} is not performed", where="the drill")

    def stop(self) -> None:
        super().stop()
        self.done.append("stopped")
        self.go_on.set()

    def close(self) -> None:
        self.done.append("closed")
        self.go_on.set()


class Places(Performer):
    """Two places; what is said about them is kept."""

    def __init__(self, folder: Path, second_fails: Exception | None = None) -> None:
        super().__init__(None, folder, self.hear)
        self.first, self.second = Place(folder / "first"), Place(folder / "second", second_fails)
        self.said: list[str] = []
        if second_fails is None:
            self.first.go_on.set()

    def hear(self, text: str) -> None:
        self.said.append(text)
        if "no second place" in text:
            self.first.go_on.set()

    def open_ground(self) -> Ground:
        return self.first

    def make_second(self) -> Ground:
        self.second.done.append("made")
        return self.second


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SqliteJournal]:
    made = SqliteJournal(tmp_path / "journal.sqlite", SystemClock())
    yield made
    made.close()


def perform(places: Places, journal: SqliteJournal, tmp_path: Path, number: int) -> list[str]:
    """Perform some drills, and return the names of those that ended."""
    chosen = load_drills(tmp_path)[:number]
    log = DrillLog(journal, "drills-1", places.hear, number)
    return [record.name for record in perform_in_pairs(places, log, chosen, InterruptLatch())]


def test_a_second_place_that_is_still_opened_is_stopped_and_then_closed(journal: SqliteJournal, tmp_path: Path) -> None:
    """The first place has performed all of them by then; nothing is done at a place that is closed."""
    places = Places(tmp_path)
    assert len(perform(places, journal, tmp_path, 2)) == 2
    assert [each for each in places.second.done if each != "opens"] == ["made", "stopped", "opened", "closed"]
    assert "stopped" not in places.first.done


def test_one_drill_needs_no_second_place(journal: SqliteJournal, tmp_path: Path) -> None:
    """None is made."""
    places = Places(tmp_path)
    assert len(perform(places, journal, tmp_path, 1)) == 1
    assert places.second.done == []


@pytest.mark.parametrize("error", [BackoutError("it broke", where="there"), KeyError("it broke")])
def test_without_a_second_place_the_first_one_does(journal: SqliteJournal, tmp_path: Path, error: Exception) -> None:
    """Whatever it failed with: that is said, and every drill is performed."""
    places = Places(tmp_path, error)
    assert len(perform(places, journal, tmp_path, 3)) == 3
    (said,) = [each for each in places.said if "no second place" in each]
    assert "it broke" in said
    assert places.second.done == ["made", "opens", "closed"]


def test_how_a_drill_ended_is_said_once_it_counts(journal: SqliteJournal, tmp_path: Path) -> None:
    """Whoever interrupts after that finds it among those that have ended."""
    places = Places(tmp_path)
    log = DrillLog(journal, "drills-1", places.hear, 2)
    for record in perform_in_pairs(places, log, load_drills(tmp_path)[:2], InterruptLatch()):
        assert not [each for each in places.said if f"{record.name}: not performed" in each]
    assert len([each for each in places.said if "not performed" in each]) == 2


def test_an_interrupt_that_was_lost_stops_what_is_under_way(journal: SqliteJournal, tmp_path: Path) -> None:
    """Ctrl-C in the middle of a lock can be replaced by another exception, or by none."""
    places, interrupts = Places(tmp_path, second_fails=BackoutError("no", where="the drill")), InterruptLatch()
    interrupts.requested = True
    log = DrillLog(journal, "drills-1", places.hear, 2)
    with pytest.raises(KeyboardInterrupt):
        list(perform_in_pairs(places, log, load_drills(tmp_path)[:2], interrupts))
    assert "stopped" in places.first.done


@pytest.mark.parametrize("requested", [True, False])
def test_what_took_the_place_of_an_interrupt_is_one_and_what_is_to_be_told_is_not(*, requested: bool) -> None:
    """Staging that is still bad after Ctrl-C is said, and not that the rest can be run."""
    interrupts = InterruptLatch()
    interrupts.requested = requested
    assert is_interrupt(KeyboardInterrupt(), interrupts)
    assert is_interrupt(RuntimeError("release unlocked lock"), interrupts) is requested
    assert not is_interrupt(PartlyDone("staging is bad", where="staging"), interrupts)


def test_nobody_comes_to_a_place_that_was_stopped(tmp_path: Path) -> None:
    """Visitors who came after it was stopped would be sent away by nobody."""
    place = Ground(tmp_path, lambda _: None)
    place.stop()
    with pytest.raises(BackoutError, match="it was stopped"):
        place.welcome(50)
    assert place.welcome(0) is None


class Turns:
    """A source of counts in whose last ten seconds another version answered, too, until it is asked again."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def read(self, since: int, until: int) -> CountsPage:
        own = [Counts("good", second, 50, 0) for second in range(since, until)]
        other = [] if self.asked else [Counts("other", until - 10, 5, 0)]
        self.asked.append((since, until))
        return CountsPage((*own, *other), until)


@pytest.mark.parametrize(("name", "waits"), [("slow-tail", True), ("throws", False)])
def test_a_drill_about_slow_answers_waits_for_a_past_of_its_own(tmp_path: Path, name: str, waits: bool) -> None:
    """Guard takes what comes to one version alone for a crowd, beside which a slow one is held."""
    place, turns = Ground(tmp_path, lambda _: None), Turns()
    drill = next(each for each in load_drills(tmp_path) if each.name == name)
    part = replace(drill.file, watch=replace(drill.file.watch, baseline=Duration(1)))
    tools = cast("Toolbox", SimpleNamespace(traffic=turns))
    place.await_past(tools, replace(drill, file=part), "good")
    assert (len(turns.asked) > 1) is waits
    assert (turns.asked[-1][0] > turns.asked[0][0]) is waits
