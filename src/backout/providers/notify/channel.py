"""What every channel is: something that a notice can be sent through once, and that says how it failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.model.notice import Notice


class SendFailed(Exception):
    """One try failed.

    Args:
        why: in words, without a secret. permanent: another try would end the same way.
        retry_after_s: no earlier than that; None: the sender decides.
    """

    def __init__(self, why: str, *, permanent: bool = False, retry_after_s: float | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.permanent = permanent
        self.retry_after_s = retry_after_s


class Channel(Protocol):
    """One way to somebody; used by one thread at a time."""

    def send(self, notice: Notice, now: float) -> None:
        """Send it once, within bounded time; `now` is Unix seconds. Raises SendFailed."""
        ...


@dataclass(frozen=True, slots=True)
class Route:
    """A channel that is opened when it is first used.

    Args:
        name: as in the configuration. open: may raise SendFailed. problem: why it cannot be used now, or "".
    """

    name: str
    open: Callable[[], Channel]
    problem: str = ""


def broken(name: str, why: str) -> Route:
    """Return a channel that cannot be used in this process; what is told through it waits for one that can."""

    def fail() -> Channel:
        raise SendFailed(why, retry_after_s=300)

    return Route(name, fail, why)
