"""The head of a journal's chain, as it is told where the journal's keeper cannot change it afterwards."""

from __future__ import annotations

from typing import Final

from backout.model.value import Value

JOURNAL_DIGITS: Final = 8
HEAD_DIGITS: Final = 12


class Witness(Value, frozen=True):
    """Which journal it is, and how far it was.

    Args:
        journal: the first 8 digits of the hash of its first event: every other journal has others.
        head: the first 12 digits of the hash of its newest event then.
    """

    journal: str
    head: str

    @classmethod
    def of(cls, first: str, newest: str) -> Witness:
        """Return the witness of a journal by the hashes of its first and of its newest event."""
        return cls(first[:JOURNAL_DIGITS], newest[:HEAD_DIGITS])

    def __str__(self) -> str:
        return f"{self.journal}/{self.head}"


class Told(Value, frozen=True):
    """A witness that stands in the message of a deployment.

    Args:
        environment, deployment: of which.
        at: when it was made, Unix seconds by the provider's clock.
        run: that made it, "" for none.
    """

    environment: str
    deployment: str
    at: float
    run: str
    witness: Witness
