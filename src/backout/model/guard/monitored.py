"""What was seen while a live version was watched: the runbook's key metrics."""

from __future__ import annotations

from backout.model.guard.connections import (
    ConnectionUse,  # noqa: TC001 - decoded from the journal, so its type is looked up at run time
)
from backout.model.value import Value


class Response(Value, frozen=True):
    """Three quantiles of response times in milliseconds, each None where nothing was measured."""

    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None


class ErrorRate(Value, frozen=True):
    """The failed requests of some seconds, and between which shares the true one lies.

    Args:
        window_s: how many seconds.
        low, high: in [0, 1]; wrong with probability 1 % for one look.
    """

    window_s: float
    requests: int
    errors: int
    low: float
    high: float

    @property
    def share(self) -> float | None:
        """Share of failed requests, None without requests."""
        return self.errors / self.requests if self.requests else None


class VersionSeen(Value, frozen=True):
    """The answers of one version while it was live.

    Args:
        since: when it was first watched (Unix seconds).
        usual: what its response times are compared with.
        usual_from: whose they are, in words; "" where there are none.
    """

    version: str
    since: float
    requests: int = 0
    errors: int = 0
    response: Response = Response()
    usual: Response = Response()
    usual_from: str = ""


class Monitored(Value, frozen=True):
    """What was seen between two moments (Unix seconds).

    Args:
        versions: those that were live, in order.
        looks: at the health endpoint.
        bad_looks: those at which it, or a critical service, was down.
        down: what was down at one of them: names of services, "health endpoint".
        fullest: the look at which most of the database's connections were in use, None without one.
    """

    since: float
    until: float
    versions: tuple[VersionSeen, ...] = ()
    looks: int = 0
    bad_looks: int = 0
    down: tuple[str, ...] = ()
    fullest: ConnectionUse | None = None
