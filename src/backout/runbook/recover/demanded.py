"""A recovery goes on only from second checks that were made and found nothing: fails closed until verified.

One that was not is made again when the run is resumed. A person who has looked for himself accepts what it found
(`backout recover --accept`), or opens the database with `backout unfence`; then the run goes on, and says what was not
shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from msgspec.structs import replace

from backout.errors import BackoutError
from backout.model.steps.comparison import ComparisonResult, NoteResult
from backout.model.steps.objects import CompareObjectsResult
from backout.model.steps.recovery import OpenStep, RecoverReportStep
from backout.model.steps.restore import NoteCopiesResult
from backout.ports import Action, Next
from backout.report.database.comparison import format_differences
from backout.runbook.recover.accepted import Found, find_acceptance, note_found
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
        demand(self._tools, context.run, self.arguments, None if isinstance(found, Next) else found)
        return found

    def probe(self, args: A, context: StepContext) -> Probe[R]:
        """Ask the action."""
        return self._action.probe(args, context)


def demand(tools: RecoverTools, run: str, step: type[Arguments[Any]], result: object) -> str:
    """Return by whose word the run goes on nevertheless, "" where a check was made and is well.

    Args:
        step: what made it, or was to note something for it.

    Raises:
        BackoutError: it could not be made, or found a difference, and no person has accepted that.
    """
    found = replace(read_found(result), step=step.action)
    undoes = find_plan(tools.tools.runs, run).arguments(RecoverReportStep).undoes
    # What was there before comes back, be it well or not, and of an older exchange nothing may have been noted.
    is_well = not found.differs and (not found.failed or undoes)
    words = ""
    if not is_well:
        words = find_acceptance(tools.tools, run, found) or ("opened by hand" if is_opened_by_hand(tools, run) else "")
    note_found(tools.tools, run, Found() if is_well or words else found)
    if is_well or words:
        return words
    raise BackoutError(found.text, where=tools.tools.environment, hint=f"backout runs resume {run}  # compares again")


def is_opened_by_hand(tools: RecoverTools, run: str) -> bool:
    """Whether a person has taken the fence of a run away since it began to overwrite: what is there was accepted."""
    if tools.fence is None or not find_plan(tools.tools.runs, run).has(OpenStep):
        return False
    return look_how_far(tools.tools.journal, run)[1] and read_own_fence(tools, run) is None


def read_found(result: object) -> Found:
    """Return what a second check, or what was noted for one, says; nothing of any other step."""
    if isinstance(result, NoteCopiesResult):  # the live server may be what is broken: only what comes has to be read
        return Found(failed=result.coming.failed if result.coming is not None else "")
    if isinstance(result, CompareObjectsResult) and result.compared.verified is False:
        compared = result.compared
        differs = [f"{each.key}: {each.why}" if each.key else each.why for each in compared.differing]
        if (more := compared.differences - len(differs)) > 0:
            differs.append(f"and {more:,} more (digest of all: {compared.digest})")
        return Found(tuple(differs))
    if isinstance(result, ComparisonResult):
        return Found(tuple(format_differences(result)), result.failed)
    return Found(failed=result.failed) if isinstance(result, NoteResult) else Found()
