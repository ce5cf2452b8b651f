"""One channel's deliveries: what is due is sent, and tried again later where that can help."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from backout.model.notice import LetterState, Notice, NoticeKind
from backout.providers.notify.channel import SendFailed
from backout.providers.notify.outbox import OutboxUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backout.model.notice import Letter
    from backout.ports import Clock
    from backout.providers.notify.channel import Channel, Route
    from backout.providers.notify.outbox import Outbox

TRIES: Final = 12
AT_MOST_S: Final = 86_400.0
"""A notice that did not arrive by then is given up."""
_FIRST_WAIT_S, _FACTOR, _LONGEST_WAIT_S = 1.0, 3.0, 5 * 3600.0
_LOOK_AGAIN_S: Final = 5.0
_LISTED: Final = 20


class Postman:
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
                letters, again = outbox.take(self.name, self._clock.now())
                if not letters:
                    return again
                failed = self._send(outbox, letters)
                if failed is not None and not failed.permanent:
                    # The others would fail alike, each after its own wait for an answer.
                    return self._clock.now() + self._wait_s(0, failed.retry_after_s)
            except OutboxUnavailable as error:
                self.problem = f"{self.name}: {error}"
                return self._clock.now() + _LOOK_AGAIN_S

    def _send(self, outbox: Outbox, letters: tuple[Letter, ...]) -> SendFailed | None:
        try:
            if self._channel is None:
                self._channel = self._route.open()
            self._channel.send(summed([letter.notice for letter in letters]), self._clock.now())
        except SendFailed as error:
            failed = error
        except Exception as error:  # noqa: BLE001 - a mistake in a channel costs that channel, nothing else
            failed = SendFailed(f"{type(error).__name__}: {error}")
        else:
            self.problem = ""
            outbox.settle(letters, LetterState.DELIVERED, self._clock.now())
            return None
        self._failed(outbox, letters, failed)
        return failed

    def _failed(self, outbox: Outbox, letters: tuple[Letter, ...], failed: SendFailed) -> None:
        now, why = self._clock.now(), self._redact(failed.why)
        for letter in letters:
            at = now + self._wait_s(letter.tries, failed.retry_after_s)
            too_late = letter.tries + 1 >= TRIES or at > letter.notice.at + AT_MOST_S
            if failed.permanent or too_late:
                outbox.settle((letter,), LetterState.GIVEN_UP, now, why=why)
            else:
                outbox.settle((letter,), LetterState.WAITING, at, why=why)
        tried = max(letter.tries for letter in letters) + 1
        self.problem = f"{self.name}: {why} (tried {tried} time{'s' if tried > 1 else ''})"

    def _wait_s(self, tries: int, asked_s: float | None) -> float:
        if asked_s is not None:
            return max(asked_s, _FIRST_WAIT_S)
        bound_s = min(_FIRST_WAIT_S * _FACTOR**tries, _LONGEST_WAIT_S)
        return self._draw(bound_s / 2, bound_s)


def summed(notices: Sequence[Notice]) -> Notice:
    """Return the notice itself, or one that stands for several: what waits for a person by name, the rest as well."""
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
        text="\n".join(["There were too many to tell one by one.", *lines, *([f"and {left} more"] if left else [])]),
        key="\n".join(sorted(notice.key for notice in notices)),
        run="",
        next=(f"backout notify list -e {environment}", f"backout status -e {environment}"),
        facts={"count": str(len(notices))},
    )
