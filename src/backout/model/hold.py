"""The kill switch: until when no automatic action may be taken, and why (safety rule 10)."""

from __future__ import annotations

from dataclasses import dataclass, replace

LONGEST_S = 7 * 86_400.0
"""A hold ends after a week, whatever it says: a guard that was forgotten in a hold guards nothing."""
UNSIGNED_S, UNSIGNED_A_DAY = 2 * 3_600.0, 2
"""Where marks are signed, a hold without a signature lasts so long, and so many of a day count."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold on every automatic action of an environment.

    Args:
        until: Unix seconds; 0.0 lifts an earlier hold. at: when it was set. by: user@host. where: "this host" or the
            deployment that carries it. incident: the run that began the incident it was set in, "" for none; it does
            not end while that is open. unsigned: it lacks the signature that marks have here.
    """

    until: float
    why: str
    by: str
    at: float
    where: str = ""
    incident: str = ""
    unsigned: bool = False

    def is_on(self, now: float) -> bool:
        """Whether it holds at that time."""
        return now < self.until

    def limited(self, longest_s: float = LONGEST_S) -> Hold:
        """Return the same hold, which ends so many seconds after it was set at the latest.

        >>> Hold(until=9e9, why="", by="", at=1000.0).limited(60.0).until
        1060.0
        """
        return replace(self, until=min(self.until, self.at + longest_s))
