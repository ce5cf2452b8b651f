"""Every action of a complete recovery by its name in plans."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from backout.model.steps.objects import CompareObjectsStep
from backout.model.steps.recovery import (
    FenceCopyStep,
    FenceStandsStep,
    FenceStep,
    GoLiveStep,
    MaintenanceStep,
    OpenStep,
    PauseStep,
    PlaceStep,
    ProveFenceStep,
    ProveTargetStep,
    ReadyStep,
    RecoverReportStep,
    RestoredStep,
    ResumeStep,
    UndoPointStep,
)
from backout.model.steps.rescue import NoteNewerStep, NoteUndoStep
from backout.model.steps.restore import NoteCopiesStep
from backout.ports import AnyAction
from backout.report.database.comparison import SECOND_CHECKS
from backout.runbook.objects.restore import ObjectActions
from backout.runbook.procedures import Actions
from backout.runbook.recover.closing import (
    CheckFence,
    CloseUndoPoint,
    CopyFence,
    Pause,
    ProveFence,
    RaiseFence,
    ShowMaintenance,
)
from backout.runbook.recover.demanded import Demanded
from backout.runbook.recover.lift import FailsOpen
from backout.runbook.recover.opening import CheckRestored, GoLive, Open, Place, ProveTarget, Resume
from backout.runbook.recover.outcome import WriteRecovery
from backout.runbook.recover.ready import LookReady
from backout.runbook.recovery.restoring import make_actions

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.runbook.recover.tools import RecoverTools

_OWN: Mapping[str, Callable[[RecoverTools], AnyAction]] = {
    ReadyStep.action: LookReady,
    MaintenanceStep.action: ShowMaintenance,
    PauseStep.action: Pause,
    FenceStep.action: RaiseFence,
    ProveFenceStep.action: ProveFence,
    UndoPointStep.action: CloseUndoPoint,
    FenceCopyStep.action: CopyFence,
    FenceStandsStep.action: CheckFence,
    RestoredStep.action: CheckRestored,
    PlaceStep.action: Place,
    OpenStep.action: Open,
    ProveTargetStep.action: ProveTarget,
    GoLiveStep.action: GoLive,
    ResumeStep.action: Resume,
    RecoverReportStep.action: WriteRecovery,
}
_DEMANDED: Final = frozenset(
    (
        *(kind.action for kind in SECOND_CHECKS),
        NoteCopiesStep.action,
        NoteNewerStep.action,
        NoteUndoStep.action,
        CompareObjectsStep.action,
    )
)
"""The second checks, and what is noted for them."""


class RecoverActions(Mapping[str, AnyAction]):
    """The actions of one environment's recovery; each gives the run up on an error before anything is overwritten."""

    def __init__(self, tools: RecoverTools) -> None:
        self._tools = tools
        restoring = make_actions(tools.restoring) if tools.restoring is not None else {}
        objects = ObjectActions(tools.objects) if tools.objects is not None else {}
        self._others = Actions(tools.tools, {**restoring, **objects})

    def __getitem__(self, name: str) -> AnyAction:
        """Return the action of that name; KeyError for a name that no plan of this version uses."""
        action = _OWN[name](self._tools) if name in _OWN else self._others[name]
        return FailsOpen(Demanded(action, self._tools) if name in _DEMANDED else action, self._tools)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter((*_OWN, *self._others))

    def __len__(self) -> int:
        """Return how many there are."""
        return len(_OWN) + len(self._others)
