"""A recovery goes on only from second checks that were made and found nothing: fails closed until verified.

One that was not is made again when the run is resumed. A person who has looked for himself opens the database with
`backout unfence`; then the run goes on, and says what was not shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from backout.errors import BackoutError
from backout.model.steps.comparison import ComparisonResult, NoteResult
from backout.model.steps.objects import CompareObjectsResult
from backout.model.steps.recovery import OpenStep, RecoverReportStep
from backout.model.steps.restore import NoteCopiesResult
from backout.ports import Action, Next
from backout.runbook.recover.tools import find_plan, look_how_far, read_own_fence

if TYPE_CHECKING:
    from backout.model.steps.base import Arguments
    from backout.ports import Probe, StepContext
    from backout.runbook.recover.tools import RecoverTools

A = TypeVar("A", bound="Arguments[Any]")
R = TypeVar("R")


class Demanded(Action[A, R], Generic[A, R]):
    """A second check, or what is noted for one, that has to succeed."""

    def __init__(self, action: Action[A, R], tools: RecoverTools) -> None:
        self._action = action
        self._tools = tools
        self.arguments = action.arguments
        self.effect = action.effect
        self.irreversible = action.irreversible

    def do(self, args: A, context: StepContext) -> R | Next[R]:
        """Make it. Raises BackoutError: it could not be made, or found a difference."""
        found = self._action.do(args, context)
        demand(self._tools, context.run, None if isinstance(found, Next) else found)
        return found

    def probe(self, args: A, context: StepContext) -> Probe[R]:
        """Ask the action."""
        return self._action.probe(args, context)


def demand(tools: RecoverTools, run: str, found: object) -> None:
    """Raise BackoutError: a check could not be made, or found a difference, and no person has opened since."""
    failed, differs = find_failure(found), find_difference(found)
    undoes = find_plan(tools.tools.runs, run).arguments(RecoverReportStep).undoes
    # What was there before comes back, be it well or not, and of an older exchange nothing may have been noted.
    if not differs and (not failed or undoes):
        return
    if is_opened_by_hand(tools, run):
        return
    what = f"not everything was restored: {differs}" if differs else f"whether all was restored is not known: {failed}"
    environment = tools.tools.environment
    way = f"`backout recover --undo -e {environment}` takes it back" if not undoes else "what differs is mended first"
    raise BackoutError(what, where=environment, hint=f"backout runs resume {run}  # compares again; or: {way}")


def is_opened_by_hand(tools: RecoverTools, run: str) -> bool:
    """Whether a person has taken the fence of a run away since it began to overwrite: what is there was accepted."""
    if tools.fence is None or not find_plan(tools.tools.runs, run).has(OpenStep):
        return False
    return look_how_far(tools.tools.journal, run)[1] and read_own_fence(tools, run) is None


def find_failure(found: object) -> str:
    """Return why a check could not be made, "" where it was."""
    if isinstance(found, NoteCopiesResult):  # the live server may be what is broken: only what comes has to be read
        return found.coming.failed if found.coming is not None else ""
    return found.failed if isinstance(found, ComparisonResult | NoteResult) else ""


def find_difference(found: object) -> str:
    """Return what a check found not to be as it has to be, "" for nothing."""
    if isinstance(found, CompareObjectsResult) and found.compared.verified is False:
        return "; ".join(f"{each.key}: {each.why}" if each.key else each.why for each in found.compared.differing)
    if isinstance(found, ComparisonResult) and not isinstance(found, NoteCopiesResult):
        names = (*(each.table for each in found.differs), *found.behind)
        return f"not as noted: {', '.join(names)}" if names else ""
    return ""
