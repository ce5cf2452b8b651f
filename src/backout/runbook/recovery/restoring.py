"""The steps of a restore; each can be repeated after a crash, and tells from the world alone whether it happened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.steps.rescue import CompareStep, NoteNewerStep, RescueCheckStep, RescueStep
from backout.model.steps.restore import (
    AlsoBackStep,
    CompareCopyStep,
    DropSidesStep,
    ExchangeStep,
    NoteCopiesStep,
    PromoteStep,
    SequencesStep,
    SideCheckStep,
    SideOpenStep,
    SideStep,
    StartServerStep,
    StopServerStep,
    SwappedStep,
)
from backout.runbook.recovery.removed_since import make_removed_reader
from backout.runbook.recovery.several import Following
from backout.runbook.recovery.steps.also import CarrySequences, CheckAlso
from backout.runbook.recovery.steps.comparison import CompareRows, NoteNewer
from backout.runbook.recovery.steps.copy import CompareCopy, NoteCopies
from backout.runbook.recovery.steps.rescue import CheckRescue, Rescue
from backout.runbook.recovery.steps.side import (
    CheckSide,
    DropSides,
    MakeSide,
    OpenSide,
    Promote,
    ignore_progress,
    make_order,
)
from backout.runbook.recovery.steps.swap import Exchange, ReadBack, StartServer, StopServer
from backout.runbook.recovery.steps.undo import undo_actions

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.model.database.rescue import RescueReport
    from backout.model.plan import Plan
    from backout.ports import AnyAction
    from backout.runbook.recovery.tools import RestoreTools

    Progress = Callable[[str, int, int], None]


def make_actions(tools: RestoreTools) -> dict[str, AnyAction]:
    """Return every step's action by its name in plans."""
    following = Following(tools)
    return {
        SideStep.action: MakeSide(tools),
        SideCheckStep.action: CheckSide(tools),
        SideOpenStep.action: OpenSide(tools),
        PromoteStep.action: Promote(tools),
        AlsoBackStep.action: CheckAlso(tools),
        SequencesStep.action: CarrySequences(tools),
        StopServerStep.action: StopServer(tools),
        ExchangeStep.action: Exchange(tools),
        StartServerStep.action: StartServer(tools),
        SwappedStep.action: ReadBack(tools),
        NoteCopiesStep.action: NoteCopies(tools),
        CompareCopyStep.action: CompareCopy(tools),
        NoteNewerStep.action: NoteNewer(tools),
        CompareStep.action: CompareRows(tools),
        RescueStep.action: Rescue(tools, following),
        RescueCheckStep.action: CheckRescue(tools, following),
        **undo_actions(tools),
        DropSidesStep.action: DropSides(tools),
    }


def foresee(tools: RestoreTools, plan: Plan, progress: Progress = ignore_progress) -> RescueReport:
    """Return what the plan of a rescue would write, by table; only side instances are made, and removed again.

    Args:
        progress: hears how far the side instances are, see `SideInstances.start`; what it raises ends it.
    """
    rescue = plan.arguments(RescueStep)
    names = (rescue.before, rescue.after)
    try:
        for step in plan.steps:
            if step.does(SideStep):
                tools.sides.start(make_order(step.arguments(SideStep)), progress)
        dsns = []
        for name in names:
            tools.beside.promote(name)
            side = tools.sides.find(name)
            dsns.append(side.dsn if side is not None else "")
        damage = Following(tools, f"-{rescue.mark}").complete(rescue.damage.damage(), rescue.damage.several, progress)
        before, after = dsns
        removed = make_removed_reader(tools, rescue)
        return tools.rescuer(rescue.database).damage(damage, before, after, removed)
    finally:
        for name in names:
            tools.sides.drop(name)
