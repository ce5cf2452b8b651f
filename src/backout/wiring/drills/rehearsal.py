"""The runbook's rollback test, its six steps as written: in an environment of the team's own, or on the twin."""

from __future__ import annotations

import os
import shlex
import shutil
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.analysis.drills import BadAnswers, find_bad, judge_drill
from backout.config import Environment, load
from backout.config.trust import check_config
from backout.decoding import Undecodable, decode_json
from backout.errors import BackoutError, PartlyDone, UsageError
from backout.journal.stop import EndSignals
from backout.model.clock import format_duration
from backout.model.drill import DrillAction, DrillPlace, DrillResult, Measured
from backout.model.guard.signals import ServiceState
from backout.model.value import Value
from backout.private import make_private_folder
from backout.providers.child_environment import make_team_environment
from backout.wiring.drills.deployment import subtract
from backout.wiring.drills.times import find_times
from backout.wiring.drills.trial import LONGEST_S, Ended, Runner
from backout.wiring.drills.witness import Witness
from backout.wiring.toolbox import make_deployer, make_toolbox

if TYPE_CHECKING:
    from pathlib import Path

    from backout.config import Config
    from backout.config.drills import Drill
    from backout.model.guard.signals import HealthReport
    from backout.runbook.toolbox import Toolbox
    from backout.wiring.drills.deployment import Scene

_PATIENCE_S: Final = 120.0
_PUT_BACK_S: Final = 30.0
_POLL_S: Final = 0.5
_OK: Final = 200
_TOLD_EVERY_S: Final = 30.0

Follow = Callable[[Sequence[str], Callable[[str], None], float], Ended]


class _Tick(Value, frozen=True):
    """What is read of a line of `backout guard --json`."""

    type: str
    elapsed_s: float = 0.0
    for_s: float = 0.0
    verdict: str = ""
    reason: str = ""
    requests: int = 0
    errors: int = 0
    health: str = ""


def perform_six_steps(scene: Scene) -> Measured:
    """Rehearse on the twin.

    Raises:
        BackoutError: as `perform_steps`.
    """
    home, part = scene.ground.home, scene.drill.file.deploy
    tools = scene.trial.tools()
    since = time.time()
    with Witness(home.stage) as witness:
        measured = perform_steps(
            scene.trial,
            tools,
            lambda: _forget(home.deploy("good")),
            lambda: _forget(home.deploy(part.variant, **part.variables)),
            scene.say,
        )
    bad = find_bad(scene.visits, BadAnswers(), since, time.time())
    return replace(measured, rpo=witness.measure_loss(), bad_requests=len(bad), requests=len(scene.visits))


def _forget(_: str) -> None:
    pass


def perform_there(
    config: Config | None,
    drill: Drill,
    folder: Path,
    say: Callable[[str], None],
    note: Callable[[str, str, str], None],
) -> DrillResult:
    """Rehearse in staging, or watch production, and return the result.

    Args:
        config: of that environment.
        folder: made anew, for a journal and reports of its own: no statistics of the environment count a drill.
        note: told the environment and its good version before anything broken is deployed, and afterwards that version
            as well.

    Raises:
        UsageError: see `check_there`; no program may be run.
        Untrusted: somebody else could have written the drill.
        PartlyDone: a step failed, and what the drill broke could not be put back.
        BackoutError: as `perform_steps`; guard gave no answer.
    """
    at = time.time()
    shutil.rmtree(folder, ignore_errors=True)
    make_private_folder(folder)
    found = check_there(drill, config)
    own = {"BACKOUT_JOURNAL_PATH": folder / "journal.sqlite", "BACKOUT_INCIDENTS_DIRECTORY": folder / "incidents"}
    variables = {**os.environ, **{name: str(path.absolute()) for name, path in own.items()}}
    found = load(
        Environment(variables),
        start=found.path.parent,
        path=found.path,
        environment=found.name,
        no_commands=found.no_commands,
    )
    runner = Runner(folder, found.path, found.name, variables=make_team_environment(variables))
    try:
        is_rehearsal = drill.file.environment is DrillPlace.STAGING
        measured = (
            _perform_steps_there(found, drill, runner, say, note)
            if is_rehearsal
            else watch_there(drill, runner.follow, say)
        )
    finally:
        runner.close()
    missed = judge_drill(drill.expected, drill.file.limits.as_model(), measured)
    place = drill.file.environment
    return DrillResult(drill.name, place, drill.expected, measured, missed, round(at, 3), round(time.time() - at, 3))


