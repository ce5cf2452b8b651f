"""Ctrl-C and SIGTERM as a request; the rule: the first asks to stop at the next step boundary, the second stops now."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


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
