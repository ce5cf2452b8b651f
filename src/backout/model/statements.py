"""Statements that an application sends, and what became of one that was tried."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement as the application sends it.

    Args:
        sql: with `$1`, `$2` where it has parameters. values: theirs, where a log shows them; None: unknown, or none.
        calls: how often it was seen. since: when it was first seen (Unix seconds), None when that is not known.
    """

    sql: str
    values: tuple[str | None, ...] | None = None
    calls: int = 1
    since: float | None = None


@dataclass(frozen=True, slots=True)
class ParameterUse:
    """What a parameter is compared with or written to: a column, where one can be told."""

    number: int
    table: str = ""
    column: str = ""


class Outcome(StrEnum):
    """What a trial says."""

    WORKS = "works"
    FAILS = "fails"
    UNTRIED = "untried"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the database said to a statement in a transaction that was rolled back.

    Args:
        sqlstate: "" when it was executed. message: the server's, one line. invented: a parameter's value was made up.
        stood_in: the role that asked may do less than the application's.
    """

    sqlstate: str = ""
    message: str = ""
    invented: bool = False
    stood_in: bool = False


@dataclass(frozen=True, slots=True)
class Trial:
    """A statement with its outcome; `why` in one sentence where it does not work or was not tried."""

    statement: Statement
    outcome: Outcome
    why: str = ""


@dataclass(frozen=True, slots=True)
class StatementProof:
    """The second proof: the old code's statements, tried on the schema as it is after the migration `head`."""

    head: str
    at: float
    trials: tuple[Trial, ...]

    def of(self, outcome: Outcome) -> tuple[Trial, ...]:
        """Return the trials with this outcome, most called first."""
        return tuple(sorted((t for t in self.trials if t.outcome is outcome), key=lambda t: -t.statement.calls))
