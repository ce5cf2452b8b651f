"""Where drills take place: one twin, the good version that guard has proven, and visitors. It stops when we end."""

from __future__ import annotations

import contextlib
import shutil
import time
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.config.drills import UNGUARDED
from backout.config.scalars import Duration
from backout.config.schema.drill import OF_A_WORKER, WatchPart
from backout.errors import BackoutError, UsageError
from backout.model.drill import DrillPlace
from backout.model.guard.signals import sum_counts
from backout.private import make_private_folder, write_new
from backout.twin import remote
from backout.twin.stage import NAME, SCRIPT
from backout.wiring.drills.homes import make_home
from backout.wiring.drills.trial import LONGEST_S, Trial
from backout.wiring.drills.visits import Visitors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from backout.config.drills import Drill
    from backout.config.schema.drill import FaultPart
    from backout.runbook.toolbox import Toolbox
    from backout.twin.lifecycle import TwinStatus
    from backout.twin.stage import Stage

_FEW_ERRORS: Final = 0.002
_ENOUGH: Final = 0.5
"""Of the visitors that are to come, so many come to a busy machine."""
_LONGEST_PAST_S: Final = 300.0
"""The good version is compared with what it answered within so long, unless something else was wrong in it."""
_POLL_S: Final = 0.5
_STAGE, _TRIALS, _PLANTED, _BACKUPS = "stage", "trials", "planted", "backups"
BESIDE: Final = "beside"
"""The folder of a second place on the same twin."""
_MARK: Final = ".backout-drills"
_RATE_PER_S: Final = 50.0
_PROVEN_IN: Final = WatchPart(lasts=Duration(120), baseline=Duration(5))


