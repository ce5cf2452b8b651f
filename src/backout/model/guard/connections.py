"""The use of a database's connections."""

from __future__ import annotations

from backout.model.value import Value


class ConnectionUse(Value, frozen=True):
    """The tightest of the limits on connections, at one moment.

    Args:
        at: Unix seconds.
        used: connections that count towards the limit, without the one that asked.
        limit: the maximum; 0 when it was never read.
        waiting: sessions that wait for another's lock, which is how a pool fills up; None when the role may not
            see it.
        scope: whose limit it is: "server", "database", "role" or "pool".
        refused: the error of a connection beyond the limit (then all connections are in use), or "".
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
