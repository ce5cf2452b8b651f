"""What a platform may have beside the versions: queues that deliver messages, caches that answer for the database."""

from __future__ import annotations

from backout.model.value import Value


class QueueState(Value, frozen=True):
    """A queue that the application consumes.

    Args:
        delivers: whether messages are delivered; those that are sent to a paused queue wait in it.
        backlog: how many messages wait, about; None: not measured.
        retention_s: after how many seconds a waiting message is lost, None: not known.
    """

    name: str
    delivers: bool
    backlog: int | None = None
    retention_s: float | None = None


class CacheState(Value, frozen=True):
    """A cache that may answer reads in the database's place.

    Args:
        id: by which the platform knows it.
        name: for a person.
        is_on: whether it caches.
        max_age_s: for how long an answer is used, None: the platform's default.
        stale_s: for how long it may still be used after that, None: the platform's default.
    """

    id: str
    name: str
    is_on: bool
    max_age_s: float | None = None
    stale_s: float | None = None