class Ground:
    """The place of drills, below a folder that is only ours.

    Args:
        directory: what lies there from before is removed, and a twin that still runs there is stopped.
        say: hears what is done, a line at a time.
        rules: of production, for its simulation.
        beside: another place, whose twin this one uses as well, with an application and visitors of its own.
        place: of the application: the twin of Cloudflare, or plain hosts.
    """

    def __init__(
        self,
        directory: Path,
        say: Callable[[str], None],
        rules: Mapping[str, dict[str, object]] | None = None,
        *,
        beside: Ground | None = None,
        place: DrillPlace = DrillPlace.TWIN,
    ) -> None:
        self.directory = directory
        self.good = ""
        self._say = say
        self._rules = rules or {}
        self._beside = beside
        self.home = make_home(place, directory / _STAGE, name=NAME if beside is None else f"{NAME}-2")
        self._stage = self.home.stage
        self._visitors: Visitors | None = None
        self._rate_per_s = 0.0
        self._calm_since = 0.0
        self._trials: list[Trial] = []
        self._broken: list[tuple[str, str | None]] = []
        self._is_over = False

    @property
    def twin(self) -> TwinStatus:
        """The running twin."""
        return self._stage.twin

    @property
    def planted(self) -> Path:
        """The folder of what a drill's configuration names: secrets, addresses."""
        return self.directory / _PLANTED

    @property
    def stage(self) -> Stage:
        """The sample application."""
        return self._stage

    def open(self) -> None:
        """Start the twin, unless it is that of another place, deploy the good version and have guard prove it.

        Raises:
            BackoutError: one of these failed.
        """
        if self._beside is None:
            self._claim()
            self._stage.clear()
            for name in (_TRIALS, _PLANTED, _BACKUPS, BESIDE):
                shutil.rmtree(self.directory / name, ignore_errors=True)
            self._stage.set_up(self._say)
        else:
            make_private_folder(self.directory)
            self._stage.join(self._beside.twin)
        self.good = self.home.deploy("good")
        self._calm_since = time.time()
        self.welcome(_RATE_PER_S)
        proof = self.make_trial(_PROVEN_IN, journal=False)
        ended = proof.run("guard", "--early", "--json")
        if ended.record.get("action") != "stable":
            why = ended.record.get("why") or ended.err.strip()[-500:]
            raise BackoutError(f"the good version was not proven: {why}", where="the drill")
        for file in proof.folder.glob("journal.sqlite*"):
            shutil.copy(file, self._stage.directory / file.name)

    def _claim(self) -> None:
        """Mark the folder as one of drills, which remove what is in it. Raises UsageError: it is somebody's own."""
        mark = self.directory / _MARK
        if mark.exists():
            return
        names = (_STAGE, _TRIALS, _PLANTED, _BACKUPS, BESIDE)
        if theirs := [name for name in names if (self.directory / name).exists()]:
            what = f"the folder has a {theirs[0]}/ that is not of drills, and would be removed"
            raise UsageError(what, where=str(self.directory), hint="an empty one: `backout drill run throws --dir DIR`")
        make_private_folder(self.directory)
        write_new(mark, b"")

    def close(self) -> None:
        """Have nobody come any more, and stop the twin where it is ours."""
        self.welcome(0.0)
        if self._beside is None:
            self._stage.tear_down()

    def stop(self) -> None:
        """End what a drill is doing here in another thread, which fails."""
        self._is_over = True
        for trial in self._trials:
            trial.close()

    def make_trial(
        self,
        watch: WatchPart,
        *,
        journal: bool = True,
        more: Mapping[str, object] | None = None,
        is_simulation: bool = False,
        notify: Mapping[str, object] | None = None,
    ) -> Trial:
        """Return a folder with a configuration of its own; its journal knows that the good version is stable.

        Its guard compares with all of the past without faults, between earlier drills too, at most five minutes.

        Args:
            watch: its criteria; the baseline is the least past.
            journal: False: an empty journal.
            more: further tables of its environment, by name.
            is_simulation: whether production's rules hold.
            notify: who is told; None: nobody.
        """
        folder = self.directory / _TRIALS / str(len(self._trials) + 1)
        known = self._stage.directory / "journal.sqlite" if journal else None
        rules = self._rules if is_simulation else None
        past_s = max(float(watch.baseline), time.time() - self._find_past_start())
        criteria = replace(watch, baseline=Duration(past_s))
        trial = Trial(folder, self.home, criteria, journal=known, more=more, rules=rules, notify=notify)
        self._trials.append(trial)
        if self._is_over:
            trial.close()
        return trial

    def welcome(self, rate_per_s: float) -> Visitors | None:
        """Have so many visitors come from now on, and return them; None for none.

        Raises:
            BackoutError: it was stopped, and nobody comes any more.
        """
        if rate_per_s > 0 and self._is_over:
            raise BackoutError("it was stopped", where="the drill")
        there = self._visitors
        if there is not None and (rate_per_s != self._rate_per_s or not there.is_there()):
            there.leave()
            self._visitors = there = None
        if there is None and rate_per_s > 0:
            self._visitors = Visitors(self._stage, rate_per_s)
            self._rate_per_s = rate_per_s
            self._calm_since = time.time()
        if self._visitors is not None:
            self._visitors.forget()
        return self._visitors

    def settle(self, drill: Drill) -> Visitors | None:
        """Return the visitors once the good version is live and has a past without faults as long as the baseline.

        Raises:
            BackoutError: it does not come to that.
        """
        for broken in self._broken:  # by a drill that failed
            remote.clear_faults(self.twin, *broken)
        self._broken.clear()
        visitors = self.welcome(drill.file.visitors.rate)
        tools = self.make_trial(drill.file.watch).tools()
        if tools.deployments.history()[0].sole != self.good:
            tools.deployments.activate(self.good, message="pushed", force=True)
        _forget_remarks(tools, self.home.listed, others=drill.file.procedure == "lost-journal")
        self.home.tidy()
        if visitors is not None:
            if drill.file.procedure not in UNGUARDED:
                self.await_past(tools, drill, self.good)
            visitors.forget()
        return visitors

    def mark_disturbed(self) -> None:
        """Take note that what the good version answered until now is no past to compare with."""
        self._calm_since = time.time()

    def await_past(self, tools: Toolbox, drill: Drill, version: str) -> None:
        """Return when a version was live for as long as the drill's baseline, without faults; other drills lie between.

        Raises:
            BackoutError: it does not come to that.
        """
        assert tools.traffic is not None
        until = time.monotonic() + LONGEST_S
        baseline_s, rate_per_s = float(drill.file.watch.baseline), drill.file.visitors.rate
        while time.monotonic() < until and not self._is_over:
            since, now = int(self._find_past_start()), int(time.time())
            rows = tools.traffic.read(since, now).counts if now - since >= baseline_s else ()
            requests, errors = sum_counts(row for row in rows if row.version == version)
            others = {row.second for row in rows if row.version != version and row.requests}
            # Where other versions took turns with it, guard takes what comes to one alone for a crowd, which makes
            # answers slower by itself.
            if errors > requests * _FEW_ERRORS or (others and drill.file.bad.slower_than is not None):
                self.mark_disturbed()
            elif now - since - len(others) >= baseline_s and requests >= _ENOUGH * rate_per_s * baseline_s:
                return
            time.sleep(_POLL_S)
        raise BackoutError("the good version does not come to rest", where="the drill")

    def _find_past_start(self) -> float:
        return max(self._calm_since, time.time() - _LONGEST_PAST_S)

    @contextlib.contextmanager
    def break_service(self, fault: FaultPart) -> Iterator[None]:
        """Have something broken until the block ends."""
        is_ours = fault.target in (None, SCRIPT) and fault.kind in OF_A_WORKER
        target = self._stage.script if is_ours else fault.target
        order: dict[str, str | int | float | None] = {
            "kind": fault.kind,
            "target": target,
            "share": fault.share,
            "status": fault.status,
            "latency_ms": None if fault.latency is None else fault.latency * 1000,
        }
        self._broken.append((fault.kind, target))
        remote.set_fault(self.twin, order)
        try:
            yield
        finally:
            with contextlib.suppress(BackoutError):  # the twin itself may be gone
                remote.clear_faults(self.twin, fault.kind, target)
                self._broken.remove((fault.kind, target))


def open_ground(
    directory: Path,
    say: Callable[[str], None],
    rules: Mapping[str, dict[str, object]] | None = None,
    *,
    place: DrillPlace = DrillPlace.TWIN,
) -> Ground:
    """Return the place, set up; it is stopped again where that fails. Arguments as of `Ground`.

    Raises:
        BackoutError: it could not be set up.
    """
    ground = Ground(directory, say, rules, place=place)
    try:
        ground.open()
    except BaseException:
        with contextlib.suppress(BackoutError):
            ground.close()
        raise
    return ground


def _forget_remarks(tools: Toolbox, listed: int, *, others: bool) -> None:
    """Push what backout wrote out of the provider's list, by deploying what is live again and again.

    Args:
        others: deployments of other versions, too: guard proves the good one first, and compares it with one before,
            which an earlier drill may have left live for a few seconds.
    """
    history = tools.deployments.history()
    said = [
        number
        for number, deployment in enumerate(history)
        if deployment.message.startswith("[backout") or (others and deployment.sole != history[0].sole)
    ]
    for _ in range(listed - min(said) if said else 0):
        tools.deployments.deploy(history[0].shares, message="pushed", force=True)
