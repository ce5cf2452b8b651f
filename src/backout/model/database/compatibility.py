"""The effect of a migration on the code that ran before it, in the terms of `backout.migrations/1`."""

from __future__ import annotations

from enum import StrEnum

from backout.model.value import Value


class Compatibility(StrEnum):
    """Whether the code that ran before a change still runs after it; see `docs/concepts.md`."""

    SAFE = "safe"
    SAFE_IF = "safe-if"
    BREAKING = "breaking"


class Reversible(StrEnum):
    """Whether the change can be taken back without losing data."""

    YES = "yes"
    IF = "if"
    NO = "no"


class MigrationFile(Value, frozen=True):
    """One migration as its tool stores it.

    Args:
        sql: what would be executed.
        checksum: the tool's own, "" where it keeps none.
        stamp: the tool applies it only above every stamp that is applied already; None: whatever is applied.
    """

    name: str
    sql: str
    checksum: str = ""
    stamp: int | None = None


class StatementVerdict(Value, frozen=True):
    """One statement, judged for the code that ran before it.

    Args:
        kind: the class of change, such as `drop-column`.
        reason: one sentence for a person.
        condition_sql: a query that answers a `safe-if` (no rows or false: safe), None where no query can.
    """

    sql: str
    kind: str
    verdict: Compatibility
    reversible: Reversible
    reason: str
    condition_sql: str | None = None


class MigrationVerdict(Value, frozen=True):
    """One migration: the worst of its statements; without statements it changes nothing."""

    name: str
    statements: tuple[StatementVerdict, ...]

    @property
    def verdict(self) -> Compatibility:
        """The worst verdict."""
        return max((s.verdict for s in self.statements), key=list(Compatibility).index, default=Compatibility.SAFE)

    @property
    def reversible(self) -> Reversible:
        """The worst answer."""
        return max((s.reversible for s in self.statements), key=list(Reversible).index, default=Reversible.YES)
