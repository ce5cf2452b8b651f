"""A rescue that waits for an approval: what it would write is counted meanwhile, for whoever has to approve it."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from backout.cli.db.rescue_table import format_rescue
from backout.errors import BackoutError, DecisionNeeded, Refused
from backout.model.database.rescue_preview import PreviewState, RescuePreview
from backout.model.incident.incident import RunState
from backout.runbook.recovery.previews import needs_preview, record_preview, rename_sides

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backout.cli.db.restore_session import RestoreSession
    from backout.model.database.rescue import RescueReport
    from backout.model.incident.incident import Run
    from backout.model.plan import Plan

_EVERY_S = 1.0


@contextmanager
def previewing(session: RestoreSession, run: str) -> Iterator[None]:
    """Count what a rescue would write, when the block ends because its run waits for an approval.

    The approval does not wait for it, and neither does the run: once it is decided, no side instance is made for it.
    """
    try:
        yield
    except DecisionNeeded:
        with suppress(BackoutError):  # that it waits matters more than that its rows cannot be counted
            found = session.tools.runs.find(run)
            if found is not None and found.state is RunState.WAITING and needs_preview(session.tools.journal, found):
                _preview(session, found)
        raise


def _preview(session: RestoreSession, run: Run) -> None:
    tools, say = session.tools, session.shell.output.say

    def record(state: PreviewState, report: RescueReport | None = None, why: str = "") -> None:
        preview = RescuePreview(run.id, state, tools.clock.now(), report, why)
        record_preview(tools.journal, tools.environment, preview, actor=tools.actor)

    say(f"{run.id} waits for an approval; meanwhile its rows are counted for whoever gives it (Ctrl-C ends that alone)")
    record(PreviewState.BEGAN)
    try:
        report = foresee_rescue(session, rename_sides(run.plan), _make_watch(session, run.id))
    except KeyboardInterrupt:
        say("the counting was stopped; the run waits as before")
        record(PreviewState.FAILED, why="the counting was stopped")
        return
    except BackoutError as error:
        say(f"its rows could not be counted: {error.what}")
        record(PreviewState.FAILED, why=session.shell.mask_reason(error.what))
        return
    say("it would write:\n" + format_rescue(session.shell, report, would=True))
    record(PreviewState.COUNTED, report)


def _make_watch(session: RestoreSession, run: str) -> Callable[[str, int, int], None]:
    """Return what raises Refused once a run is decided: it needs the disk and the processor for itself."""
    tools = session.tools
    last = [tools.clock.now()]

    def watch(_doing: str, _done: int, _whole: int) -> None:
        now = tools.clock.now()
        if now - last[0] < _EVERY_S:
            return
        last[0] = now
        found = tools.runs.find(run)
        if found is None or found.state is not RunState.WAITING:
            raise Refused("it was decided before its rows were counted", where=tools.environment)

    return watch


def foresee_rescue(
    session: RestoreSession, plan: Plan, progress: Callable[[str, int, int], None] | None = None
) -> RescueReport:
    """Return what the plan of a rescue would write, from side instances, or from branches where a vendor has them."""
    if session.branches is not None:
        from backout.runbook.recovery.steps.managed import foresee as foresee_at_vendor

        return foresee_at_vendor(session.branches, plan)
    from backout.runbook.recovery.restoring import foresee
    from backout.runbook.recovery.steps.side import ignore_progress

    return foresee(session.tools, plan, progress or ignore_progress)
