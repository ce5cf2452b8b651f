"""The common drill: guard waits, a version is deployed over the good one, something breaks, and guard decides."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Final

from backout.analysis.drills import BadAnswers, find_bad
from backout.errors import BackoutError
from backout.model.drill import DrillAction, Measured
from backout.wiring.drills.times import find_times
from backout.wiring.drills.visits import visiting
from backout.wiring.drills.witness import Witness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backout.config.drills import Drill
    from backout.config.schema.drill import BadPart, FaultPart
    from backout.model.drill import Loss, Visit
    from backout.wiring.drills.ground import Ground
    from backout.wiring.drills.times import Times
    from backout.wiring.drills.trial import Ended, Program, Trial
    from backout.wiring.drills.visits import Visitors

SEEN_BEFORE_S: Final = 4.0
"""How long guard looks at what is broken before the deployment."""
_ACTIONS: Final = {
    "rollback": DrillAction.ROLLBACK,
    "push_secret": DrillAction.PUSH_SECRET,
    "stable": DrillAction.NONE,
    "accept": DrillAction.NONE,
    "hold": DrillAction.HOLD,
    "void": DrillAction.NONE,
    "refused": DrillAction.REFUSE,
}
_CHANGES: Final = (DrillAction.ROLLBACK, DrillAction.PUSH_SECRET)
_SLOWING: Final = ("latency", "service-down", "storage-denied", "worker-crash")
"""Faults that change more of the good version's answers than their counts of errors show."""
NOTHING_WRONG: Final = "S0_no_action"


class Scene:
    """What a procedure is given: the place, the drill, its own backout, the visitors, and who hears of it.

    Args:
        visitors: None: nobody comes.
        say: hears what is done, a line at a time.
    """

    def __init__(
        self, ground: Ground, drill: Drill, trial: Trial, visitors: Visitors | None, say: Callable[[str], None]
    ) -> None:
        self.ground = ground
        self.drill = drill
        self.trial = trial
        self.visitors = visitors
        self.say = say

    @property
    def visits(self) -> tuple[Visit, ...]:
        """What the usual visitors were answered."""
        return () if self.visitors is None else self.visitors.visits


def perform_deployment(scene: Scene) -> Measured:
    """Deploy the drill's version while guard waits, and return what followed.

    Raises:
        BackoutError: guard or the deployment failed in a way that is no part of the drill.
    """
    guard = start_guard(scene)
    with broken_before(scene):
        version, since = deploy(scene)
        with broken_after(scene), Witness(scene.ground.stage, writes=scene.drill.file.visitors.rate > 0) as witness:
            ended = guard.await_end()
    return measure(scene, ended, version, since, witness.measure_loss())


def start_guard(scene: Scene) -> Program:
    """Start a guard that waits for the next deployment, and return it when it does. Raises BackoutError: it ended."""
    meant = scene.drill.file.deploy.expect.items()
    expected = [f"{asked}={status}" for asked, statuses in meant for status in statuses]
    words = [word for each in expected for word in ("--expect", each)]
    guard = scene.trial.start("guard", "--next", "--mode", "act", *words, "--json")
    guard.await_words("waiting for the next deployment", on_stderr=True)
    return guard


def deploy(scene: Scene) -> tuple[str, float]:
    """Deploy the drill's version as a pipeline does; return it, and when the API made it live (Unix seconds).

    Raises:
        BackoutError: it cannot be deployed.
    """
    part = scene.drill.file.deploy
    version = scene.ground.home.deploy(part.variant, **part.variables)
    scene.say(f"deployed {part.variant}")
    return version, find_deployed_at(scene, version)


@contextlib.contextmanager
def broken_before(scene: Scene) -> Iterator[None]:
    """Have broken what is broken before the deployment, until the block ends; guard sees it for a while first."""
    before = [fault for fault in scene.drill.file.fault if fault.when == "before"]
    with contextlib.ExitStack() as broken:
        for fault in before:
            broken.enter_context(break_for_a_while(scene.ground, fault))
        if before:
            time.sleep(SEEN_BEFORE_S)
        yield
    if before:
        scene.ground.mark_disturbed()


