"""A recovery that dies before and after every call and every commit, is typed again, or is taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from journal_engines import on_both
from recovery_story import (
    Night,
    check_closed,
    check_recovered,
    check_taken_back,
    recover,
    take_back,
)
from values import replace

from backout.errors import BackoutError, PartlyDone, ProviderRejected, WorldMoved
from backout.model.incident.incident import RunState
from backout.runbook.recover.tools import look_how_far
from backout.runbook.recover.undo import prepare_undo

from extent import sampled

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backout.runbook.recover.tools import RecoverTools

    from conftest import Record


class Crash(BaseException):
    """The process dies here: nothing of ours may catch it."""


class CrashAt:
    """Counts moments, and dies at one of them."""

    def __init__(self, moment: int | None = None) -> None:
        self.seen = 0
        self._moment = moment

    def __call__(self, name: str) -> None:
        self.seen += 1
        if self.seen - 1 == self._moment:
            raise Crash(name)


def run_with(night: Night, crash: Callable[[str], None], procedure: Callable[[RecoverTools], object] = recover) -> bool:
    """Recover; whether it got to its end."""
    night.watch_application(crash)
    try:
        procedure(night.tools(crash))
    except Crash:
        return False
    finally:
        night.watch_application()
    return True


def count_moments(folder: Path) -> int:
    """Return how many moments an undisturbed recovery has."""
    count = CrashAt()
    folder.mkdir()
    assert run_with(Night(folder), count)
    return count.seen


def make_night(folder: Path, moment: int) -> Night:
    """Return a night of its own."""
    path = folder / str(moment)
    path.mkdir()
    return Night(path)


def is_over(night: Night) -> bool:
    """Whether the crash came after the very last commit: then everything is done."""
    newest = next(iter(night.tools().tools.runs.runs("production")), None)
    return newest is not None and newest.state is RunState.DONE


@pytest.mark.proof
@on_both
def test_crash_at_every_moment_then_again(quick_path: Path, proof: Record) -> None:
    """Whatever the moment, the command typed again brings the same end, and each effect once."""
    total = count_moments(quick_path / "whole")
    assert total > 300
    tried = sampled(total, 120, 30)
    for moment in tried:
        night = make_night(quick_path, moment)
        if not run_with(night, CrashAt(moment)) and not is_over(night):
            recover(night.tools())
        night.stop_watching()
        check_recovered(night)
    proof(
        "a recovery crashed before and after every port call and every commit, then again: same end, each effect once, "
        "no acknowledged write lost, none through the fence",
        trials=len(tried),
        failures=0,
    )


@pytest.mark.proof
@on_both
def test_crash_at_every_moment_then_taken_back(quick_path: Path, proof: Record) -> None:
    """Whatever phase it came to, an undo brings back what was there before."""
    total = count_moments(quick_path / "whole")
    tried = sampled(total, 120, 30)
    for moment in tried:
        night = make_night(quick_path, moment)
        run_with(night, CrashAt(moment))
        tools = night.tools()
        newest = next(iter(tools.tools.runs.runs("production")), None)
        if newest is None:
            continue
        take_back(tools)
        night.stop_watching()
        check_taken_back(night)
    proof("a recovery crashed at every moment, then taken back: as before it", trials=len(tried), failures=0)


def test_taken_back_before_anything_was_stopped(quick_path: Path) -> None:
    """It would go on when it is resumed: its copy of the database is dropped, and the environment is free again."""
    night = Night(quick_path)

    def crash(name: str) -> None:
        if name == "after sides.start":
            raise Crash(name)

    assert not run_with(night, crash)
    night.stop_watching()
    night.world.started_by = replace(night.world.started_by, schedules=("0 4 * * *",))
    assert take_back(night.tools()) is None
    box = night.tools().tools
    (run,) = box.runs.runs("production")
    assert run.state.is_over
    assert night.world.live.sole == night.bad.id
    assert night.world.started_by.schedules == ("0 4 * * *",), "it had stopped none"
    assert not night.server.sides


def test_taken_back_while_objects_were_restored(quick_path: Path) -> None:
    """What it had brought back until then goes again; how far other steps of the run came tells nothing of that."""
    night = Night(quick_path)
    seen: list[str] = []

    def crash(name: str) -> None:
        seen.append(name)
        if name == "after objects.carry_out" and seen.count(name) == 2:
            raise Crash(name)

    assert not run_with(night, crash)
    assert take_back(night.tools()) is not None
    night.stop_watching()
    check_taken_back(night)


class FailAt:
    """Fails a call of a port, before its effect or after it, for as long as it is on."""

    def __init__(self, moment: int | None = None) -> None:
        self.seen = 0
        self.names: list[str] = []
        self._moment = moment

    def __call__(self, name: str) -> None:
        if "commit" in name:
            return
        self.seen += 1
        self.names.append(name)
        if self.seen - 1 == self._moment:
            raise ProviderRejected(f"{name} failed", status=500, where="memory")


@pytest.mark.proof
def test_a_failure_opens_everything_before_the_first_overwrite_and_nothing_after_it(
    quick_path: Path, proof: Record
) -> None:
    """Before it the run is given up by itself; from then on it stays closed, and goes on when that is mended."""
    count = FailAt()
    (quick_path / "whole").mkdir()
    assert run_with(Night(quick_path / "whole"), count)
    tried, opened, closed = sampled(count.seen, 60, 15), 0, 0
    for moment in tried:
        night = make_night(quick_path, moment)
        night.watch_application(FailAt(moment))
        try:
            recover(night.tools())
        except BackoutError as error:
            failed: BackoutError | None = error
        else:
            failed = None
        night.watch_application()
        tools = night.tools()
        newest = next(iter(tools.tools.runs.runs("production")), None)
        began, overwrote = look_how_far(tools.tools.journal, newest.id) if newest is not None else (False, False)
        if failed is None or newest is None:  # a source of counts, for example, may fail
            continue
        if began and not overwrote:
            assert isinstance(failed, WorldMoved), (count.names[moment], failed)
            assert newest.state is RunState.FAILED
            night.stop_watching()
            check_taken_back(night)
            opened += 1
        elif overwrote:
            assert isinstance(failed, PartlyDone)
            if not has_opened(night):
                check_closed(night)
                closed += 1
            recover(night.tools())
            night.stop_watching()
            check_recovered(night)
    proof(
        "a call of a recovery failed: given up by itself before the first overwrite, closed from then on",
        trials=len(tried),
        failures=0,
        note=f"{opened} were given up, {closed} stayed closed",
    )


def has_opened(night: Night) -> bool:
    """Whether the fence was taken away already."""
    return "fence.open" in night.world.calls


def test_who_was_let_in_right_before_a_kill_is_not_forgotten(tmp_path: Path) -> None:
    """The fence is gone, and nothing of it is noted yet: an undo goes by what may have been written since."""
    night = Night(tmp_path)

    def kill(name: str) -> None:
        if name == "fence.open":
            raise Crash(name)

    night.world.after_call = kill
    with pytest.raises(Crash):
        recover(night.tools())
    night.world.after_call = None
    (run,) = night.tools().tools.runs.runs("production")
    planned = prepare_undo(night.tools(), run).notes
    run = recover(night.tools())
    assert planned == prepare_undo(night.tools(), run).notes, "the same as of one that came to its end"