def check_there(drill: Drill, config: Config | None) -> Config:
    """Return the configuration of a drill that does not take place on the twin.

    Raises:
        UsageError: there is none, it is that of a protected environment, or a command is missing.
    """
    place = drill.file.environment
    if config is None:
        what = f"a drill in {place} needs a backout.toml with that environment"
        raise UsageError(what, where=drill.name, hint="backout init")
    if place is DrillPlace.STAGING:
        if config.protected:
            what = f"{config.name} is protected: nothing broken is deployed there"
            raise UsageError(what, where=drill.name, hint=f"backout drill run {drill.name} -e staging")
        _find_commands(drill, config)
    return config


def _find_commands(drill: Drill, config: Config) -> tuple[str, str]:
    """Return the commands that deploy a working and a broken version. Raises UsageError: one of them is not known."""
    commands = drill.file.commands
    good, bad = commands.good or config.environment.deploy.command, commands.bad
    if good and bad:
        return good, bad
    what = "commands.bad" if good else "commands.good, or deploy.command of the environment"
    raise UsageError(
        f"no command deploys a {'broken' if good else 'working'} version: {what}",
        where=drill.name,
        hint=f"drills/{drill.name}.toml beside backout.toml, as in docs/drills.md",
    )


def _perform_steps_there(
    config: Config, drill: Drill, runner: Runner, say: Callable[[str], None], note: Callable[[str, str, str], None]
) -> Measured:
    tools, (good, bad) = make_toolbox(config), _find_commands(drill, config)
    check_config(drill.path, None)
    deployer = make_deployer(config)
    if config.no_commands:
        raise UsageError("the commands of the drill are not run (--no-commands)", where=drill.name)
    known: list[str] = []  # the version that works, and the broken one once it was read back

    def run(command: str) -> None:
        ended = deployer.run(command, say)
        if ended.code != 0:
            raise BackoutError(f"`{command}` ended with {ended.code}", where=drill.name)

    def run_bad() -> None:
        known.append(tools.deployments.history()[0].main)
        note(config.name, known[0], "")
        run(bad)
        known.append(tools.deployments.history()[0].main)
        note(config.name, *known)

    with EndSignals() as ends:
        try:
            return perform_steps(runner, tools, lambda: run(good), run_bad, say)
        except BaseException:  # Ctrl-C as well: what the drill broke does not stay
            ends.hold_off()
            if known:
                put_back(tools, known[0], "".join(known[1:]), say)
            raise


def put_back(tools: Toolbox, good: str, bad: str, say: Callable[[str], None]) -> None:
    """Make the version live that was there before the broken one, unless it is.

    Args:
        bad: the broken version; "" where it was not read back: then what came right after the good one.

    Raises:
        PartlyDone: it could not be; or something else is live, which is left to whoever deployed it.
    """
    try:
        live, *before = tools.deployments.history()
        if live.sole == good:
            return
        is_ours = live.main == bad if bad else bool(before) and before[0].main == good
        problem = "" if is_ours else f"{live.main} is live, which the drill did not deploy"
        if is_ours:
            problem = _make_live_again(tools, good, say)
    except BackoutError as error:
        problem = error.what
    if problem:
        environment = shlex.quote(tools.environment)
        raise PartlyDone(
            f"{tools.environment} is not as it was before the drill: {problem}",
            where=tools.environment,
            hint=f'backout rollback {good} -e {environment} --accept-unproven -m "a drill was stopped"',
        )


def _make_live_again(tools: Toolbox, good: str, say: Callable[[str], None]) -> str:
    """Return what is live instead, "" when the good version is, and well. Raises BackoutError."""
    say(f"putting {good} back")
    tools.deployments.activate(good, message="a drill was stopped: what it broke is put back", force=True)
    live = tools.deployments.history()[0].sole
    if live != good:
        return f"{live} is live"
    _await_health(tools, well=True, within_s=_PUT_BACK_S)
    say(f"{good} is live again, and its health endpoint is well")
    return ""


