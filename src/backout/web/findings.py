"""What the steps of a run found, a sentence each, from the results that the journal keeps; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.decoding import Undecodable, decode_values
from backout.model.database.rescue import RescueReport
from backout.model.guard.verdict import CriterionState, Verification
from backout.model.steps.comparison import ComparisonResult
from backout.report.database.comparison import format_comparison

if TYPE_CHECKING:
    from backout.model.database.rescue import TableRescue
    from backout.model.plan import Json

_FEW: Final = 3
_FIRST: Final = ("error rate", "health")
"""What says most of how users are served."""


def list_findings(result: Json) -> list[str]:
    """Return what a step found, as far as its result says it in words; none for most.

    Args:
        result: of a step that is done, as the journal keeps it; of another version of backout it may say nothing here.
    """
    if not isinstance(result, dict):
        return []
    try:
        if "sentence" in result:
            return format_comparison(decode_values(result, ComparisonResult))
        if "criteria" in result:
            return _list_criteria(decode_values(result, Verification))
        if "tables" in result and "definitions" in result:
            return _describe_rescue(decode_values(result, RescueReport))
    except Undecodable:
        return []
    checked = result.get("checked")
    found = [str(each) for each in checked] if isinstance(checked, list) else []
    return found + [
        str(result[name]) for name in ("summary", "why") if isinstance(result.get(name), str) and result[name]
    ]


def _list_criteria(found: Verification) -> list[str]:
    """Return how a verification came out, and each criterion that there is, what did not pass first."""
    passed = [f"{each.name}: {each.evidence}" for each in found.criteria if each.state is CriterionState.PASSED]
    told = [each for each in found.criteria if each.state not in (CriterionState.PASSED, CriterionState.NOT_SET_UP)]
    missed = [f"{each.name}, {each.state}: {each.evidence}" for each in told]
    passed.sort(key=lambda each: not each.startswith(_FIRST))
    return [*([found.summary] if found.summary else []), *missed, *passed]


def tell_preview(report: RescueReport) -> str:
    """Return in a sentence what a rescue would write."""
    tables = [each for each in report.tables if each.updated or each.inserted or each.deleted]
    if tables:
        names = ", ".join(_name_table(each) for each in tables[:_FEW]) + (", …" if len(tables) > _FEW else "")
        back, inserted, deleted = (
            sum(getattr(each, name) for each in tables) for name in ("updated", "inserted", "deleted")
        )
        more = f"insert {inserted:,} and delete {deleted:,}" if inserted or deleted else "and insert or delete none"
        return f"In {names} it would set {_count_rows(back)} back as before the damage, {more}"
    if report.definitions:
        return "It would write no row, and make definitions again"
    left = sum(each.conflicts for each in report.tables)
    why = f": {_count_rows(left)} of the damage {'was' if left == 1 else 'were'} changed again since" if left else ""
    return f"It would write NOTHING{why}"


def _name_table(table: TableRescue) -> str:
    return f"{table.table} ({', '.join(table.columns)})" if table.columns else table.table


def _count_rows(number: int) -> str:
    return f"{number:,} row{'' if number == 1 else 's'}"


def describe_preview(report: RescueReport) -> list[str]:
    """Return what a rescue would do beside writing rows, and what it leaves, a sentence each."""
    said = [f"would be made again: {each}" for each in report.definitions]
    for each in report.tables:
        said += _list_left_rows(each)
        said += [f"{each.table}: triggers that do not fire: {', '.join(each.triggers)}"] if each.triggers else []
    said += report.notes
    return said + [f"not repaired: {each.what}: {each.reason}" for each in report.left_out]


def _list_left_rows(table: TableRescue) -> list[str]:
    if not table.conflicts:
        return []
    more = "" if table.conflicts <= len(table.examples) else ", …"
    keys = f": key {', '.join(table.examples)}{more}" if table.examples else ""
    stay, them = ("stays", "it") if table.conflicts == 1 else ("stay", "them")
    return [f"{table.table}: {_count_rows(table.conflicts)} {stay}, as others have changed {them} since{keys}"]


def _describe_rescue(report: RescueReport) -> list[str]:
    said = [f"definition of {each} restored" for each in report.definitions]
    for each in report.tables:
        counts = {"given back": each.updated, "inserted": each.inserted, "deleted": each.deleted}
        rows = [f"{count:,} rows {words}" for words, count in counts.items() if count]
        rows += [f"left alone: {each.left}"] if each.left else []
        left = _list_left_rows(each)
        said += [f"{each.table}: {', '.join(rows) or 'nothing to do'}"] if rows or not left else []
        said += left
    return said + [f"not repaired: {each.what}: {each.reason}" for each in report.left_out]
