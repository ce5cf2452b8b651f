"""The tools of a complete recovery, and what it notes in the journal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.decoding import decode_values
from backout.errors import BackoutError
from backout.model.steps.recovery import GoLiveStep, MaintenanceStep, RecoverReportStep
from backout.model.value import Value
from backout.plan.recovery import OVERWRITES

if TYPE_CHECKING:
    from backout.model.database.fence import FenceMark
    from backout.model.plan import Plan
    from backout.ports import CommitCheck, Fence, Journal, Runs
    from backout.runbook.objects.tools import ObjectTools
    from backout.runbook.recovery.tools import RestoreTools
    from backout.runbook.toolbox import Toolbox

BEGAN: Final = "recover.began"
"""The note of an outage that begins: {run, actor, at, deadline}."""
LIFTING: Final = "recover.lifting"
"""The note that a run is given up before anything was overwritten: {run, why}; what it stopped goes on again."""
LIFTED: Final = "recover.lifted"
"""The note that this is done: {run}."""
OPENED: Final = "recover.opened"
"""The note that the application serves users again: {run, at}."""


class RecoverTools(Value, frozen=True):
    """What a recovery may use; None: that part is not set up here.

    Args:
        tools: of the application.
        restoring: of its database; fence: around that.
        objects: of its bucket.
        commits: tries a write of the application's role, None where its connection string is not known here.
    """

    tools: Toolbox
    restoring: RestoreTools | None = None
    fence: Fence | None = None
    objects: ObjectTools | None = None
    commits: CommitCheck | None = None


def get_restoring(tools: RecoverTools) -> RestoreTools:
    """Return the tools of the database. Raises BackoutError: it is not set up any more."""
    if tools.restoring is None:
        raise BackoutError("the plan restores a database, and none is set up", where=tools.tools.environment)
    return tools.restoring


def get_fence(tools: RecoverTools) -> Fence:
    """Return the fence of the database. Raises BackoutError: there is none any more."""
    if tools.fence is None:
        raise BackoutError("the plan fences a database, and none is set up", where=tools.tools.environment)
    return tools.fence


def find_plan(runs: Runs, run: str) -> Plan:
    """Return the plan of a run that is being driven."""
    found = runs.find(run)
    assert found is not None
    return found.plan


def look_how_far(journal: Journal, run: str) -> tuple[bool, bool]:
    """Return whether the outage of a run began, and whether it has begun to overwrite anything, or to move users."""
    begun = {str(event.data.get("action")) for event in journal.events(run=run, kind="step.start")}
    return MaintenanceStep.action in begun, not begun.isdisjoint((*OVERWRITES, GoLiveStep.action))


def list_own_runs(runs: Runs, run: str) -> tuple[str, ...]:
    """Return the runs whose fence is this run's own: itself, and the one that it takes back."""
    undone = find_plan(runs, run).arguments(RecoverReportStep).undoes
    return (run, undone) if undone else (run,)


def note_opened(tools: Toolbox, run: str, at: float) -> None:
    """Note that the outage of a run is over, and that of the run which it takes back."""
    for each in list_own_runs(tools.runs, run):
        tools.journal.note(tools.environment, OPENED, each, {"run": each, "at": at}, actor=tools.actor)


def read_own_fence(tools: RecoverTools, run: str) -> FenceMark | None:
    """Return the fence of this run that stands, None where none does, or another one's."""
    mark = get_fence(tools).read()
    return mark if mark is not None and mark.run in list_own_runs(tools.tools.runs, run) else None


def get_deadline(tools: RecoverTools, run: str) -> float:
    """Return until when the outage should be over (Unix seconds)."""
    deadline_s = find_plan(tools.tools.runs, run).arguments(MaintenanceStep).deadline_s
    for event in tools.tools.journal.events(environment=tools.tools.environment, kind=BEGAN):
        if event.data.get("run") == run:
            return decode_values(event.data["deadline"], float)
    return tools.tools.clock.now() + deadline_s
