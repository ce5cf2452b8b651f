"""The newest automatic rollback that any machine made, as far as this one has ever seen (safety rule 9).

A provider lists its newest deployments only, and a busy day pushes a rollback out of the list within the hours that it
counts. So each look of a watch keeps the newest one beside the journal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backout.analysis.remarks import rollbacks
from backout.runbook.checkpoint import remembered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.deployment import Deployment
    from backout.runbook.toolbox import Toolbox

_NAME = "automatic rollback"


@dataclass(frozen=True, slots=True)
class _Seen:
    at: float
    run: str


def newest_automatic(tools: Toolbox, listed: Sequence[Deployment]) -> tuple[float, str] | None:
    """Return (when in Unix seconds, run) of the newest one that is listed or was seen before; None: never any."""
    saved = remembered(tools, _NAME, _Seen)
    seen = (saved.at, saved.run) if saved is not None else None
    after = seen[0] if seen is not None else 0.0
    found = [(made.created_at, remark.run) for made, remark in rollbacks(listed, since=after) if remark.auto]
    newest = max([*found, *([seen] if seen is not None else [])], default=None)
    if newest is not None and newest != seen:
        tools.checkpoints.save_checkpoint(tools.environment, _NAME, {"at": newest[0], "run": newest[1]})
    return newest
