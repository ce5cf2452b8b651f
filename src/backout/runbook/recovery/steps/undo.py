"""The steps of taking a rescue back: record what is there, bring back what was replaced, and compare both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.model.database.rescue import RescueReport
from backout.model.names import parse_id
from backout.model.steps.comparison import ComparisonResult, NoteResult
from backout.model.steps.rescue import CompareUndoStep, NoteUndoStep, UndoRescueStep
from backout.ports import Action, AnyAction, find_result
from backout.report.database.comparison import RESCUE_UNDONE, make_comparison_record
from backout.runbook.recovery.steps.comparison import locate_note, try_comparison, try_note
from backout.runbook.recovery.steps.side import make_progress_teller
from backout.runbook.recovery.tools import RESCUED

if TYPE_CHECKING:
    from pathlib import Path

    from backout.model.database.comparison import Comparison
    from backout.model.plan import Json
    from backout.ports import StepContext
    from backout.runbook.recovery.tools import RestoreTools

PARTLY: Final = "partly"
"""How an undo that took back only a part is recorded."""


def undo_actions(tools: RestoreTools) -> dict[str, AnyAction]:
    """Return the actions of an undo by their names in plans."""
    return {
        NoteUndoStep.action: NoteUndo(tools),
        UndoRescueStep.action: UndoRescue(tools),
        CompareUndoStep.action: CompareUndone(tools),
    }


class NoteUndo(Action[NoteUndoStep, NoteResult]):
    """Step `db_note_undo` {mark, database}: record what is there before the undo writes."""

    arguments = NoteUndoStep
    effect = False

    def __init__(self, tools: RestoreTools) -> None:
        self._tools = tools

    def do(self, args: NoteUndoStep, context: StepContext) -> NoteResult:
        """Keep it beside the record from before the rescue; if that fails, it is reported at the end."""
        comparer = self._tools.comparer(args.database)
        noted = locate_note(self._tools, args.mark)
        return try_note(lambda: comparer.note_undo(noted, _find_data_before(noted, context)))


class UndoRescue(Action[UndoRescueStep, RescueReport]):
    """Step `db_undo_rescue` {mark, database}: what the rescue replaced comes back, where nothing was written since."""

    arguments = UndoRescueStep

    def __init__(self, tools: RestoreTools) -> None:
        self._tools = tools

    def do(self, args: UndoRescueStep, context: StepContext) -> RescueReport:
        """Return what was written, by table; an undo that leaves something can be made again."""
        tools, mark = self._tools, args.mark
        report = tools.rescuer(args.database).undo(tools.kept / parse_id(mark), make_progress_teller(context, tools))
        undone: Json = PARTLY if report.leaves_something else True
        note: dict[str, Json] = {"mark": mark, "database": args.database, "undone": undone}
        tools.journal.note(tools.environment, RESCUED, context.run, note, actor=tools.actor)
        return report


class CompareUndone(Action[CompareUndoStep, ComparisonResult]):
    """Step `db_compare_undo` {mark, database}: compare the live rows with those from before the rescue."""

    arguments = CompareUndoStep
    effect = False

    def __init__(self, tools: RestoreTools) -> None:
        self._tools = tools

    def do(self, args: CompareUndoStep, context: StepContext) -> ComparisonResult:
        """Return what was compared and what differs, as `make_comparison_record` writes it, or why nothing was."""
        tools, noted = self._tools, locate_note(self._tools, args.mark)
        kept, progress = tools.kept / parse_id(args.mark), make_progress_teller(context, tools)
        comparer = tools.comparer(args.database)
        undone = find_result(tools.runs, context.run, UndoRescueStep)

        def compare() -> ComparisonResult:
            found = comparer.compare_undone(noted, _find_data_before(noted, context), kept, progress)
            left = _list_left(undone)
            return make_comparison_record(_drop_left(found, left), left, of=RESCUE_UNDONE)

        return try_comparison(compare)


def _find_data_before(noted: Path, context: StepContext) -> Path:
    return noted.with_suffix(f".{parse_id(context.run)}.undo")


def _list_left(undone: RescueReport | None) -> frozenset[str]:
    """Return the tables and definitions of which an undo reports that something stays."""
    if undone is None:
        return frozenset()
    tables = {each.table for each in undone.tables if each.left or each.conflicts}
    return frozenset(tables | {each.what for each in undone.left_out})


def _drop_left(found: Comparison, left: frozenset[str]) -> Comparison:
    """Return a comparison without the definitions that the undo itself names as left."""
    behind = tuple(each for each in found.behind if not any(name in each for name in left))
    return replace(found, behind=behind)
