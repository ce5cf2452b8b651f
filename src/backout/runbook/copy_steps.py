"""The second check of a swap: both clusters are noted before the exchange, and who answers is compared after it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from backout.model.names import parse_id
from backout.plan.restore import COMPARE_COPY, NOTE_COPIES
from backout.ports import NotDone
from backout.report.comparison import SWAP, SWAP_BEFORE, SWAP_UNDONE, comparison_record
from backout.runbook.comparison_steps import or_failed
from backout.runbook.side_steps import running, told

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from backout.model.plan import Json
    from backout.ports import Probe, StepContext
    from backout.runbook.restore import RestoreTools

__all__ = ["COMPARE_COPY", "NOTE_COPIES", "CompareCopy", "NoteCopies"]

_KEPT: Final = re.compile(r"\.backout-old-([0-9a-z]+)$")


class NoteCopies:
    """Step `db_note_copies` {name, kept}: what both clusters hold, while the live one still serves.

    Args: name: the side instance that comes, "" where a kept directory does. kept: where the live one goes.
    """

    effect = False

    def __init__(self, tools: RestoreTools) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002
        """Return how the live rows that nobody wrote since stand to those of the copy, as `comparison_record` does.

        A check that cannot be made is no reason to leave the damage where it is: it is said in the end. Nor is one that
        finds something: it may be the live server's disk that is broken.
        """
        tools, name, kept = self._tools, str(args["name"]), noted_file(self._tools, str(args["kept"]))
        progress = told(context, tools)
        found: dict[str, Json] = {}
        if name:
            side, coming = running(tools, name, context).dsn, kept.with_suffix(".coming")
            found = or_failed(lambda: tools.copies.note(side, coming, progress))
            if not found:
                found = or_failed(
                    lambda: comparison_record(
                        tools.copies.compare(coming, goes_on=False, progress=progress), (), of=SWAP_BEFORE
                    )
                )
        failed = or_failed(lambda: tools.copies.note("", kept, progress))
        return {**found, **({"kept": failed} if failed else {})}

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """It changes nothing, and is done again."""
        return NotDone()


class CompareCopy:
    """Step `db_compare_copy` {incoming, kept, name}: the server that answers, with what was noted of what came."""

    effect = False

    def __init__(self, tools: RestoreTools) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002
        """Return what was compared and what differs, as `comparison_record` writes it, or why nothing was."""
        tools = self._tools
        if args["name"]:
            noted, what = noted_file(tools, str(args["kept"])).with_suffix(".coming"), SWAP
        else:
            noted, what = noted_file(tools, str(args["incoming"])), SWAP_UNDONE
        progress = told(context, tools)
        return or_failed(
            lambda: comparison_record(tools.copies.compare(noted, goes_on=True, progress=progress), (), of=what)
        )

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """Comparing changes nothing; it is done again."""
        return NotDone()


def noted_file(tools: RestoreTools, kept: str) -> Path:
    """Return where what a kept data directory holds is noted; that of a swap by an earlier version is not there."""
    mark = _KEPT.search(kept)
    name = parse_id(mark[1]) if mark else "none"
    return tools.kept.parent / "compared" / f"{name}.cluster"
