"""The second check of a restore as a sentence and as a record: what was compared, what was not, and what differs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from backout.model.comparison import Comparison, TableComparison
    from backout.model.plan import Json

RESCUE, RESCUE_UNDONE = "rescue", "undo of a rescue"
SWAP_BEFORE, SWAP, SWAP_UNDONE = "before the swap", "swap", "undo of a swap"
DUMP = "dump"
_SHOWN = 5
_WITH = {
    RESCUE: "with those just before the damage",
    RESCUE_UNDONE: "with those just before the rescue",
    SWAP_BEFORE: "of the server before the swap with those of the side instance at its target",
    SWAP: "of the server after the swap with those of the side instance at its target",
    SWAP_UNDONE: "of the server that is back with those that it held before it was put away",
    DUMP: "with those of the same dump in a scratch server",
}
_UNREAD = {RESCUE: "rows of large tables that the damage did not write"}
_UNREAD_ELSE = "rows of large tables that are read in part, or beside rows that others changed"
_KINDS = {
    "left": "still as the damage left them",
    "missing": "not there",
    "wrong": "written by the rescue, and not as before",
}
_WRONG_ELSE = "not as they were, though nobody wrote them since"


def comparison_record(found: Comparison, told: Collection[str], *, of: str = RESCUE) -> dict[str, Json]:
    """Return a comparison as the journal and `--json` show it; {failed} alone where it shows nothing.

    Args:
        told: the tables that the rescue itself said it leaves alone. of: what is checked.
    """
    differs = found.apart_from(told)
    unknown = [each for each in found.tables if each.failed and each.table not in told]
    if unknown and not (differs or found.behind):
        return {"failed": "; ".join(f"table {each.table} could not be compared: {each.reason}" for each in unknown)}
    return {
        "of": of,
        "sentence": comparison_sentence(found, of=of),
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


def comparison_sentence(found: Comparison, *, of: str = RESCUE) -> str:
    """Return what was compared and what was not, in one sentence."""
    read = [each for each in found.tables if not each.reason]
    rows = sum(each.equal + each.differing for each in read)
    what = "tables" if of in (RESCUE, RESCUE_UNDONE, DUMP) else "tables and catalogs"
    newer, unread = (sum(getattr(each, name) for each in read) for name in ("newer", "unread"))
    text = (
        f"compared by hashes that both servers computed, in a process of its own: {rows:,} rows of {len(read)} {what} "
        f"{_WITH[of]}"
    )
    if newer:
        text += f"; not compared: {newer:,} rows that others wrote or removed since"
    if unread:
        text += f"{';' if newer else '; not compared:'} {unread:,} {_UNREAD.get(of, _UNREAD_ELSE)}"
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
    differs, behind, of = record["differs"], record["behind"], record.get("of", RESCUE)
    assert isinstance(differs, list)  # noqa: S101 as recorded
    assert isinstance(behind, list)  # noqa: S101 same
    kinds = _KINDS if of == RESCUE else {**_KINDS, "wrong": _WRONG_ELSE}
    for each in differs:
        assert isinstance(each, dict)  # noqa: S101 same
        said = [f"{each[name]:,} rows {words}" for name, words in kinds.items() if each[name]]
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


SECOND_CHECKS = ("db_compare", "db_compare_copy", "db_branch_compare", "db_compare_undo")
"""The steps that make it, of which a plan has one; those of earlier versions have none."""


def second_checks(results: Mapping[str, Json]) -> tuple[Json, Json]:
    """Return what the second check of a run recorded, and what it recorded before a swap; each None where it has none.

    Args:
        results: of the run's steps, by action.
    """
    compared = next((results[name] for name in SECOND_CHECKS if results.get(name) is not None), None)
    return compared, results.get("db_note_copies") or None


def checked_lines(before: Json, compared: Json) -> list[str]:
    """Return what a person reads of the second check of a run."""
    lines: list[str] = []
    for each in (before, compared):
        if not isinstance(each, dict) or not each:
            continue
        kept = each.get("kept")
        lines += comparison_lines(each) if "failed" in each or "sentence" in each else []
        if isinstance(kept, dict):
            lines.append(f"NOT NOTED what the server held that was put away: {kept['failed']}")
    return list(dict.fromkeys(lines))  # what could not be checked before cannot be after, and is said once


def comparison_code(record: Json) -> int:
    """Return the exit code that a record asks for: 1 something differs, 7 nothing could be compared, else 0."""
    if not isinstance(record, dict) or not record:
        return 0
    return 7 if "failed" in record else int(bool(record["differs"] or record["behind"]))


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
