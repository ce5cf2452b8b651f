"""What the steps of a run found, a sentence each, from the results that the journal keeps; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.decoding import Undecodable, decode_values
from backout.model.database.rescue import RescueReport
from backout.model.steps.comparison import ComparisonResult
from backout.report.database.comparison import format_comparison

if TYPE_CHECKING:
    from backout.model.plan import Json


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
        if "tables" in result and "definitions" in result:
            return _describe_rescue(decode_values(result, RescueReport))
    except Undecodable:
        return []
    checked = result.get("checked")
    found = [str(each) for each in checked] if isinstance(checked, list) else []
    return found + [
        str(result[name]) for name in ("summary", "why") if isinstance(result.get(name), str) and result[name]
    ]


def _describe_rescue(report: RescueReport) -> list[str]:
    said = [f"definition of {each} restored" for each in report.definitions]
    for each in report.tables:
        counts = {"given back": each.updated, "inserted": each.inserted, "deleted": each.deleted}
        rows = [f"{count:,} rows {words}" for words, count in counts.items() if count]
        rows += [f"{each.conflicts:,} left as others have changed them since"] if each.conflicts else []
        rows += [f"left alone: {each.left}"] if each.left else []
        said.append(f"{each.table}: {', '.join(rows) or 'nothing to do'}")
    return said + [f"not repaired: {each.what}: {each.reason}" for each in report.left_out]
