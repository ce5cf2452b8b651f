"""Statements that an application sends, and the outcomes of their trials."""

from __future__ import annotations

from enum import StrEnum

from backout.model.value import Value


class Statement(Value, frozen=True):
    """One statement as the application sends it.

    Args:
        sql: with `$1`, `$2` where it has parameters.
        values: of the parameters, where a log shows them; None: unknown, or none.
        calls: how often it was seen.
        since: when it was first seen (Unix seconds), None when that is not known.
    """

    sql: str
    values: tuple[str | None, ...] | None = None
    calls: int = 1
    since: float | None = None


class ParameterUse(Value, frozen=True):
    """The column that a parameter is compared with or written to, where that can be determined."""

    number: int
    table: str = ""
    column: str = ""


class Outcome(StrEnum):
    """The outcome of a trial."""

    WORKS = "works"
    FAILS = "fails"
    UNTRIED = "untried"


class Answer(Value, frozen=True):
    """The database's answer to a statement in a transaction that was rolled back.

    Args:
        sqlstate: "" when it succeeded.
        message: the server's, one line.
        invented: a parameter's value was made up.
        stood_in: the role that asked may do less than the application's.
    """

    sqlstate: str = ""
    message: str = ""
    invented: bool = False
    stood_in: bool = False


class Trial(Value, frozen=True):
    """A statement with its outcome; `why` is one sentence where it fails or was not tried."""

    statement: Statement
    outcome: Outcome
    why: str = ""


class StatementProof(Value, frozen=True):
    """Statement replay: the old code's statements, tried on the schema as it is after the migration `head`."""

    head: str
    at: float
    trials: tuple[Trial, ...]

    def of(self, outcome: Outcome) -> tuple[Trial, ...]:
        """Return the trials with this outcome, most called first."""
        return tuple(sorted((t for t in self.trials if t.outcome is outcome), key=lambda t: -t.statement.calls))
