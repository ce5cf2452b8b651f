"""The stop request and the signals behind it."""

from __future__ import annotations

import signal

import pytest

from backout.journal.stop import StopRequest


def test_the_first_signal_asks_and_the_second_interrupts() -> None:
    """The message is said once; after the second signal, and after `restore`, the signals are whose they were."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    said: list[bool] = []
    stop = StopRequest(lambda: said.append(True))
    stop.install()
    stop.install()
    try:
        assert not stop.requested
        signal.raise_signal(signal.SIGTERM)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        stop.restore()
    assert said == [True]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_stop_request_needs_no_signals() -> None:
    """A program asks by a call, and nothing is installed."""
    before = signal.getsignal(signal.SIGINT)
    stop = StopRequest()
    stop.request()
    assert stop.requested
    assert signal.getsignal(signal.SIGINT) is before
