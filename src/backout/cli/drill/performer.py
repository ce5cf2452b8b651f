"""Performs drills one after the other, or two side by side, and records each; Ctrl-C stops what is under way."""

from __future__ import annotations

import contextlib
import functools
import secrets
import time
from collections import deque
from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.errors import BackoutError, Busy, Interrupted, PartlyDone
from backout.model.drill import DrillPlace, DrillRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from backout.config import Config
    from backout.config.drills import Drill
    from backout.journal.stop import InterruptLatch
    from backout.model.drill import DrillResult
    from backout.ports import Journal
    from backout.wiring.drills.ground import Ground

_POLL_S = 0.5


def perform_all(
    performer: Performer,
    journal: Journal,
    chosen: Sequence[Drill],
    batch: str,
    interrupts: InterruptLatch,
    *,
    in_pairs: bool,
) -> Iterator[DrillRecord]:
    """Perform drills at one place, and yield what became of each as it ends.

    Args:
        in_pairs: first those that can take place side by side, two at a time, then the others.

    Raises:
        Busy: another drill is at work in the same folder.
    """
    from backout.wiring.drills.records import make_drill_lock

    lock, folder = make_drill_lock(performer.folder), str(performer.folder)
    if not lock.take():
        raise Busy("another drill is at work there", where=folder, hint="wait for it, or name another --dir")
    try:
        with contextlib.closing(performer):
            log = DrillLog(journal, batch, performer.say, len(chosen), performer.place)
            if any(each.file.environment is DrillPlace.TWIN for each in chosen):
                performer.open_ground()
            side = [each for each in chosen if in_pairs and not each.file.needs_twin_alone]
            if side:
                yield from perform_in_pairs(performer, log, side, interrupts)
            for drill in chosen:
                if drill not in side:
                    started = log.start(drill)
                    note = functools.partial(log.note_breaking, started)
                    record = log.end(started, functools.partial(performer.perform, drill, note))
                    yield record
                    log.tell(record)
    finally:
        lock.free()


class Performer:
    """Performs drills; the twin is started for the first one that takes place on it."""

    def __init__(
        self,
        config: Config | None,
        folder: Path,
        say: Callable[[str], None],
        place: DrillPlace = DrillPlace.TWIN,
    ) -> None:
        self._config = config
        self.folder = folder
        self.place = place
        self.say = say
        self._ground: Ground | None = None

    def perform(self, drill: Drill, note: Callable[[str, str, str], None]) -> DrillResult:
        """Perform one drill where it belongs, and return its result.

        Args:
            note: takes what has to be live again in an environment of the team's own, see `DrillLog.note_breaking`.

        Raises:
            BackoutError: something failed that is no part of the drill.
        """
        if drill.file.environment is not DrillPlace.TWIN:
            from backout.wiring.drills.rehearsal import perform_there

            return perform_there(self._config, drill, self.folder / "elsewhere", self.say, note)
        from backout.wiring.drills.performing import perform_drill

        return perform_drill(self.open_ground(), drill, self.say)

    def open_ground(self) -> Ground:
        """Return the twin's place, started. Raises BackoutError: it could not be."""
        if self._ground is None:
            from backout.wiring.drills.ground import open_ground
            from backout.wiring.drills.simulation import read_rules

            self.say("starting a twin, and having guard prove the good version")
            self._ground = open_ground(self.folder, self.say, read_rules(self._config), place=self.place)
        return self._ground

    def make_second(self) -> Ground:
        """Return another place on the same twin, not opened yet."""
        from backout.wiring.drills.ground import BESIDE, Ground
        from backout.wiring.drills.simulation import read_rules

        return Ground(self.folder / BESIDE, self.say, read_rules(self._config), beside=self.open_ground())

    def close(self) -> None:
        """Stop the twin."""
        if self._ground is not None:
            self._ground.close()


