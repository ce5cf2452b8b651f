"""The second check of a restore as a sentence and as a record: what was compared, what was not, and what differs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from backout.model.comparison import Comparison, TableComparison
    from backout.model.plan import Json

_SHOWN = 5
_KINDS = {
    "left": "still as the damage left them",
    "missing": "not there",
    "wrong": "written by the rescue, and not as before",
}


def comparison_record(found: Comparison, told: Collection[str]) -> dict[str, Json]:
    """Return a comparison as the journal and `--json` show it; {failed} alone where it shows nothing.

    Args:
        told: the tables that the rescue itself said it leaves alone.
    """
    differs = found.apart_from(told)
    unknown = [each for each in found.tables if each.failed and each.table not in told]
    if unknown and not (differs or found.behind):
        return {"failed": "; ".join(f"table {each.table} could not be compared: {each.reason}" for each in unknown)}
    return {
        "sentence": comparison_sentence(found),
        "tables": len([each for each in found.tables if not each.reason]),
        "rows": sum(each.equal + each.differing for each in found.tables),
        "equal": sum(each.equal for each in found.tables),
        "newer": sum(each.newer for each in found.tables),
        "unread": sum(each.unread for each in found.tables),
        "not_compared": [{"table": each.table, "reason": each.reason} for each in found.tables if each.reason],
        "differs": [_differing(each) for each in differs],
        "left_out": [_differing(e) for e in found.tables if (e.differing or e.columns) and e not in differs],
        "behind": list(found.behind),
    }


def comparison_sentence(found: Comparison) -> str:
    """Return what was compared and what was not, in one sentence."""
    read = [each for each in found.tables if not each.reason]
    rows = sum(each.equal + each.differing for each in read)
    newer, unread = (sum(getattr(each, name) for each in read) for name in ("newer", "unread"))
    text = (
        f"compared by hashes that both servers computed, in a process of its own: {rows:,} rows of {len(read)} tables "
        "with those just before the damage"
    )
    if newer:
        text += f"; not compared: {newer:,} rows that others wrote or removed since"
    if unread:
        text += f"{';' if newer else '; not compared:'} {unread:,} rows of large tables that the damage did not write"
    reasons: dict[str, list[str]] = {}
    for each in found.tables:
        if each.reason:
            reasons.setdefault(each.reason, []).append(each.table)
    for reason, tables in sorted(reasons.items()):
        text += f"; not looked at: {named(tables)} ({reason})"
    return text


def comparison_lines(record: Mapping[str, Json]) -> list[str]:
    """Return what a person reads of a record: the sentence, and each table that differs."""
    if "failed" in record:
        return [f"NOT CHECKED by other means: {record['failed']}"]
    lines = [f"second check: {record['sentence']}"]
    differs, behind = record["differs"], record["behind"]
    assert isinstance(differs, list)  # noqa: S101 as recorded
    assert isinstance(behind, list)  # noqa: S101 same
    for each in differs:
        assert isinstance(each, dict)  # noqa: S101 same
        said = [f"{each[name]:,} rows {words}" for name, words in _KINDS.items() if each[name]]
        columns, examples = each["columns"], each["examples"]
        assert isinstance(columns, list)  # noqa: S101 same
        assert isinstance(examples, list)  # noqa: S101 same
        said += [f"columns not there: {', '.join(map(str, columns))}"] if columns else []
        keys = f": {', '.join(map(str, examples))}" if examples else ""
        lines.append(f"NOT AS BEFORE: {each['table']}: {'; '.join(said)}{keys}")
    lines += [f"NOT AS BEFORE: {each}" for each in behind]
    if not differs and not behind:
        lines[0] += "; nothing differs" + (" but what is named above" if record["left_out"] else "")
    return lines


def named(tables: Sequence[str]) -> str:
    """Return some names and how many more there are.

    >>> named(["a", "b"])
    'a, b'
    """
    more = len(tables) - _SHOWN
    return ", ".join(tables[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _differing(each: TableComparison) -> dict[str, Json]:
    return {
        "table": each.table,
        "left": each.left,
        "missing": each.missing,
        "wrong": each.wrong,
        "columns": list(each.columns),
        "examples": list(each.examples),
    }
