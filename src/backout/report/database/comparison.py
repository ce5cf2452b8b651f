"""The second check of a restore as a sentence and as a record: what was compared, what was not, and what differs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from backout.errors import Unmeasured
from backout.model.steps.branches import BranchCompareCopyStep, BranchCompareStep
from backout.model.steps.comparison import ComparisonResult, TableDiffers, TableNotCompared
from backout.model.steps.rescue import CompareStep, CompareUndoStep
from backout.model.steps.restore import CompareCopyStep, NoteCopiesResult

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from backout.model.database.comparison import Comparison, TableComparison
    from backout.model.plan import Json
    from backout.model.steps.base import Arguments

RESCUE, RESCUE_UNDONE = "rescue", "undo of a rescue"
SWAP_BEFORE, SWAP, SWAP_UNDONE = "before the swap", "swap", "undo of a swap"
BRANCH_SWAP_BEFORE, BRANCH_SWAP, BRANCH_SWAP_UNDONE = (
    "before the swap at the vendor",
    "swap at the vendor",
    "undo of a swap at the vendor",
)
_SHOWN = 5
_WITH = {
    RESCUE: "with those just before the damage",
    RESCUE_UNDONE: "with those just before the rescue",
    SWAP_BEFORE: "of the server before the swap with those of the side instance at its target",
    SWAP: "of the server after the swap with those of the side instance at its target",
    SWAP_UNDONE: "of the server that is back with those that it held before it was put away",
    BRANCH_SWAP_BEFORE: "of the live branch before the swap with those of the side branch",
    BRANCH_SWAP: "of the live branch after the swap with those that the side branch held before it",
    BRANCH_SWAP_UNDONE: "of the branch that is back with those that it held before it was put away (of rows that are "
    "gone it is not known whether clients removed them until then)",
}
_UNREAD = {RESCUE: "rows of large tables that the damage did not write"}
_UNREAD_ELSE = "rows of large tables that are read in part, or beside rows that others changed"
_KINDS = {
    "left": "still as the damage left them",
    "missing": "not there",
    "wrong": "written by the rescue, and not as before",
}
_LEFT_BY_UNDO = "still as the rescue made them"
_WRONG_ELSE = "not as they were, though they were not written since"


def make_comparison_record(found: Comparison, told: Collection[str], *, of: str = RESCUE) -> ComparisonResult:
    """Return a comparison as the journal and `--json` show it; with `failed` where a table was not that had to be.

    Args:
        told: the tables that the rescue itself reported as left alone.
        of: what is checked.
    """
    differs = found.apart_from(told)
    unknown = [each for each in found.tables if each.failed and each.table not in told]
    failed = "; ".join(f"table {each.table} could not be compared: {each.reason}" for each in unknown)
    if unknown and not found.behind and all(each.reason for each in found.tables):
        return ComparisonResult(failed=failed)
    return ComparisonResult(
        failed=failed,
        of=of,
        sentence=describe_comparison(found, of=of),
        tables=len([each for each in found.tables if not each.reason]),
        rows=sum(each.equal + each.differing for each in found.tables),
        equal=sum(each.equal for each in found.tables),
        newer=sum(each.newer for each in found.tables),
        unread=sum(each.unread for each in found.tables),
        not_compared=tuple(TableNotCompared(table=e.table, reason=e.reason) for e in found.tables if e.reason),
        differs=tuple(map(_make_differing, differs)),
        left_out=tuple(_make_differing(e) for e in found.tables if (e.differing or e.columns) and e not in differs),
        behind=tuple(found.behind),
    )


def describe_comparison(found: Comparison, *, of: str = RESCUE) -> str:
    """Return what was compared and what was not, in one sentence."""
    read = [each for each in found.tables if not each.reason]
    rows = sum(each.equal + each.differing for each in read)
    what = "tables" if of in (RESCUE, RESCUE_UNDONE) else "tables and catalogs"
    newer, unread = (sum(getattr(each, name) for each in read) for name in ("newer", "unread"))
    text = (
        f"compared by hashes that both servers computed, in a process of its own: {rows:,} rows of {len(read)} {what} "
        f"{_WITH[of]}"
    )
    if newer:
        text += f"; not compared: {newer:,} rows that the application or a person wrote or removed since"
    if unread:
        text += f"{';' if newer else '; not compared:'} {unread:,} {_UNREAD.get(of, _UNREAD_ELSE)}"
    reasons: dict[str, list[str]] = {}
    for each in found.tables:
        if each.reason:
            reasons.setdefault(each.reason, []).append(each.table)
    for reason, tables in sorted(reasons.items()):
        text += f"; not looked at: {summarize_names(tables)} ({reason})"
    return text


def format_comparison(record: ComparisonResult) -> list[str]:
    """Return the lines of a record for a person: the sentence, and each table that differs; none for an empty one."""
    unchecked = [f"NOT CHECKED by other means: {record.failed}"] if record.failed else []
    if not record.sentence:
        return unchecked
    lines = [f"second check: {record.sentence}", *format_differences(record)]
    if not record.differs and not record.behind:
        lines[0] += "; nothing differs" + (" but what is named above" if record.left_out else "")
    return lines + unchecked


def format_differences(record: ComparisonResult) -> list[str]:
    """Return a line for each table, and each definition, that differs: with the numbers of rows, and keys."""
    lines, of = list[str](), record.of or RESCUE
    kinds = _KINDS if of == RESCUE else {**_KINDS, "wrong": _WRONG_ELSE}
    kinds = {**kinds, "left": _LEFT_BY_UNDO} if of == RESCUE_UNDONE else kinds
    for each in record.differs:
        counts = {"left": each.left, "missing": each.missing, "wrong": each.wrong}
        said = [f"{counts[name]:,} rows {words}" for name, words in kinds.items() if counts[name]]
        said += [f"columns not there: {', '.join(each.columns)}"] if each.columns else []
        keys = f": {', '.join(each.examples)}" if each.examples else ""
        lines.append(f"NOT AS BEFORE: {each.table}: {'; '.join(said)}{keys}")
    return lines + [f"NOT AS BEFORE: {each}" for each in record.behind]


SECOND_CHECKS: tuple[type[Arguments[ComparisonResult]], ...] = (
    CompareStep,
    CompareCopyStep,
    BranchCompareStep,
    BranchCompareCopyStep,
    CompareUndoStep,
)
"""The steps that make it, of which a plan has one; those of earlier versions have none."""


class SecondCheck(NamedTuple):
    """The records of a run's second check, and of the one before a swap; each None if there is none."""

    compared: ComparisonResult | None
    before: NoteCopiesResult | None

    @property
    def lines(self) -> list[str]:
        """The lines for a person."""
        lines = [line for each in (self.before, self.compared) if each is not None for line in format_comparison(each)]
        if self.before is not None and self.before.kept is not None:
            lines.append(f"NOT NOTED what the server held that was put away: {self.before.kept.failed}")
        return list(dict.fromkeys(lines))  # what could not be checked before cannot be checked after either

    @property
    def codes(self) -> tuple[int, ...]:
        """The exit codes that it asks for; a failed comparison before a swap by itself asks for none."""
        before = 0 if self.before is None else get_comparison_code(self.before) % _NOTHING_SEEN
        return (0 if self.compared is None else get_comparison_code(self.compared), before)

    def record(self) -> dict[str, Json]:
        """Return it as `--json` shows it."""
        compared, before = (None if each is None else each.to_json() for each in (self.compared, self.before))
        return {"comparison": compared, "comparison_before": before or None}


_NOTHING_SEEN = Unmeasured.exit_code


def get_comparison_code(record: ComparisonResult) -> int:
    """Return the exit code that a record asks for: 1 something differs, 7 something could not be compared, else 0."""
    return 1 if record.differs or record.behind else _NOTHING_SEEN if record.failed else 0


def summarize_names(tables: Sequence[str]) -> str:
    """Return some names and how many more there are.

    >>> summarize_names(["a", "b"])
    'a, b'
    """
    more = len(tables) - _SHOWN
    return ", ".join(tables[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _make_differing(each: TableComparison) -> TableDiffers:
    return TableDiffers(
        table=each.table,
        left=each.left,
        missing=each.missing,
        wrong=each.wrong,
        columns=tuple(each.columns),
        examples=tuple(each.examples),
    )
