"""The steps of a rescue; the damage that is left, and the report as it is recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.errors import BackoutError
from backout.model.database.rescue import RescueReport
from backout.model.names import parse_id
from backout.model.steps.rescue import LeftResult, RescueCheckStep, RescueStep
from backout.ports import Action, find_result
from backout.private import make_private_folder
from backout.runbook.recovery.removed_since import make_removed_reader
from backout.runbook.recovery.steps.side import find_running, make_progress_teller
from backout.runbook.recovery.tools import RESCUED

if TYPE_CHECKING:
    from pathlib import Path

    from backout.model.plan import Json
    from backout.ports import StepContext
    from backout.runbook.recovery.several import Following
    from backout.runbook.recovery.tools import RestoreTools


class Rescue(Action[RescueStep, RescueReport]):
    """Step `db_rescue` {before, after, database, damage, mark}: the damaged rows come back."""

    arguments = RescueStep

    def __init__(self, tools: RestoreTools, following: Following) -> None:
        self._tools = tools
        self._following = following

    def do(self, args: RescueStep, context: StepContext) -> RescueReport:
        """Return what was written, by table; done twice, it finds nothing left to do."""
        tools = self._tools
        before, after = (find_running(tools, name, context).dsn for name in (args.before, args.after))
        rescuer = tools.rescuer(args.database)
        kept = note_rescue(tools, context.run, args.mark, args.database)
        progress = make_progress_teller(context, tools)
        damage = self._following.complete(args.damage.damage(), args.damage.several, progress)
        removed = make_removed_reader(tools, args)
        return rescuer.rescue(damage, before, after, kept, progress, removed=removed)


def note_rescue(tools: RestoreTools, run: str, mark: str, database: str) -> Path:
    """Record a rescue before it writes anything, so that one that stays half-done can be undone; return its folder.

    The folder is made first: a record without one is of a rescue whose folder was removed, which cannot be undone.
    """
    kept = tools.kept / parse_id(mark)
    make_private_folder(kept)
    note: dict[str, Json] = {"mark": mark, "database": database}
    tools.journal.note(tools.environment, RESCUED, run, note, actor=tools.actor)
    return kept


class CheckRescue(Action[RescueCheckStep, LeftResult]):
    """Step `db_rescue_check` {before, after, database, damage}: compare the live rows once more, read-only."""

    arguments = RescueCheckStep
    effect = False

    def __init__(self, tools: RestoreTools, following: Following) -> None:
        self._tools = tools
        self._following = following

    def do(self, args: RescueCheckStep, context: StepContext) -> LeftResult:
        """Return how many rows are in conflict. Raises BackoutError when damage is left untouched."""
        tools = self._tools
        before, after = (find_running(tools, name, context).dsn for name in (args.before, args.after))
        damage = self._following.complete(
            args.damage.damage(), args.damage.several, make_progress_teller(context, tools)
        )
        report = tools.rescuer(args.database).damage(damage.checked, before, after)
        return check_nothing_left(report, tools.environment, find_result(tools.runs, context.run, RescueStep))


def check_nothing_left(report: RescueReport, environment: str, rescue: RescueReport | None) -> LeftResult:
    """Return how many rows are in conflict after a rescue. Raises BackoutError: damage is left untouched.

    Args:
        rescue: the rescue's own record, None for one that a person declared done.
    """
    done = rescue or RescueReport((), ())
    known = {each.table: each.conflicts for each in done.tables}
    left = conflicts = 0
    for each in report.tables:
        damaged = 0 if each.left or each.table in done.left_alone else each.updated + each.inserted + each.deleted
        # Only writing shows what cannot be written (a unique value is taken by now): that is then no longer counted.
        unwritable = min(damaged, max(0, known.get(each.table, 0) - each.conflicts))
        left += damaged - unwritable
        conflicts += each.conflicts + unwritable
    told = {each.sql.rstrip(";") for each in done.left_out}
    definitions = [each for each in report.definitions if each.rstrip(";") not in told]
    if left or definitions:
        what = f"{left} rows" if left else "; ".join(definitions)
        raise BackoutError(f"damage is left after the rescue: {what}", where=environment)
    return LeftResult(left=left, conflicts=conflicts)
