"""The newest automatic rollback by any machine, as far as this one has ever seen (safety rule 9).

A provider lists only its newest deployments, and on a busy day a rollback drops off the list within the hours for which
it counts. So each look of a watch stores the newest one beside the journal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.history.remarks import list_rollbacks
from backout.model.value import Value
from backout.runbook.guard.checkpoint import load_remembered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.deployment import Deployment
    from backout.runbook.toolbox import Toolbox

_NAME = "automatic rollback"


class _Seen(Value, frozen=True):
    at: float
    run: str


def find_newest_automatic(tools: Toolbox, listed: Sequence[Deployment]) -> tuple[float, str] | None:
    """Return (when in Unix seconds, run) of the newest one that is listed or was seen before; None: never any."""
    saved = load_remembered(tools, _NAME, _Seen)
    seen = (saved.at, saved.run) if saved is not None else None
    after = seen[0] if seen is not None else 0.0
    found = [(made.created_at, remark.run) for made, remark in list_rollbacks(listed, since=after) if remark.auto]
    newest = max([*found, *([seen] if seen is not None else [])], default=None)
    if newest is not None and newest != seen:
        tools.checkpoints.save_checkpoint(tools.environment, _NAME, {"at": newest[0], "run": newest[1]})
    return newest
