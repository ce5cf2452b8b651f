"""The steps of a rescue, and of taking one back; what of the damage is left, and the report as it is recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.errors import BackoutError
from backout.model.names import parse_id
from backout.model.rescue import RENAMED, Damage
from backout.ports import NotDone
from backout.runbook.restore import RESCUED
from backout.runbook.side_steps import running, told

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.plan import Json
    from backout.model.rescue import RescueReport
    from backout.ports import Probe, StepContext
    from backout.runbook.restore import RestoreTools
    from backout.runbook.several import Following


PARTLY: Final = "partly"
"""How an undo is recorded that took something back and left something."""


class Rescue:
    """Step `db_rescue` {before, after, database, damage, mark}: the damaged rows come back."""

    def __init__(self, tools: RestoreTools, following: Following) -> None:
        self._tools = tools
        self._following = following

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002
        """Return what was written, by table; done twice it finds nothing left to do."""
        tools, mark = self._tools, str(args["mark"])
        before, after = (running(tools, str(args[name]), context).dsn for name in ("before", "after"))
        rescuer = tools.rescuer(str(args["database"]))
        # Recorded before anything is written: a rescue that stays half-done can be undone as well.
        note: dict[str, Json] = {"mark": mark, "database": args["database"]}
        tools.journal.note(tools.environment, RESCUED, context.run, note, actor=tools.actor)
        progress = told(context, tools)
        damage = self._following.completed(damage_of(args), several_in(args), progress)
        report = rescuer.rescue(damage, before, after, tools.kept / parse_id(mark), progress)
        return rescue_record(report)

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """Whether every row is right is found by doing it: what is right already is left."""
        return NotDone()


class CheckRescue:
    """Step `db_rescue_check` {before, after, database, damage}: what is live is compared once more, read-only."""

    effect = False

    def __init__(self, tools: RestoreTools, following: Following) -> None:
        self._tools = tools
        self._following = following

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002
        """Return how many rows are in conflict. Raises BackoutError when damage is left that nobody has touched."""
        tools = self._tools
        before, after = (running(tools, str(args[name]), context).dsn for name in ("before", "after"))
        damage = self._following.completed(damage_of(args), several_in(args), told(context, tools))
        report = tools.rescuer(str(args["database"])).damage(damage, before, after)
        return nothing_left(report, tools.environment, tools.runs.result(context.run, "db_rescue"))

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """Comparing changes nothing; it is done again."""
        return NotDone()


def _conflicts_of(rescue: Json) -> dict[str, int]:
    """Return how many conflicts a rescue met, by table; nothing is known of one that a person declared done."""
    if rescue is None:
        return {}
    assert isinstance(rescue, dict)  # noqa: S101 as recorded
    tables = rescue["tables"]
    assert isinstance(tables, list)  # noqa: S101 same
    return {str(each["table"]): int(str(each["conflicts"])) for each in tables if isinstance(each, dict)}


def _left_out_of(rescue: Json) -> set[str]:
    """Return the statements of what a rescue left out, and said so."""
    left_out = rescue.get("left_out", []) if isinstance(rescue, dict) else []
    assert isinstance(left_out, list)  # noqa: S101 as recorded
    return {str(each["sql"]).rstrip(";") for each in left_out if isinstance(each, dict)}


def _left_tables(rescue: Json) -> set[str]:
    """Return the tables that a rescue left, and said so."""
    tables = rescue["tables"] if isinstance(rescue, dict) else []
    assert isinstance(tables, list)  # noqa: S101 as recorded
    left = {str(each["table"]): str(each["left"]) for each in tables if isinstance(each, dict)}
    return {name for name, why in left.items() if why and not why.startswith(RENAMED)}


def nothing_left(report: RescueReport, environment: str, rescue: Json) -> Json:
    """Return how many rows are in conflict after a rescue. Raises BackoutError: damage is left that nobody touched.

    Args:
        rescue: what the rescue itself recorded.
    """
    known = _conflicts_of(rescue)
    refused = _left_tables(rescue)
    left = conflicts = 0
    for each in report.tables:
        damaged = 0 if each.left or each.table in refused else each.updated + each.inserted + each.deleted
        # What cannot be written (a unique value is taken by now) only writing shows: then it is no longer counted.
        unwritable = min(damaged, max(0, known.get(each.table, 0) - each.conflicts))
        left += damaged - unwritable
        conflicts += each.conflicts + unwritable
    told = _left_out_of(rescue)
    definitions = [each for each in report.definitions if each.rstrip(";") not in told]
    if left or definitions:
        what = f"{left} rows" if left else "; ".join(definitions)
        raise BackoutError(f"damage is left after the rescue: {what}", where=environment)
    return {"left": left, "conflicts": conflicts}


class UndoRescue:
    """Step `db_undo_rescue` {mark, database}: what the rescue replaced comes back, where nobody has written since."""

    def __init__(self, tools: RestoreTools) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002
        """Return what was written, by table.

        An undo that leaves something can be done again, when what is in its way is gone; one that finds nothing left
        that it could take back is the last one, so that what was restored before can be undone behind it.
        """
        tools, mark = self._tools, str(args["mark"])
        report = tools.rescuer(str(args["database"])).undo(tools.kept / parse_id(mark), told(context, tools))
        written = report.definitions or any(each.updated or each.inserted or each.deleted for each in report.tables)
        undone: Json = PARTLY if report.left_out and written else True
        note: dict[str, Json] = {"mark": mark, "database": args["database"], "undone": undone}
        tools.journal.note(tools.environment, RESCUED, context.run, note, actor=tools.actor)
        return rescue_record(report)

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """As of a rescue."""
        return NotDone()


def rescue_record(report: RescueReport) -> dict[str, Json]:
    """Return a report as the journal and `--json` show it."""
    tables: list[Json] = [
        {
            "table": each.table,
            "columns": list(each.columns),
            "updated": each.updated,
            "inserted": each.inserted,
            "deleted": each.deleted,
            "conflicts": each.conflicts,
            "examples": list(each.examples),
            "triggers": list(each.triggers),
            "left": each.left,
            "unwritten": each.unwritten,
        }
        for each in report.tables
    ]
    left_out: list[Json] = [
        {"what": each.what, "reason": each.reason, "sql": each.sql, "seen": each.seen, "asked": each.asked}
        for each in report.left_out
    ]
    return {
        "definitions": list(report.definitions),
        "tables": tables,
        "notes": list(report.notes),
        "left_out": left_out,
        "differences": [{"what": each.what, "before": each.before, "live": each.live} for each in report.differences],
    }


def several_in(args: Mapping[str, Json]) -> Json:
    """Return what a rescue's step says of several transactions, None of one alone (and of plans of before)."""
    told_of = args["damage"]
    assert isinstance(told_of, dict)  # noqa: S101 as planned
    return told_of.get("several")


def damage_of(args: Mapping[str, Json]) -> Damage:
    """Return what a rescue's step says of the damage."""
    told_of = args["damage"]
    assert isinstance(told_of, dict)  # noqa: S101 as planned
    xids, written, skip = told_of["xids"], told_of["written"], told_of["skip"]
    assert isinstance(xids, list)  # noqa: S101 same
    assert isinstance(written, list)  # noqa: S101 same
    assert isinstance(skip, list)  # noqa: S101 same
    rows = []
    for each in written:
        assert isinstance(each, list)  # noqa: S101 same
        node, kinds = each
        assert isinstance(kinds, list)  # noqa: S101 same
        rows.append((int(str(node)), tuple(map(str, kinds))))
    return Damage(
        frozenset(int(str(xid)) for xid in xids),
        tuple(rows),
        str(told_of["conflicts"]),
        tuple(map(str, skip)),
        told_of["queues"] is True,
    )