@contextlib.contextmanager
def broken_after(scene: Scene) -> Iterator[None]:
    """Have broken what is broken after the deployment, and the other visitors come, until the block ends."""
    after = [fault for fault in scene.drill.file.fault if fault.when == "after"]
    with contextlib.ExitStack() as broken:
        for kind, rate in scene.drill.file.visitors.others.items():
            broken.enter_context(visiting(scene.ground.stage, rate, kind))
        for fault in after:
            broken.enter_context(break_for_a_while(scene.ground, fault))
        yield
    if any(fault.kind in _SLOWING for fault in after):
        scene.ground.mark_disturbed()


def find_deployed_at(scene: Scene, version: str) -> float:
    """Return when the deployment of a version was made, as the API says; Unix seconds."""
    history = scene.trial.tools().deployments.history()
    return next((each.created_at for each in history if each.main == version), time.time())


def measure(scene: Scene, ended: Ended, version: str, since: float, loss: Loss) -> Measured:
    """Return what guard made of a version that was deployed, by its own answer, its journal and the visitors.

    Args:
        since: of the deployment, Unix seconds.
        loss: what was found to be lost.

    Raises:
        BackoutError: guard gave no answer, or one that the API contradicts.
    """
    tools, record = scene.trial.tools(), ended.record
    times = find_times(tools)
    until = times.verified or times.switched or time.time()
    bad = find_bad(scene.visits, make_bad(scene.drill.file.bad, version), since, max(until, since))
    action = find_action(scene, ended, version)
    said = str(record.get("reason") or record.get("what") or ended.err.strip()[-200:])
    return Measured(
        action=action,
        scenario=find_scenario(times),
        **make_spans(times, bad, since, switched=action in _CHANGES),
        rpo=loss,
        bad_requests=len(bad),
        requests=sum(visit.at >= since for visit in scene.visits),
        detail=said,
    )


def make_bad(part: BadPart, version: str) -> BadAnswers:
    """Return which answers of a version are bad."""
    slower_ms = None if part.slower_than is None else part.slower_than * 1000
    return BadAnswers(version, part.statuses, slower_ms)


def make_spans(times: Times, bad: tuple[float, ...], since: float, *, switched: bool) -> dict[str, float | None]:
    """Return the fields of `Measured` in seconds.

    Args:
        since: of the deployment.
        switched: whether anything was changed.
    """
    began = bad[0] if bad else since
    decided = times.decided if switched else None
    return {
        "detect_s": subtract(times.decided, began) if switched else None,
        "decide_s": subtract(times.began, decided),
        "act_s": subtract(times.switched, times.began) if switched else None,
        "verify_s": subtract(times.verified, times.switched) if switched else None,
        "rto_s": round(bad[-1] - bad[0], 3) if bad else None,
    }


def subtract(later: float | None, earlier: float | None) -> float | None:
    """Return the seconds between two times, None where one is not known; never less than 0."""
    return None if later is None or earlier is None else round(max(later - earlier, 0.0), 3)


def find_scenario(times: Times) -> str | None:
    """Return the scenario that was diagnosed, None where nothing is wrong."""
    return None if times.scenario == NOTHING_WRONG else times.scenario


def find_action(scene: Scene, ended: Ended, version: str) -> DrillAction:
    """Return what followed; a rollback only where the API says that the version is not live any more.

    Raises:
        BackoutError: guard gave no answer, or its answer is not what the API says.
    """
    record = ended.record
    known = _ACTIONS.get(str(record.get("action")))
    if known is None and record.get("rule"):
        known = DrillAction.REFUSE
    if known is None:
        raise BackoutError(f"guard did not answer: {ended.err.strip()[-500:]}", where=scene.drill.name)
    is_left = scene.trial.find_live() != version
    if is_left is not (known in _CHANGES) and record.get("action") != "void":
        what = f"guard said {known}, and version {version} is {'not ' * is_left}live"
        raise BackoutError(what, where=scene.drill.name)
    return known


@contextlib.contextmanager
def break_for_a_while(ground: Ground, fault: FaultPart) -> Iterator[None]:
    """Have something broken from `after` on, for as long as the file says, or until the block ends."""
    if not fault.after and fault.lasting is None:
        with ground.break_service(fault):
            yield
        return
    over = threading.Event()

    def break_it() -> None:
        if not over.wait(fault.after):
            with ground.break_service(fault):
                over.wait(fault.lasting)

    thread = threading.Thread(target=break_it, name="fault", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
