"""Ctrl-C and SIGTERM as a request; the rule: the first asks to stop at the next step boundary, the second stops now."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_ENDS: Final = (signal.SIGTERM, signal.SIGHUP)


class StopRequest:
    """Whether a stop was requested; `message` is called once, from the signal handler, at the first request."""

    def __init__(self, message: Callable[[], None] | None = None) -> None:
        self.requested = False
        self._message = message
        self._before: list[tuple[signal.Signals, object]] = []

    def request(self) -> None:
        """Ask to stop at the next boundary, as the first signal does."""
        self.requested = True

    def install(self) -> None:
        """Take SIGINT and SIGTERM (main thread only)."""
        if not self._before:
            self._before = [(number, signal.signal(number, self._on_signal)) for number in _SIGNALS]

    def restore(self) -> None:
        """Restore the previous signal handlers."""
        for number, handler in self._before:
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal returned, it takes
        self._before = []

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self.requested:
            self.restore()
            raise KeyboardInterrupt
        self.requested = True
        if self._message is not None:
            self._message()


class ThreadStop(StopRequest):
    """A stop that another thread asks for; a thread that waits for `event` is woken by it."""

    def __init__(self) -> None:
        super().__init__()
        self.event = threading.Event()

    def request(self) -> None:
        """Ask to stop at the next boundary."""
        super().request()
        self.event.set()

    def clear(self) -> None:
        """Take back the request: the next turn begins."""
        self.requested = False
        self.event.clear()

    def install(self) -> None:
        """Take no signal: they are the main thread's."""

    def restore(self) -> None:
        """Restore none."""


class InterruptLatch:
    """Ctrl-C that is not lost; use it as a context (main thread only).

    It raises KeyboardInterrupt at once, as ever. Where that comes in the middle of a lock, another exception can take
    its place, or nothing at all: whoever goes on in spite of it asks by `check`. A SIGINT that is ignored stays so.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: object = None

    def __enter__(self) -> Self:
        """Take SIGINT."""
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore the previous handler."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)  # type: ignore[arg-type]  # as in StopRequest
        self._before = None

    def check(self) -> None:
        """Raise KeyboardInterrupt where there was a Ctrl-C."""
        if self.requested:
            raise KeyboardInterrupt

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True
        raise KeyboardInterrupt


class EndSignals:
    """SIGTERM and SIGHUP as Ctrl-C, for what has something to put back; use it as a context (main thread only).

    They raise KeyboardInterrupt until `hold_off` is called: what is put back then is not interrupted by them.
    A SIGHUP that is ignored (nohup) stays ignored.
    """

    def __init__(self) -> None:
        self._is_ending = False
        self._before: list[tuple[signal.Signals, object]] = []

    def __enter__(self) -> Self:
        """Take them."""
        taken = [each for each in _ENDS if signal.getsignal(each) is not signal.SIG_IGN]
        self._before = [(number, signal.signal(number, self._on_signal)) for number in taken]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore the previous signal handlers."""
        for number, handler in self._before:
            signal.signal(number, handler)  # type: ignore[arg-type]  # as in StopRequest
        self._before = []

    def hold_off(self) -> None:
        """Let none of them interrupt any more."""
        self._is_ending = True

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if not self._is_ending:
            raise KeyboardInterrupt
