"""Breaking the glass: a plan goes on without the approval that it needs; that is recorded, and everybody is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.errors import Refused
from backout.escaping import shorten
from backout.model.incident.notice import Notice, NoticeKind

if TYPE_CHECKING:
    from backout.ports import Runs


def break_glass(runs: Runs, run: str, *, actor: str, why: str, at: float) -> Notice | None:
    """Have a run go on without the approval that it needs; return what everybody is to be told, None: it needs none.

    Args:
        at: Unix seconds.

    Raises:
        JournalUnavailable: it could not be recorded, so it is not done.
    """
    found = runs.find(run)
    if found is None or found.state.is_over or found.approval is not None:
        return None
    try:
        runs.ask(run, "break-glass", actor=actor, reason=why)
    except Refused:
        return None
    name = found.environment.partition("/")[0]
    return Notice(
        kind=NoticeKind.BROKE_GLASS,
        environment=name,
        at=at,
        title=f"{name}: {run} goes on without the approval that it needs",
        text=(
            f"{actor} broke the glass: {why}. Nobody has approved the plan ({shorten(found.plan.why)}), and it waits "
            "for nobody any more."
        ),
        key=f"{name}:{NoticeKind.BROKE_GLASS}:{run}",
        run=run,
        next=(f"backout runs show {run}", f"backout runs pause {run} -m WHY", f"backout runs abort {run} -m WHY"),
        facts={"by": actor, "why": why},
    )
