"""The kill switch: until when no automatic action may be taken, and why (safety rule 10)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold on every automatic action of an environment.

    Args:
        until: Unix seconds; 0.0 lifts an earlier hold. at: when it was set. by: user@host. where: "this host" or the
            deployment that carries it.
    """

    until: float
    why: str
    by: str
    at: float
    where: str = ""

    def is_on(self, now: float) -> bool:
        """Whether it holds at that time."""
        return now < self.until
