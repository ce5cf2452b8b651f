"""The job workers of a release that a person made live: they follow it, in a run of their own."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from backout.cli.release.tools import MovedJobs, open_releases
from backout.errors import BackoutError, PartlyDone
from backout.model.incident.incident import RunState

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell
    from backout.model.incident.incident import Run
    from backout.runbook.release import PushedRelease
    from backout.runbook.toolbox import Toolbox

_WHOLE = 100.0


def follow_jobs(shell: Shell, tools: Toolbox, pushed: PushedRelease) -> MovedJobs | None:
    """Have the job workers of a release run that all visitors get, and no others.

    Returns:
        None where the application has none, it is a maintenance page, or others get visitors beside it: workers stay
        until one has them all.
    """
    from backout.model.steps.jobs import StartJobsStep
    from backout.plan.jobs import name_lane, plan_jobs
    from backout.ports import find_result
    from backout.wiring.caddy import open_home

    if pushed.share < _WHOLE or pushed.missing or not pushed.release.has_process:
        return None
    if open_home(shell.config()).make_jobs() is None:  # so that a push needs nothing that only a rollback does
        return None
    jobs = tools.rollback.jobs
    if jobs is None:
        return None
    again = f"backout release live {pushed.release.id} -e {tools.environment}"
    if jobs.setup.withheld:
        return MovedJobs("", jobs.setup.withheld, again, 1)
    run = ""
    try:
        for each in islice(tools.runs.walk_runs(name_lane(tools.environment)), 1):
            if each.state is RunState.INTERRUPTED:  # of a release that was live before this one
                tools.runs.ask(each.id, "abort", actor=tools.actor, reason=f"{pushed.release.id} is live by now")
        plan = plan_jobs(tools.environment, pushed.release.id, jobs.setup, tools.rollback.equivalents)
        run = tools.journal.submit(plan, actor=tools.actor, reason=plan.why)
        ended = _drive(shell, tools, run)
    except BackoutError as error:
        return MovedJobs(run, error.what, error.hint or again, error.exit_code)
    if ended.state is not RunState.DONE or find_result(tools.runs, ended.id, StartJobsStep) is None:
        what = f"run {ended.id} is {ended.state}: which job workers run was not read back"
        return MovedJobs(run, what, again, PartlyDone.exit_code)
    return MovedJobs(run)


def resume(shell: Shell, run: Run) -> int:
    """Continue an interrupted run (`backout runs resume`). Raises BackoutError: it cannot come to its end yet."""
    from backout.plan.jobs import get_environment

    shell.take(environment=get_environment(run.environment))
    tools, _ = open_releases(shell)
    ended = _drive(shell, tools, run.id)
    payload = {"environment": tools.environment, "run_id": ended.id, "state": ended.state}
    shell.output.result("release", payload, f"run {ended.id} is {ended.state}")
    return 0


def _drive(shell: Shell, tools: Toolbox, run: str) -> Run:
    from backout.cli.guard.live import Live
    from backout.runbook.procedures import Actions

    live = Live(shell.output, "release")
    found = tools.runs.find(run)
    if found is not None:
        live.follow(found.plan)
    try:
        return tools.journal.drive(run, Actions(tools), actor=tools.actor, notify=live.event)
    finally:
        live.end()
