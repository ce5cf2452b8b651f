"""How many of a database's connections are in use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConnectionUse:
    """The tightest of the limits on connections, at one moment.

    Args:
        at: Unix seconds. used: connections that count towards the limit, without the one that asked.
        limit: how many there may be; 0 when it was never read. waiting: sessions that wait for a lock of another one,
            which is how a pool runs full; None when the role may not see it.
        scope: whose limit it is: "server", "database", "role" or "pool".
        refused: what the database said to one connection too many, or "": then every connection is in use.
    """

    at: float
    used: int
    limit: int
    waiting: int | None = None
    scope: str = "server"
    refused: str = ""

    @property
    def exhausted(self) -> bool:
        """Whether the next connection is refused."""
        return bool(self.refused) or self.used >= self.limit

    @property
    def share(self) -> float:
        """Return the share in use, in [0, 1].

        >>> ConnectionUse(0.0, used=9, limit=12).share, ConnectionUse(0.0, 3, 0, refused="too many clients").share
        (0.75, 1.0)
        """
        return 1.0 if self.exhausted else self.used / self.limit
