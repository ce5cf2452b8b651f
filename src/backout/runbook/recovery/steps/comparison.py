"""The second check of a rescue: note before it what others wrote, and compare every row after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.errors import BackoutError
from backout.model.database.comparison import Evidence
from backout.model.names import parse_id
from backout.model.steps.branches import BranchCompareStep, BranchNoteNewerStep
from backout.model.steps.comparison import ComparisonResult, NoteResult
from backout.model.steps.rescue import CompareStep, NoteNewerStep, RescueStep
from backout.ports import Action, find_result
from backout.report.database.comparison import make_comparison_record
from backout.runbook.recovery.steps.side import find_running, make_progress_teller

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backout.model.database.rescue import Damage, RescueReport
    from backout.ports import StepContext
    from backout.runbook.recovery.tools import RestoreTools


Comparing = CompareStep | BranchCompareStep
Noting = NoteNewerStep | BranchNoteNewerStep


class NoteNewer(Action[NoteNewerStep, NoteResult]):
    """Step `db_note_newer` {before, after, database, damage, mark}: which rows others have written since."""

    arguments = NoteNewerStep
    effect = False

    def __init__(self, tools: RestoreTools) -> None:
        self._tools = tools

    def do(self, args: NoteNewerStep, context: StepContext) -> NoteResult:
        """Keep them beside what the rescue will keep; once it writes, they can no longer be told apart.

        A check that cannot be made is no reason to leave the damage in place: it is reported at the end.
        """
        sides = (find_running(self._tools, name, context).dsn for name in (args.before, args.after))
        return note_newer(self._tools, args, context, make_evidence(args.damage.damage()), (*sides,))


class CompareRows(Action[CompareStep, ComparisonResult]):
    """Step `db_compare` {before, after, database, damage, mark}: compare the live rows with those of before."""

    arguments = CompareStep
    effect = False

    def __init__(self, tools: RestoreTools) -> None:
        self._tools = tools

    def do(self, args: CompareStep, context: StepContext) -> ComparisonResult:
        """Return what was compared and what differs, as `make_comparison_record` writes it, or why nothing was."""
        rescue = find_result(self._tools.runs, context.run, RescueStep)
        noting = find_result(self._tools.runs, context.run, NoteNewerStep)
        sides = (find_running(self._tools, name, context).dsn for name in (args.before, args.after))
        return compare_rows(
            self._tools, args, context, make_evidence(args.damage.damage()), (*sides,), rescue=rescue, noting=noting
        )


def note_newer(
    tools: RestoreTools, args: Noting, context: StepContext, evidence: Evidence, sides: tuple[str, ...]
) -> NoteResult:
    """Record which rows others have written since; the result says why that failed.

    Args:
        sides: connection strings of the database just before the damage and just after it.
    """
    before, after = sides
    comparer = tools.comparer(args.database)
    noted = locate_note(tools, args.mark)
    return try_note(lambda: comparer.note(evidence, before, after, noted, make_progress_teller(context, tools)))


def compare_rows(
    tools: RestoreTools,
    args: Comparing,
    context: StepContext,
    evidence: Evidence,
    sides: tuple[str, ...],
    *,
    rescue: RescueReport | None,
    noting: NoteResult | None,
) -> ComparisonResult:
    """Return what was compared and what differs, or why nothing was.

    Args:
        sides: as `note_newer` takes them.
        rescue, noting: what those steps recorded.
    """
    before, after = sides
    kept = tools.kept / parse_id(args.mark)
    comparer = tools.comparer(args.database)
    noted, progress = locate_note(tools, args.mark), make_progress_teller(context, tools)
    record = try_comparison(
        lambda: make_comparison_record(
            comparer.compare(evidence, before, after, noted=noted, kept=kept, progress=progress), list_left(rescue)
        )
    )
    if noting is not None and noting.failed and not (record.failed or record.differs or record.behind):
        # Without the notes, anything the rescue wrote wrong is taken for a newer row.
        why = f"which rows others had written was not noted before the rescue: {noting.failed}"
        return ComparisonResult(failed=why)
    return record


def try_comparison(part: Callable[[], ComparisonResult]) -> ComparisonResult:
    """Return the result of a second check, or why it could not be made."""
    try:
        return part()
    except BackoutError as error:
        return ComparisonResult(failed=str(error))


def try_note(part: Callable[[], object]) -> NoteResult:
    """Record something for a second check; the result says why that failed."""
    try:
        part()
    except BackoutError as error:
        return NoteResult(failed=str(error))
    return NoteResult()


def make_evidence(damage: Damage) -> Evidence:
    """Return what tells who changed a row that differs."""
    written = None if damage.written is None else frozenset(node for node, _ in damage.written)
    ids = frozenset(xid % (1 << 32) for xid in damage.xids)
    return Evidence(ids, written=written, overwrites=not damage.keeps_newer)


def list_left(rescue: RescueReport | None) -> frozenset[str]:
    """Return the tables that a rescue said it leaves alone; a conflict does not explain a row not written since.

    Of a table of which a column has another name or type all other rows come back, so that it is none of them.
    """
    if rescue is None:  # declared done by a person: it said nothing
        return frozenset()
    return rescue.left_alone


def locate_note(tools: RestoreTools, mark: str) -> Path:
    """Return where the state before a rescue is recorded."""
    return tools.kept.parent / "compared" / f"{parse_id(mark)}.json"