def watch_there(drill: Drill, follow: Follow, say: Callable[[str], None]) -> Measured:
    """Watch what is live as guard does, for as long as the drill says; nothing is changed.

    Args:
        follow: as `Runner.follow`.

    Raises:
        BackoutError: guard gave no answer.
    """
    lasts_s, told = float(drill.file.watch.lasts), _Told(say)
    say(f"guard watches for {format_duration(lasts_s)}, and changes nothing")
    words = ("guard", "--observe", "--for", f"{lasts_s:g}s", "--json")
    ended = follow(words, told.hear, lasts_s + LONGEST_S)
    record = ended.record
    if not record.get("action"):
        raise BackoutError(f"guard did not answer: {ended.err.strip()[-500:]}", where=drill.name)
    reason, did = str(record.get("reason") or ""), str(record.get("why") or record.get("would") or "")
    return Measured(
        action=DrillAction.NONE if ended.code == 0 else DrillAction.HOLD,
        requests=told.requests,
        bad_requests=told.errors,
        detail=f"{record.get('verdict')}: {reason}" + (f"; {did}" if did and did != reason else ""),
    )


class _Told:
    """What guard said of each look; once in a while it is passed on."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._due_s = 0.0
        self.requests = 0
        self.errors = 0

    def hear(self, line: str) -> None:
        """Take a line of guard's."""
        try:
            tick = decode_json(line, _Tick)
        except Undecodable:
            return
        if tick.type != "tick":
            return
        self.requests, self.errors = tick.requests, tick.errors
        if tick.elapsed_s >= self._due_s:
            self._due_s = tick.elapsed_s + _TOLD_EVERY_S
            counted = f"{tick.requests:,} requests, {tick.errors:,} failed; health {tick.health}"
            self._say(f"{tick.elapsed_s:.0f} of {tick.for_s:.0f} s: {counted}; {tick.reason or tick.verdict}")


def perform_steps(
    program: Runner,
    tools: Toolbox,
    deploy_good: Callable[[], None],
    deploy_bad: Callable[[], None],
    say: Callable[[str], None],
) -> Measured:
    """Deploy a working version and a broken one, see that it is broken, roll back, and see that it is well again.

    The health endpoint says what is broken; seconds are counted by it.

    Args:
        program: the real program, for the environment of `tools`.

    Raises:
        BackoutError: a step failed.
    """
    deploy_good()
    _await_health(tools, well=True)
    good = tools.deployments.history()[0].main
    say(f"1, 2: deployed a version that works, {good}")
    since = time.time()
    deploy_bad()
    bad = tools.deployments.history()[0].main
    if bad == good:
        raise BackoutError("the second deployment made nothing else live", where=tools.environment)
    seen = _await_health(tools, well=False)
    say(f"3, 4: deployed {bad}; its health endpoint: {seen.why_unmeasured or seen.status}")
    words = ("-m", "a drill", "--confirm", tools.environment, "--accept-unproven", "--no-wait", "--json")
    ended = program.run("rollback", good, *words)
    if ended.code != 0:
        raise BackoutError(f"the rollback ended with {ended.code}: {ended.err.strip()[-500:]}", where=tools.environment)
    well = _await_health(tools, well=True)
    live = tools.deployments.history()[0].sole
    if live != good:
        raise BackoutError(f"{live} is live, and not {good}", where=tools.environment)
    say("5, 6: rolled back; the health endpoint is well")
    times = find_times(tools, since=since)
    return Measured(
        action=DrillAction.ROLLBACK,
        detect_s=subtract(seen.at, since),
        decide_s=subtract(times.began, seen.at),
        act_s=subtract(times.switched, times.began),
        verify_s=subtract(well.at, times.switched),
        rto_s=subtract(well.at, seen.at),
        detail=f"rolled back {bad} to {good}",
    )


def _await_health(tools: Toolbox, *, well: bool, within_s: float = _PATIENCE_S) -> HealthReport:
    """Return the first report of the health endpoint that is well, or is not. Raises BackoutError: none is."""
    if tools.health is None:
        raise BackoutError("no health endpoint is configured", where=tools.environment)
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        found = tools.health.look()
        if (found.status == _OK and found.overall is not ServiceState.DOWN) is well:
            return found
        time.sleep(_POLL_S)
    raise BackoutError(f"the health endpoint is not {'well' if well else 'broken'}", where=tools.environment)
