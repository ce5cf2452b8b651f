"""Job workers and timers follow the traffic: those of other versions are stopped, then those of the live one started.

Never both at once: a timer that fires twice, or two codes at one queue, is what this prevents. What runs is read back.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from backout.analysis.history.remarks import find_underneath
from backout.errors import BackoutError, PartlyDone, WorldMoved
from backout.model.clock import format_duration
from backout.model.jobs import JobsLook, count_in_flight, describe_running
from backout.model.steps.jobs import StartJobsResult, StartJobsStep, StopJobsResult, StopJobsStep
from backout.plan.jobs import add_jobs
from backout.ports import Action
from backout.runbook.probing.pre_promotion import find_chosen
from backout.runbook.safety.identity import check_identity

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from backout.model.plan import Plan
    from backout.ports import JobWorkers, StepContext
    from backout.runbook.toolbox import Toolbox

_LOOK_EVERY_S: Final = 1.0


def look_at_jobs(tools: Toolbox) -> JobsLook | None:
    """Return which workers run, None where the application has none that are known; a failure here stops nothing."""
    if tools.rollback.jobs is None:
        return None
    try:
        return tools.rollback.jobs.read()
    except BackoutError as error:
        return JobsLook(problem=error.what)


def add_job_steps(tools: Toolbox, plan: Plan, version: str, leaving: str) -> Plan:
    """Return the plan with the steps that have the workers follow the traffic, where there are some; see `add_jobs`."""
    jobs = tools.rollback.jobs
    return plan if jobs is None else add_jobs(plan, jobs.setup, version, leaving, tools.rollback.equivalents)


class StopJobs(Action[StopJobsStep, StopJobsResult]):
    """Step `stop_jobs` {version, within_s, every}: stop the workers of every version but the one that is live, or all.

    Doing it again is harmless, so there is nothing to ask before.
    """

    arguments = StopJobsStep

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: StopJobsStep, context: StepContext) -> StopJobsResult:
        """Return {versions, in_flight}, when none of them runs any more.

        Raises:
            WorldMoved: another version is live by now: its workers belong to whoever made it live.
            PartlyDone: some still run.
        """
        tools = self._tools
        check_identity(tools)
        jobs, live = _get_port(tools), "" if args.every else _check_live(tools, args.version, context.run)
        running = jobs.read().list_apart(live)
        versions = tuple(dict.fromkeys(each.version for each in running))
        for version in versions:
            jobs.stop(version)
        left = _await(context.check, tools, jobs, args.within_s, versions, lambda look: not look.running).running
        if left:
            what = f"after {format_duration(args.within_s)} job workers {describe_running(left)} still run"
            then = f"those of version {live[:8]} are not started beside them" if live else "they may still write"
            raise PartlyDone(f"{what}; {then}", where=", ".join(dict.fromkeys(each.host for each in left)))
        return StopJobsResult(versions=versions, in_flight=count_in_flight(running))


class StartJobs(Action[StartJobsStep, StartJobsResult]):
    """Step `start_jobs` {version, within_s}: start the workers of the version that is live; harmless to repeat."""

    arguments = StartJobsStep

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: StartJobsStep, context: StepContext) -> StartJobsResult:
        """Return {version, hosts}, when they run.

        Raises:
            WorldMoved: another version is live by now.
            PartlyDone: they do not run, or those of another version do.
        """
        check_identity(self._tools)
        return start_jobs(self._tools, context.run, args, context.check)


def start_jobs(
    tools: Toolbox, run: str, args: StartJobsStep, check: Callable[[], None] = lambda: None
) -> StartJobsResult:
    """Start the workers of the version that is live, and return {version, hosts}; `check` may interrupt the wait.

    Raises:
        WorldMoved: another version is live than the one of `args`, or of this run.
        PartlyDone: they do not run, or those of another version do.
    """
    jobs, live = _get_port(tools), _check_live(tools, args.version, run)
    before = jobs.read().list_apart(live)
    if before:
        what = f"job workers {describe_running(before)} run, so those of version {live[:8]} are not started"
        raise PartlyDone(what, where=before[0].host)
    try:
        jobs.start(live)
        look = _await(check, tools, jobs, args.within_s, (live,), lambda look: jobs.hosts <= _list_hosts(look, live))
    finally:  # also where some hosts started them and another one failed
        _check_still_live(tools, args, run, live)
    missing = sorted(jobs.hosts - _list_hosts(look, live))
    if missing:
        raise PartlyDone(f"the job workers of version {live[:8]} do not run", where=", ".join(missing))
    return StartJobsResult(version=live, hosts=tuple(sorted(jobs.hosts)))


def _check_still_live(tools: Toolbox, args: StartJobsStep, run: str, live: str) -> None:
    """Raise WorldMoved where another version is live by now; the workers just started are asked to end before."""
    try:
        _check_live(tools, args.version, run)
    except WorldMoved:
        with suppress(BackoutError):
            _get_port(tools).stop(live)
        raise


def _get_port(tools: Toolbox) -> JobWorkers:
    jobs = tools.rollback.jobs
    if jobs is None:
        raise BackoutError("the commands that stop and start job workers are not configured any more")
    if jobs.setup.withheld:
        raise BackoutError(f"job workers cannot be moved: {jobs.setup.withheld}", where=tools.environment)
    return jobs


def _check_live(tools: Toolbox, planned: str, run: str) -> str:
    """Return the version that all visitors get. Raises WorldMoved: it is not the one that this run made live."""
    history = tools.deployments.history()
    live = find_underneath(history).sole if history else None
    wanted = find_chosen(tools, run, planned) if planned else live
    if live is None or live != wanted:
        what = f"{live or 'no single version'} is live by now, so the job workers are left to whoever changed that"
        raise WorldMoved(what, where=tools.environment, hint=f"backout status -e {tools.environment}")
    return live


def _await(
    check: Callable[[], None],
    tools: Toolbox,
    jobs: JobWorkers,
    within_s: float,
    versions: Collection[str],
    is_so: Callable[[JobsLook], bool],
) -> JobsLook:
    """Return the first look that is as expected, or the last one within the time. Raises what `check` does."""
    deadline = tools.clock.now() + within_s
    look = jobs.read(versions)
    while not is_so(look) and tools.clock.now() < deadline:
        check()
        tools.clock.sleep(_LOOK_EVERY_S)
        look = jobs.read(versions)
    return look


def _list_hosts(look: JobsLook, version: str) -> frozenset[str]:
    return frozenset(each.host for each in look.running if each.version == version)
