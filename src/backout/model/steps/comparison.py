"""The results of the second checks: what was compared by means independent of the work, and the differences."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from backout.model.steps.base import Record, Result

if TYPE_CHECKING:
    from backout.model.plan import Json


class TableNotCompared(Record, frozen=True, kw_only=True):
    """A table that was not compared, and why."""

    table: str
    reason: str


class TableDiffers(Record, frozen=True, kw_only=True):
    """A table whose rows differ; numbers of rows.

    Args:
        left: still as the damage left them.
        missing: not there.
        wrong: written, but not as before.
        columns: that are not there.
        examples: keys.
    """

    table: str
    left: int = 0
    missing: int = 0
    wrong: int = 0
    columns: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()


class NoteResult(Result, frozen=True, kw_only=True):
    """Why nothing could be noted for the check, "" where it could."""

    omitted: ClassVar[frozenset[str]] = frozenset({"failed"})
    failed: str = ""


class ComparisonResult(Result, frozen=True, kw_only=True):
    """What was compared, and the differences; `failed` alone where the check was impossible; nothing of an empty one.

    Args:
        failed: why nothing was compared, or which tables were not that had to be.
        of: the subject of the check.
        sentence: the result in words, "" where nothing was compared.
        tables, rows, equal: compared.
        newer: rows that others wrote since.
        unread: rows of large tables.
        differs: tables that differ.
        left_out: those that were said to be left.
        behind: definitions that differ.
    """

    failed: str = ""
    of: str = ""
    sentence: str = ""
    tables: int = 0
    rows: int = 0
    equal: int = 0
    newer: int = 0
    unread: int = 0
    not_compared: tuple[TableNotCompared, ...] = ()
    differs: tuple[TableDiffers, ...] = ()
    left_out: tuple[TableDiffers, ...] = ()
    behind: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Json]:
        """Return it as JSON values."""
        found = super().to_json()
        if not self.failed:
            del found["failed"]
        elif not self.sentence:
            return {"failed": self.failed}
        return found if self.sentence else {}
