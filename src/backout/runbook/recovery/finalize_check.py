"""The second check of a branch that a person puts into the live one's place, as a swap at a vendor has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.database.comparison import Statistics
from backout.model.steps.comparison import ComparisonResult
from backout.report.database.comparison import BRANCH_SWAP, BRANCH_SWAP_UNDONE, make_comparison_record
from backout.runbook.recovery.steps.branch_copy import locate_branch_note
from backout.runbook.recovery.steps.comparison import try_comparison, try_note
from backout.runbook.recovery.steps.side import ignore_progress

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backout.model.database.branch import SideBranch
    from backout.ports import CopyComparer


class FinalizeCheck:
    """Notes what a branch holds, and compares what is live with that.

    The branch is not compared with the live one before: a person may have written to it.

    Args:
        copies: returns the comparer of a live branch, through no pooler.
        url: returns a branch's connection string, which is never shown.
        folder: where notes are kept, those of the swaps of `backout db restore` among them.
        database: the application's.
    """

    def __init__(
        self,
        copies: Callable[[SideBranch], CopyComparer],
        url: Callable[[SideBranch], str],
        folder: Path,
        database: str,
    ) -> None:
        self._copies = copies
        self._url = url
        self._folder = folder
        self._database = database
        self._noted: Path | None = None
        self._what, self._statistics, self._failed = BRANCH_SWAP, Statistics.ANEW, ""

    def note(self, side: SideBranch, live: SideBranch, keep_as: str, *, keeps: bool) -> None:
        """Keep what both branches hold, in a process of its own; what could not be noted is reported at the end.

        A branch that was put away has no server to ask: what was noted of it then is taken.

        Args:
            keep_as: the name under which the live branch is to stay.
            keeps: whether it is still to get that name.
        """
        copies, leaving = self._copies(live), locate_branch_note(self._folder, keep_as)
        coming = leaving.with_suffix(".coming")
        coming.unlink(missing_ok=True)
        noting = try_note(lambda: copies.note(self._url(side), coming, ignore_progress, own=self._database))
        put_away = locate_branch_note(self._folder, side.name)
        self._noted, self._failed = coming, noting.failed
        if noting.failed and put_away.exists():
            self._noted, self._failed = put_away, ""
            self._what, self._statistics = BRANCH_SWAP_UNDONE, Statistics.LOST
        if keeps:
            leaving.unlink(missing_ok=True)
            try_note(lambda: copies.note("", leaving, ignore_progress, own=self._database))

    def compare(self, live: SideBranch) -> ComparisonResult:
        """Return what was compared and what differs, as `make_comparison_record` does, or why nothing was."""
        noted = self._noted
        if self._failed or noted is None:
            return ComparisonResult(failed=f"what the branch holds was not noted before: {self._failed}")
        copies = self._copies(live)
        return try_comparison(
            lambda: make_comparison_record(
                copies.compare(noted, goes_on=True, progress=ignore_progress, statistics=self._statistics),
                (),
                of=self._what,
            )
        )
