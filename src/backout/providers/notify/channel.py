"""The interface of a channel: it sends a notice once, and says how that failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.model.incident.notice import Notice


class SendFailed(Exception):
    """One try failed.

    Args:
        why: in words, without a secret.
        permanent: another try would fail the same way.
        retry_after_s: the earliest next try; None: the sender decides.
    """

    def __init__(self, why: str, *, permanent: bool = False, retry_after_s: float | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.permanent = permanent
        self.retry_after_s = retry_after_s


class Channel(Protocol):
    """One way to reach people; used by one thread at a time."""

    def send(self, notice: Notice, now: float) -> None:
        """Send it once, within bounded time; `now` is Unix seconds. Raises SendFailed."""
        ...


class Route(Value, frozen=True):
    """A channel that is opened when it is first used.

    Args:
        name: as in the configuration.
        open: may raise SendFailed.
        problem: why it cannot be used now, or "".
    """

    name: str
    open: Callable[[], Channel]
    problem: str = ""


def make_broken(name: str, why: str) -> Route:
    """Return a channel that cannot be used in this process; its notices wait for one that can."""

    def fail() -> Channel:
        raise SendFailed(why, retry_after_s=300)

    return Route(name, fail, why)
