"""The second check of a swap at a vendor: record both branches before it, compare what is live after it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import msgspec

from backout.model.database.comparison import Statistics
from backout.model.steps.branches import BranchCompareCopyStep, BranchNoteCopiesStep
from backout.model.steps.comparison import ComparisonResult
from backout.model.steps.restore import NoteCopiesResult
from backout.ports import Action
from backout.report.database.comparison import (
    BRANCH_SWAP,
    BRANCH_SWAP_BEFORE,
    BRANCH_SWAP_UNDONE,
    make_comparison_record,
)
from backout.runbook.recovery.managed import find_branch
from backout.runbook.recovery.steps.comparison import try_comparison, try_note
from backout.runbook.recovery.steps.side import make_progress_teller

if TYPE_CHECKING:
    from pathlib import Path

    from backout.ports import StepContext
    from backout.runbook.recovery.managed import BranchTools

NOTES: Final = "compared"
"""The folder beside the kept rows in which swaps note what branches hold."""


class NoteBranchCopies(Action[BranchNoteCopiesStep, NoteCopiesResult]):
    """Step `db_branch_note_copies` {name, keep_as, database}: what both branches hold, while the live one serves."""

    arguments = BranchNoteCopiesStep
    effect = False

    def __init__(self, tools: BranchTools) -> None:
        self._tools = tools

    def do(self, args: BranchNoteCopiesStep, context: StepContext) -> NoteCopiesResult:
        """Return how live rows not written since compare with those of the branch, as `make_comparison_record` does.

        As with a swap of our own, neither a check that cannot be made nor one that finds a difference is a reason to
        leave the damage in place: both are reported at the end.
        """
        own, folder = self._tools.own, self._tools.own.kept.parent / NOTES
        copies, database, kept = self._tools.copies, args.database, locate_branch_note(folder, args.keep_as)
        progress = make_progress_teller(context, own)
        found = ComparisonResult()
        if args.name:
            coming = kept.with_suffix(".coming")
            noted = try_note(
                lambda: copies.note(
                    self._tools.url(find_branch(self._tools, args.name)), coming, progress, own=database
                )
            )
            found = ComparisonResult(failed=noted.failed)
            if not noted.failed:
                found = try_comparison(
                    lambda: make_comparison_record(
                        copies.compare(coming, goes_on=False, progress=progress), (), of=BRANCH_SWAP_BEFORE
                    )
                )
        leaves = try_note(lambda: copies.note("", kept, progress, own=database))
        return NoteCopiesResult(**msgspec.structs.asdict(found), kept=leaves if leaves.failed else None)


class CompareBranchCopy(Action[BranchCompareCopyStep, ComparisonResult]):
    """Step `db_branch_compare_copy` {name, keep_as, undo}: compare what is live with the record of what came."""

    arguments = BranchCompareCopyStep
    effect = False

    def __init__(self, tools: BranchTools) -> None:
        self._tools = tools

    def do(self, args: BranchCompareCopyStep, context: StepContext) -> ComparisonResult:
        """Return what was compared and what differs, as `make_comparison_record` writes it, or why nothing was.

        The vendor starts a new server on what came: what that one counts was written since. Nobody writes into a side
        branch after the note; into one that was live clients did until it was put away, and what the server of then
        counted is gone with it.
        """
        own, folder = self._tools.own, self._tools.own.kept.parent / NOTES
        if args.undo:
            noted, what, statistics = locate_branch_note(folder, args.name), BRANCH_SWAP_UNDONE, Statistics.LOST
        else:
            noted = locate_branch_note(folder, args.keep_as).with_suffix(".coming")
            what, statistics = BRANCH_SWAP, Statistics.ANEW
        progress = make_progress_teller(context, own)
        return try_comparison(
            lambda: make_comparison_record(
                self._tools.copies.compare(noted, goes_on=True, progress=progress, statistics=statistics), (), of=what
            )
        )


def locate_branch_note(folder: Path, kept: str) -> Path:
    """Return where the content of a kept branch is recorded; a swap by an earlier version has no record.

    Args:
        folder: where notes are kept.
        kept: the branch's name, which may hold what no file name does.
    """
    return folder / f"{hashlib.sha256(kept.encode()).hexdigest()[:16]}.branch"
