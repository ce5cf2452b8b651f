"""One channel's deliveries: due notices are sent, and tried again later where that can help."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.errors import OutboxUnavailable
from backout.model.incident.notice import Notice, NoticeKind, QueueState
from backout.providers.notify.channel import SendFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backout.model.incident.notice import QueuedNotice
    from backout.ports import Clock
    from backout.providers.notify.channel import Channel, Route
    from backout.providers.notify.outbox import Outbox

TRIES: Final = 12
AT_MOST_S: Final = 86_400.0
"""A notice that did not arrive by then is given up."""
_FIRST_WAIT_S, _FACTOR, _LONGEST_WAIT_S = 1.0, 3.0, 5 * 3600.0
_LOOK_AGAIN_S: Final = 5.0
_LISTED: Final = 20


class DeliveryWorker:
    """Delivers through one channel from several outboxes; used by one thread.

    Attributes:
        problem: why the last try failed, or "".
    """

    def __init__(
        self,
        route: Route,
        outboxes: Sequence[Outbox],
        clock: Clock,
        *,
        redact: Callable[[str], str] = str,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.name = route.name
        self.problem = f"{route.name}: {route.problem}" if route.problem else ""
        self._route = route
        self._outboxes = outboxes
        self._clock = clock
        self._redact = redact
        self._draw = draw
        self._channel: Channel | None = None

    def deliver(self) -> float:
        """Send everything that is due, and return when to look again (infinity: nothing waits). Never raises."""
        again = [self._empty(outbox) for outbox in self._outboxes]
        return min(again)

    def _empty(self, outbox: Outbox) -> float:
        while True:
            try:
                queued, again = outbox.take(self.name, self._clock.now())
                if not queued:
                    return again
                failed = self._send(outbox, queued)
                if failed is not None and not failed.permanent:
                    # The others would fail alike, each after its own wait for an answer.
                    return self._clock.now() + self._wait_s(0, failed.retry_after_s)
            except OutboxUnavailable as error:
                self.problem = f"{self.name}: {error}"
                return self._clock.now() + _LOOK_AGAIN_S
            except Exception as error:  # noqa: BLE001 - the thread of a channel lives as long as something waits for it
                self.problem = f"{self.name}: the outbox cannot be used ({type(error).__name__})"
                return self._clock.now() + _LOOK_AGAIN_S

    def _send(self, outbox: Outbox, queued: tuple[QueuedNotice, ...]) -> SendFailed | None:
        try:
            if self._channel is None:
                self._channel = self._route.open()
            self._channel.send(sum_up([item.notice for item in queued]), self._clock.now())
        except SendFailed as error:
            failed = error
        except Exception as error:  # noqa: BLE001 - a mistake in a channel costs that channel, nothing else
            failed = SendFailed(f"{type(error).__name__}: {error}")
        else:
            self.problem = ""
            outbox.settle(queued, QueueState.DELIVERED, self._clock.now())
            return None
        self._note_failure(outbox, queued, failed)
        return failed

    def _note_failure(self, outbox: Outbox, queued: tuple[QueuedNotice, ...], failed: SendFailed) -> None:
        now, why = self._clock.now(), self._redact(failed.why)
        for item in queued:
            at = now + self._wait_s(item.tries, failed.retry_after_s)
            too_late = item.tries + 1 >= TRIES or at > item.notice.at + AT_MOST_S
            if failed.permanent or too_late:
                outbox.settle((item,), QueueState.GIVEN_UP, now, why=why)
            else:
                outbox.settle((item,), QueueState.WAITING, at, why=why)
        tried = max(item.tries for item in queued) + 1
        self.problem = f"{self.name}: {why} (tried {tried} time{'s' if tried > 1 else ''})"

    def _wait_s(self, tries: int, asked_s: float | None) -> float:
        if asked_s is not None:
            return max(asked_s, _FIRST_WAIT_S)
        bound_s = min(_FIRST_WAIT_S * _FACTOR**tries, _LONGEST_WAIT_S)
        return self._draw(bound_s / 2, bound_s)


def sum_up(notices: Sequence[Notice]) -> Notice:
    """Return the notice itself, or a summary of several: those that need a person by name, and the rest."""
    if len(notices) == 1:
        return notices[0]
    ordered = sorted(notices, key=lambda notice: (not notice.kind.is_critical, notice.at))
    lines = [f"- {notice.title}" + (f" (run {notice.run})" if notice.run else "") for notice in ordered[:_LISTED]]
    left = len(ordered) - len(lines)
    newest = max(notices, key=lambda notice: notice.at)
    environment = newest.environment
    return replace(
        newest,
        kind=NoticeKind.SUMMARY,
        title=f"{environment}: {len(notices)} more notices, {sum(n.kind.is_critical for n in notices)} of them urgent",
        text="\n".join(["There were too many to send one by one.", *lines, *([f"and {left} more"] if left else [])]),
        key="\n".join(sorted(notice.key for notice in notices)),
        run="",
        next=(f"backout notify list -e {environment}", f"backout status -e {environment}"),
        facts={"count": str(len(notices))},
    )
