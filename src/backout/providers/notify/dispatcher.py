"""Port Notifier: keeps each notice in the outbox and has a thread for each channel deliver it.

The caller waits for the outbox for a bounded time only, and never for a channel. When the outbox cannot be written, the
notice is delivered from memory while this process lives.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.errors import OutboxUnavailable
from backout.model.incident.notice import PAGE, Delivery, NoticeKind, QueueState, make_page_url
from backout.providers.notify.outbox import Outbox
from backout.providers.notify.worker import DeliveryWorker

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from backout.model.incident.notice import Notice
    from backout.ports import Clock
    from backout.providers.notify.channel import Route

KEPT_WITHIN_S: Final = 1.0
"""How long a notice's sender waits until it is on disk."""
_KEEPER: Final = "outbox"
_NOW, _NEVER = 0.0, float("inf")


class Dispatcher:
    """Delivers notices in the background; its threads start when there is something to do, and end with it.

    Args:
        kinds: the kinds of notices that are sent, besides that a person went on without an approval.
        updates: names of the channels for sentences to customers.
        redact: takes every secret out of a text before it is kept or sent.
        pages: where `backout serve` answers, "" for nowhere: each notice links to its page there.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        outbox: Outbox,
        clock: Clock,
        *,
        kinds: Collection[NoticeKind] = tuple(NoticeKind),
        updates: Collection[str] = (),
        redact: Callable[[str], str] = str,
        pages: str = "",
    ) -> None:
        self._outbox = outbox
        self._spare = Outbox(None)
        self._workers = [DeliveryWorker(route, (self._spare, outbox), clock, redact=redact) for route in routes]
        self._clock = clock
        self._kinds = frozenset(kinds) | {NoticeKind.BROKE_GLASS}  # whoever breaks the glass cannot do it quietly
        self._updates = frozenset(updates)
        self._redact, self._pages = redact, pages
        self._turn = threading.Condition()
        self._new: deque[tuple[Notice, threading.Event]] = deque()
        self._running: set[str] = set()
        self._fresh: set[str] = set()
        self._look_at: dict[str, float] = {}
        self._problem = ""

    def tell(self, notice: Notice) -> None:
        """Keep the notice and begin to deliver it, see `ports.Notifier.tell`."""
        if notice.kind not in self._kinds or not self._list_channels(notice):
            return
        if self._pages:
            notice = replace(notice, facts={**notice.facts, PAGE: make_page_url(self._pages, notice)})
        kept = threading.Event()
        with self._turn:
            self._new.append((_mask(notice, self._redact), kept))
            self._begin(_KEEPER, self._keep_all)
        kept.wait(KEPT_WITHIN_S)

    def flush(self, within_s: float) -> Delivery:
        """Wait for what can still arrive within that time, see `ports.Notifier.flush`."""
        with self._turn:
            if self._outbox.exists or self._spare.exists:
                self._send_out()
            until = self._clock.now() + within_s
            self._turn.wait_for(lambda: not self._is_busy(until), within_s)
        return self._delivery()

    # --- threads ----------------------------------------------------------------------------------------------------

    def _begin(self, name: str, work: Callable[[], None]) -> None:
        """Start a thread for this, unless one is running; called while holding the turn."""
        if name in self._running:
            return
        try:
            threading.Thread(target=work, name=f"notify {name}", daemon=True).start()
        except RuntimeError as error:  # no more threads, or the interpreter exits: in the outbox, if anywhere
            self._problem = f"notices are not delivered by this process: {error}"
        else:
            self._running.add(name)

    def _send_out(self) -> None:
        for worker in self._workers:
            self._fresh.add(worker.name)
            self._look_at[worker.name] = _NOW
            self._begin(worker.name, lambda worker=worker: self._deliver(worker))  # type: ignore[misc]
        self._turn.notify_all()

    def _keep_all(self) -> None:
        while True:
            with self._turn:
                if not self._new:
                    self._running.discard(_KEEPER)
                    self._turn.notify_all()
                    return
                notice, kept = self._new.popleft()
            self._keep(notice)
            kept.set()
            with self._turn:
                self._send_out()

    def _list_channels(self, notice: Notice) -> list[str]:
        names = [worker.name for worker in self._workers]
        return [name for name in names if name in self._updates] if notice.kind is NoticeKind.UPDATE else names

    def _keep(self, notice: Notice) -> None:
        channels, now = self._list_channels(notice), self._clock.now()
        try:
            self._outbox.keep(notice, channels, now)
        except OutboxUnavailable as error:
            self._keep_here(notice, channels, now, str(error))
        except Exception as error:  # noqa: BLE001 - what ended this thread would end every later notice with it
            self._keep_here(notice, channels, now, f"the outbox cannot be used ({type(error).__name__})")

    def _keep_here(self, notice: Notice, channels: Sequence[str], now: float, why: str) -> None:
        """Keep a notice in memory, and what that means for `flush` to tell."""
        self._problem = f"{why}; notices are sent, but lost if that fails before this command ends"
        try:
            self._spare.keep(notice, channels, now)
        except Exception as error:  # noqa: BLE001 - the same
            self._problem = f"a notice is lost, it can be kept nowhere ({type(error).__name__})"

    def _deliver(self, worker: DeliveryWorker) -> None:
        """Deliver through one channel until nothing waits for it."""
        while True:
            with self._turn:
                self._fresh.discard(worker.name)
                self._look_at[worker.name] = _NOW
            look_at = worker.deliver()
            with self._turn:
                if worker.name in self._fresh:
                    continue
                self._look_at[worker.name] = look_at
                self._turn.notify_all()
                if look_at == _NEVER:
                    self._running.discard(worker.name)
                    return
                left_s = max(0.0, look_at - self._clock.now())
                self._turn.wait_for(lambda: worker.name in self._fresh, min(left_s, 3600.0))

    def _is_busy(self, until: float) -> bool:
        sending = (self._look_at[worker.name] <= until for worker in self._workers if worker.name in self._running)
        return _KEEPER in self._running or any(sending)

    def _delivery(self) -> Delivery:
        counts: dict[QueueState, int] = {}
        problem = self._problem
        for outbox in (self._outbox, self._spare):
            try:
                for state, count in outbox.counts().items():
                    counts[state] = counts.get(state, 0) + count
            except OutboxUnavailable as error:
                problem = problem or str(error)
        problems = [problem, *(worker.problem for worker in self._workers)]
        return Delivery(
            delivered=counts.get(QueueState.DELIVERED, 0),
            waiting=counts.get(QueueState.WAITING, 0),
            given_up=counts.get(QueueState.GIVEN_UP, 0),
            problems=tuple(each for each in problems if each),
        )


def _mask(notice: Notice, redact: Callable[[str], str]) -> Notice:
    """Return a notice without secrets, and without what no file, no mail and no JSON can hold: half a character."""

    def clean(text: str) -> str:
        return redact(text).encode("utf-8", "backslashreplace").decode("utf-8")

    return replace(
        notice,
        environment=clean(notice.environment),
        title=clean(notice.title),
        text=clean(notice.text),
        key=clean(notice.key),
        run=clean(notice.run),
        next=tuple(map(clean, notice.next)),
        facts={clean(name): clean(str(value)) for name, value in notice.facts.items()},
    )
