"""The second check of a swap: record both clusters before the exchange, compare who answers after it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from backout.model.names import parse_id
from backout.model.steps.comparison import ComparisonResult, NoteResult
from backout.model.steps.restore import CompareCopyStep, NoteCopiesResult, NoteCopiesStep
from backout.ports import Action
from backout.report.database.comparison import SWAP, SWAP_BEFORE, SWAP_UNDONE, make_comparison_record
from backout.runbook.recovery.steps.comparison import try_comparison, try_note
from backout.runbook.recovery.steps.side import find_running, make_progress_teller

if TYPE_CHECKING:
    from pathlib import Path

    from backout.ports import StepContext
    from backout.runbook.recovery.tools import RestoreTools

_KEPT: Final = re.compile(r"\.backout-old-([0-9a-z]+)$")


class NoteCopies(Action[NoteCopiesStep, NoteCopiesResult]):
    """Step `db_note_copies` {name, kept}: what both clusters hold, while the live one still serves.

    Args: name: the side instance that comes, "" where a kept directory does. kept: where the live one goes.
    """

    arguments = NoteCopiesStep
    effect = False

    def __init__(self, tools: RestoreTools) -> None:
        self._tools = tools

    def do(self, args: NoteCopiesStep, context: StepContext) -> NoteCopiesResult:
        """Return how the live rows not written since compare with those of the copy, as `make_comparison_record` does.

        A check that cannot be made is no reason to leave the damage in place: it is reported at the end. Nor is one
        that finds a difference: the live server's disk may be what is broken.
        """
        tools, name, kept = self._tools, args.name, locate_cluster_note(self._tools, args.kept)
        progress = make_progress_teller(context, tools)
        found, noted = ComparisonResult(), NoteResult()
        if name:
            side, coming = find_running(tools, name, context).dsn, kept.with_suffix(".coming")
            noted = try_note(lambda: tools.copies.note(side, coming, progress))
            found = ComparisonResult(failed=noted.failed)
            if not noted.failed:
                found = try_comparison(
                    lambda: make_comparison_record(
                        tools.copies.compare(coming, goes_on=False, progress=progress), (), of=SWAP_BEFORE
                    )
                )
        leaves = try_note(lambda: tools.copies.note("", kept, progress))
        return NoteCopiesResult(
            **msgspec.structs.asdict(found),
            kept=leaves if leaves.failed else None,
            coming=noted if noted.failed else None,
        )


class CompareCopy(Action[CompareCopyStep, ComparisonResult]):
    """Step `db_compare_copy` {incoming, kept, name}: compare who answers with the record of what came."""

    arguments = CompareCopyStep
    effect = False

    def __init__(self, tools: RestoreTools) -> None:
        self._tools = tools

    def do(self, args: CompareCopyStep, context: StepContext) -> ComparisonResult:
        """Return what was compared and what differs, as `make_comparison_record` writes it, or why nothing was."""
        tools = self._tools
        if args.name:
            noted, what = locate_cluster_note(tools, args.kept).with_suffix(".coming"), SWAP
        else:
            noted, what = locate_cluster_note(tools, args.incoming), SWAP_UNDONE
        progress = make_progress_teller(context, tools)
        return try_comparison(
            lambda: make_comparison_record(tools.copies.compare(noted, goes_on=True, progress=progress), (), of=what)
        )


def locate_cluster_note(tools: RestoreTools, kept: str) -> Path:
    """Return where the content of a kept data directory is recorded; a swap by an earlier version has no record."""
    mark = _KEPT.search(kept)
    name = parse_id(mark[1]) if mark else "none"
    return tools.kept.parent / "compared" / f"{name}.cluster"