class DrillLog:
    """What is recorded and said of each drill: its beginning before anything is done, its end after it."""

    def __init__(
        self,
        journal: Journal,
        batch: str,
        say: Callable[[str], None],
        number: int,
        place: DrillPlace = DrillPlace.TWIN,
    ) -> None:
        from backout.wiring.drills.records import read_actor

        self._journal = journal
        self._batch = batch
        self._say = say
        self._number = number
        self._place = place
        self._started = 0
        self._actor = read_actor()

    def start(self, drill: Drill) -> DrillRecord:
        """Say and record that a drill begins, and return its record, which has no result yet."""
        from backout.runbook.incident.drills import record_start

        self._started += 1
        run, place = f"drill-{secrets.token_hex(4)}", drill.file.environment
        place = self._place if place is DrillPlace.TWIN else place
        self._say(f"{self._started} of {self._number}: {drill.name}")
        record_start(self._journal, run, drill.name, place, actor=self._actor, batch=self._batch)
        return DrillRecord(run, drill.name, place, time.time(), batch=self._batch)

    def note_breaking(self, record: DrillRecord, environment: str, good: str, bad: str) -> None:
        """Record what has to be live again in an environment of the team's own, before it is broken and after."""
        from backout.runbook.incident.drills import record_breaking, record_broken

        if bad:
            record_broken(self._journal, record.run, record.name, bad, actor=self._actor)
        else:
            record_breaking(self._journal, record.run, record.name, environment, good, actor=self._actor)

    def end(self, record: DrillRecord, find: Callable[[], DrillResult]) -> DrillRecord:
        """Return the record with its result, or why there is none. Raises Interrupted; PartlyDone: staging is bad."""
        from backout.runbook.incident.drills import record_end, record_failure

        try:
            result = find()
        except Interrupted:
            raise
        except BackoutError as error:
            why = f"{error}; {error.hint}" if error.hint else str(error)
            record_failure(self._journal, record.run, record.name, record.environment, why, actor=self._actor)
            if isinstance(error, PartlyDone) and record.environment is DrillPlace.STAGING:
                raise
            return replace(record, why=why)
        record_end(self._journal, record.run, result, actor=self._actor)
        return replace(record, result=result)

    def tell(self, record: DrillRecord, prefix: str = "") -> None:
        """Say how it ended."""
        result = record.result
        self._say(prefix + (f"not performed: {record.why}" if result is None else _describe(result)))


def perform_in_pairs(
    performer: Performer, log: DrillLog, chosen: Sequence[Drill], interrupts: InterruptLatch
) -> Iterator[DrillRecord]:
    """Perform drills at two places on one twin, and yield what became of each as it ends.

    Raises:
        KeyboardInterrupt: Ctrl-C, whichever line it came in.
    """
    from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

    from backout.wiring.drills.performing import perform_drill

    first = performer.open_ground()
    second = performer.make_second() if len(chosen) > 1 else None
    free, waiting = [first], deque(chosen)
    running: dict[Future[DrillResult], tuple[DrillRecord, Ground]] = {}

    def perform(ground: Ground, drill: Drill) -> DrillResult:
        return perform_drill(ground, drill, lambda text: performer.say(f"{drill.name}: {text}"))

    with contextlib.ExitStack() as ends:
        if second is not None:
            ends.callback(second.close)  # once the other threads have ended
        pool = ends.enter_context(ThreadPoolExecutor(2))
        opening: Future[None] | None = None if second is None else pool.submit(second.open)
        try:
            while waiting or running:
                if second is not None and opening is not None and opening.done():
                    if (error := opening.exception()) is None:
                        free.append(second)
                    else:  # of whatever kind: the first place will do
                        performer.say(f"one at a time, as there is no second place: {_describe_error(error)}")
                    opening = None
                while waiting and free:
                    drill, ground = waiting.popleft(), free.pop()
                    record = log.start(drill)
                    running[pool.submit(perform, ground, drill)] = record, ground
                interrupts.check()
                for done in wait(running, _POLL_S, return_when=FIRST_COMPLETED).done:
                    record, ground = running.pop(done)
                    free.append(ground)
                    ended = log.end(record, done.result)
                    yield ended
                    log.tell(ended, f"{ended.name}: ")
        finally:
            is_cut_short = bool(running or waiting)  # Ctrl-C: what is under way counts as interrupted
            if is_cut_short:
                first.stop()
            if second is not None and (is_cut_short or opening is not None):
                second.stop()


def _describe_error(error: BaseException) -> str:
    return str(error) if isinstance(error, BackoutError) else f"{type(error).__name__}: {error}"


def _describe(result: DrillResult) -> str:
    measured = result.measured
    back = "" if measured.rto_s is None else f", {measured.bad_requests} bad requests in {measured.rto_s:.1f} s"
    seen = f"; {measured.detail}" if measured.detail and result.environment is not DrillPlace.TWIN else ""
    return f"{'passed' if result.passed else 'MISSED'}: {measured.action}{back}{seen}"
