"""What a failure does: before the first overwrite everything opens again by itself, from then on nothing does.

A run that moves code alone overwrites nothing; for it the same begins where users are moved to the target.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from msgspec.structs import replace

from backout.analysis.history.remarks import find_underneath
from backout.errors import BackoutError, Busy, Interrupted, WorldMoved
from backout.model.incident.notice import NoticeKind
from backout.model.remark import Remark, RemarkKind
from backout.model.steps.jobs import StartJobsStep, StopJobsStep
from backout.model.steps.recovery import GoLiveStep, MaintenanceStep, PauseStep, RecoverReportStep
from backout.model.steps.restore import SideStep, StopServerStep
from backout.ports import Action, NotDone, find_result
from backout.runbook.incident.tell import tell
from backout.runbook.recover.deadline import tell_overdue
from backout.runbook.recover.opening import start_again
from backout.runbook.recover.tools import (
    LIFTED,
    LIFTING,
    OPENED,
    find_plan,
    get_fence,
    get_restoring,
    look_how_far,
    read_own_fence,
)
from backout.runbook.recovery.steps.swap import UP_WITHIN_S
from backout.runbook.rollback.jobs import start_jobs
from backout.runbook.rollback.marked import make_message
from backout.runbook.safety.checks import await_listed, check_on_every_host, find_own

if TYPE_CHECKING:
    from backout.model.steps.base import Arguments
    from backout.ports import Next, Probe, StepContext
    from backout.runbook.recover.tools import RecoverTools

A = TypeVar("A", bound="Arguments[Any]")
R = TypeVar("R")


class FailsOpen(Action[A, R], Generic[A, R]):
    """An action of a recovery that gives the run up on an error before anything was overwritten.

    From the first overwrite on the run stays, with everything closed, and is resumed or taken back by a person.
    """

    def __init__(self, action: Action[A, R], tools: RecoverTools) -> None:
        self._action = action
        self._tools = tools
        self.arguments = action.arguments
        self.effect = action.effect
        self.irreversible = action.irreversible

    def do(self, args: A, context: StepContext) -> R | Next[R]:
        """Do it.

        Raises:
            WorldMoved: the run is given up, and everything that it stopped goes on again.
            Exception: what the action raises, once something was overwritten.
        """
        tell_overdue(self._tools, context.run)
        if is_lifting(self._tools, context.run):
            raise give_up(self._tools, context.run)
        try:
            return self._action.do(args, context)
        except Interrupted:
            raise
        except Exception as error:
            raise self._judge(error, context.run) from error

    def probe(self, args: A, context: StepContext) -> Probe[R]:
        """Ask the action, unless the run is being given up."""
        return NotDone() if is_lifting(self._tools, context.run) else self._action.probe(args, context)

    def _judge(self, error: Exception, run: str) -> Exception:
        began, overwrote = look_how_far(self._tools.tools.journal, run)
        if overwrote or self._leaves_open(run):  # an error that ends a run would leave it closed, and nothing to resume
            return BackoutError(str(error), where=run) if isinstance(error, Busy) else error
        return give_up(self._tools, run, str(error)) if began else error

    def _leaves_open(self, run: str) -> bool:
        """Whether a run takes back one that has overwritten something and never opened: giving up would open that."""
        tools = self._tools.tools
        undone = find_plan(tools.runs, run).arguments(RecoverReportStep).undoes
        if not undone or not look_how_far(tools.journal, undone)[1]:
            return False
        opened = tools.journal.events(environment=tools.environment, kind=OPENED)
        return not any(note.data.get("run") == undone for note in opened)


def is_lifting(tools: RecoverTools, run: str) -> bool:
    """Whether a run is being given up."""
    notes = tools.tools.journal.events(environment=tools.tools.environment, kind=LIFTING)
    return any(note.data.get("run") == run for note in notes)


def give_up(tools: RecoverTools, run: str, why: str = "") -> WorldMoved:
    """Let everything that a run stopped go on again, and return the error that ends it.

    Raises:
        BackoutError: something does not; doing it again goes on with it.
    """
    book, environment = tools.tools.journal, tools.tools.environment
    book.note(environment, LIFTING, run, {"run": run, "why": why}, actor=tools.tools.actor)
    why = why or next(
        str(note.data["why"]) for note in book.events(environment=environment, kind=LIFTING) if note.data["run"] == run
    )
    live = open_again(tools, run)
    if book.note(environment, LIFTED, run, {"run": run}, actor=tools.tools.actor) is not None:
        title = f"{environment}: the recovery was given up before anything was overwritten"
        text = f"{why}. Version {live} is live, as read back, and what was stopped goes on."
        tell(tools.tools, NoticeKind.FAILED, title, text, key=run, run=run, next=(f"backout status -e {environment}",))
    return WorldMoved(
        f"{why}; nothing was overwritten, the fence is gone, and version {live[:8]} is live",
        where=environment,
        hint=f"backout recover --dry-run -e {environment}",
    )


def open_again(tools: RecoverTools, run: str) -> str:
    """Take the fence away, end the maintenance, let queues, schedules and job workers go on; as far as each was begun.

    Returns:
        The version that is live then, as read back.

    Raises:
        BackoutError: something does not go on, or a maintenance page is live still.
    """
    plan = find_plan(tools.tools.runs, run)
    if plan.has(StopServerStep):
        _start_server(tools)
    if tools.fence is not None:
        mark = read_own_fence(tools, run)
        if mark is not None:
            get_fence(tools).open(mark)
    live = end_maintenance(tools, run)
    if plan.has(PauseStep) and _has_begun(tools, run, PauseStep.action):
        paused = plan.arguments(PauseStep)
        start_again(tools.tools, paused.queues, paused.schedules, paused.caches)
    if plan.has(StartJobsStep) and _has_begun(tools, run, StopJobsStep.action):
        with suppress(WorldMoved):  # then they belong to whoever made another version live meanwhile
            start_jobs(tools.tools, run, replace(plan.arguments(StartJobsStep), version=""))
    if tools.restoring is not None:
        for step in plan.steps:
            if step.does(SideStep):
                with suppress(BackoutError):  # it is only a copy, and `db restore --drop-side` removes it, too
                    tools.restoring.sides.drop(step.arguments(SideStep).name)
    return live


def _has_begun(tools: RecoverTools, run: str, action: str) -> bool:
    begun = tools.tools.journal.events(run=run, kind="step.start")
    return any(event.data.get("action") == action for event in begun)


def _start_server(tools: RecoverTools) -> None:
    restoring = get_restoring(tools)
    if restoring.server is not None and not restoring.server.running():
        restoring.server.start()
        restoring.live.facts(within_s=UP_WITHIN_S)


def end_maintenance(tools: RecoverTools, run: str) -> str:
    """Make live again what this run's maintenance page replaced, if that page is live; return what is live then.

    Raises:
        PartlyDone: not on every host.
        BackoutError: that is a maintenance page all the same.
    """
    box = tools.tools
    planned = find_plan(box.runs, run).arguments(MaintenanceStep)
    history = box.deployments.history()
    page, live = find_own(history, run, RemarkKind.MAINTENANCE), find_underneath(history)
    if page is None or find_result(box.runs, run, GoLiveStep) is not None:
        return str(live.main)
    if live.id != page.id and all(each.deployment != page.id for each in history[0].hosts):
        check_on_every_host(box, history[0])
        return str(live.main)
    before = next((each for each in history if each.id == planned.expected), None)
    remark = Remark(RemarkKind.SECRETS, run, text="the maintenance ends: the recovery was given up")
    message = make_message(box, remark, history[0])
    if before is None:
        made = box.deployments.activate(planned.leaving, message=message, force=True)
    else:
        made = box.deployments.deploy(before.shares, message=message, force=True, cohorts=before.cohorts)
    history = await_listed(box, made.id)
    check_on_every_host(box, history[0])
    live = find_underneath(history)
    if box.versions.detail(live.main).is_maintenance:
        raise BackoutError("the maintenance page is live still", where=box.environment)
    return str(live.main)
