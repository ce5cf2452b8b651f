"""Shifts: what a version answers differently from the one before it, and what follows from that."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from backout.model.guard.answers import AnswerClass  # noqa: TC001 - decoded from the journal, so its type is looked up
from backout.model.value import Value

SITE = "site"
"""The stratum of everything that is asked for by names which the baseline knew."""
UNMATCHED = "unmatched"
"""Requests under other names: a crawler's guesses, a new release's pages. They are reported, and never evidence."""


class ShiftKind(StrEnum):
    """What changed."""

    ANSWERS = "answers"  # a stratum is answered in another class
    EXTINCTION = "extinction"  # next to nothing is answered well any more
    HEALTH = "health"  # the health endpoint answered 200 and does not any more
    REDIRECTS = "redirects"  # a redirect leads round and round
    TRAFFIC = "traffic"  # far fewer requests come
    SIZE = "size"  # answers are nearly empty
    HANGING = "hanging"  # requests begin and do not end
    TRIGGER = "trigger"  # a schedule or a queue fails
    CREDENTIALS = "credentials"  # our own request is let in no more


class Outcome(StrEnum):
    """What follows from a shift: the column of the decision table in docs/research/detection.md."""

    ROLL_BACK = "roll back"
    HOLD = "hold"  # and ask; never healthy, never stable
    TOLD = "told"  # may be healthy


ACCEPTED: Final = "guard.accept"
"""The journal's event of an acceptance."""


class Acceptance(Value, frozen=True):
    """A person's statement that a shift is intended (`guard accept`).

    Args:
        at: Unix seconds.
        run: the watch that it held.
        version: the watched version.
        shift: its name.
        why: in the person's own words, on one line.
        by: who (user@host).
    """

    at: float
    run: str
    version: str
    shift: str
    why: str
    by: str


class Shift(Value, frozen=True):
    """One shift with its numbers.

    Args:
        stratum: route template and method as in "GET /api/orders", `SITE`, or what else changed.
        to: the class that answers moved to, None where that is not the point.
        bad, total: answers of the new version in that class, of all its answers in the stratum; bad_before,
            total_before: of the version before it (beside it, in a split).
        log_evidence: natural logarithm of the evidence that this is a change (0 = none).
        sentence: what users could not do, without a final stop.
    """

    kind: ShiftKind
    stratum: str
    to: AnswerClass | None
    outcome: Outcome
    bad: int
    total: int
    bad_before: int
    total_before: int
    log_evidence: float
    sentence: str

    @property
    def name(self) -> str:
        """Return the name by which a person accepts it, one word: "GET:/old:404"."""
        where = self.stratum.replace(" ", ":")
        return f"{where}:{self.to}" if self.to is not None else f"{where}:{self.kind}"


class Noticed(Value, frozen=True):
    """A shift that a notice was sent for while its watch went on.

    Args:
        name, outcome, sentence: of the shift as it was then.
        at: Unix seconds.
        key: of the notice, which may cover several shifts.
    """

    name: str
    outcome: Outcome
    sentence: str
    at: float
    key: str
