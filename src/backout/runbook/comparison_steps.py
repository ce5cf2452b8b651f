"""The second check of a rescue: what others wrote is noted before it, and every row is compared after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.errors import BackoutError
from backout.model.comparison import Evidence
from backout.model.names import parse_id
from backout.model.rescue import RENAMED
from backout.ports import NotDone
from backout.report.comparison import comparison_record
from backout.runbook.rescue_steps import damage_of
from backout.runbook.side_steps import running, told

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from backout.model.plan import Json
    from backout.model.rescue import Damage
    from backout.ports import Probe, StepContext
    from backout.runbook.restore import RestoreTools


class NoteNewer:
    """Step `db_note_newer` {before, after, database, damage, mark}: which rows others have written since."""

    effect = False

    def __init__(self, tools: RestoreTools) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002
        """Keep them beside what the rescue will keep; once it writes, nobody can tell any more.

        A check that cannot be made is no reason to leave the damage where it is: it is said in the end.
        """
        sides = (running(self._tools, str(args[name]), context).dsn for name in ("before", "after"))
        return note_newer(self._tools, args, context, evidence_of(damage_of(args)), (*sides,))

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """What is kept already stays; it is done again."""
        return NotDone()


class CompareRows:
    """Step `db_compare` {before, after, database, damage, mark}: the rows that are live, with those of before."""

    effect = False

    def __init__(self, tools: RestoreTools) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002
        """Return what was compared and what differs, as `comparison_record` writes it, or why nothing was."""
        results = [self._tools.runs.result(context.run, name) for name in ("db_rescue", "db_note_newer")]
        sides = (running(self._tools, str(args[name]), context).dsn for name in ("before", "after"))
        return compare_rows(
            self._tools, args, context, evidence_of(damage_of(args)), (*sides,), rescue=results[0], noting=results[1]
        )

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """Comparing changes nothing; it is done again."""
        return NotDone()


def note_newer(
    tools: RestoreTools, args: Mapping[str, Json], context: StepContext, evidence: Evidence, sides: tuple[str, ...]
) -> Json:
    """Keep which rows others have written since; return why it could not be, or {}.

    Args:
        sides: connection strings of the database just before the damage and just after it.
    """
    before, after = sides
    comparer = tools.comparer(str(args["database"]))
    return or_failed(lambda: comparer.note(evidence, before, after, _noted(tools, args), told(context, tools)))


def compare_rows(  # noqa: PLR0913 - each is one thing to say
    tools: RestoreTools,
    args: Mapping[str, Json],
    context: StepContext,
    evidence: Evidence,
    sides: tuple[str, ...],
    *,
    rescue: Json,
    noting: Json,
) -> Json:
    """Return what was compared and what differs, as `comparison_record` writes it, or why nothing was.

    Args:
        sides: as `note_newer` takes them. rescue, noting: what those steps recorded.
    """
    before, after = sides
    kept = tools.kept / parse_id(str(args["mark"]))
    comparer = tools.comparer(str(args["database"]))
    noted, progress = _noted(tools, args), told(context, tools)
    record = or_failed(
        lambda: comparison_record(
            comparer.compare(evidence, before, after, noted=noted, kept=kept, progress=progress), left_by(rescue)
        )
    )
    if "failed" in record:
        return record
    if isinstance(noting, dict) and "failed" in noting and not (record["differs"] or record["behind"]):
        # Without what was noted, whatever the rescue wrote wrong is taken for somebody's newer row.
        return {"failed": f"which rows others had written was not noted before the rescue: {noting['failed']}"}
    return record


def or_failed(part: Callable[[], dict[str, Json] | None]) -> dict[str, Json]:
    """Return what a part of the second check records ({} for nothing), or {failed}: why it could not be made."""
    try:
        return part() or {}
    except BackoutError as error:
        return {"failed": str(error)}


def evidence_of(damage: Damage) -> Evidence:
    """Return what tells, of a row that differs, whose doing that is."""
    written = None if damage.written is None else frozenset(node for node, _ in damage.written)
    ids = frozenset(xid % (1 << 32) for xid in damage.xids)
    return Evidence(ids, written=written, overwrites=damage.conflicts == "side")


def left_by(rescue: Json) -> frozenset[str]:
    """Return the tables that a rescue said it leaves alone; a conflict explains no row that nobody wrote since.

    Of a table of which a column has another name or type all other rows come back, so that it is none of them.
    """
    if rescue is None:  # declared done by a person: it said nothing
        return frozenset()
    assert isinstance(rescue, dict)  # noqa: S101 as recorded
    tables = rescue["tables"]
    assert isinstance(tables, list)  # noqa: S101 same
    left = {str(each["table"]): str(each["left"]) for each in tables if isinstance(each, dict)}
    return frozenset(name for name, why in left.items() if why and not why.startswith(RENAMED))


def _noted(tools: RestoreTools, args: Mapping[str, Json]) -> Path:
    return tools.kept.parent / "compared" / f"{parse_id(str(args['mark']))}.json"
