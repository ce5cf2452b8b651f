"""The stop request and the signals behind it."""

from __future__ import annotations

import signal

import pytest

from backout.journal.stop import EndSignals, InterruptLatch, StopRequest


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


def test_a_lost_interrupt_is_found_again() -> None:
    """It is raised at once, as without; where something took its place, `check` raises it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with InterruptLatch() as interrupts:
            interrupts.check()
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                interrupts.check()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with InterruptLatch() as interrupts:
            signal.raise_signal(signal.SIGINT)
            assert not interrupts.requested
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_end_from_outside_interrupts_until_things_are_put_back() -> None:
    """SIGTERM and SIGHUP raise as Ctrl-C does; held off they do nothing, and then they are whose they were."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.SIG_DFL) for number in numbers]  # under nohup one of them is ignored
    try:
        with EndSignals() as ends:
            for number in numbers:
                with pytest.raises(KeyboardInterrupt):
                    signal.raise_signal(number)
            ends.hold_off()
            for number in numbers:
                signal.raise_signal(number)
        assert [signal.getsignal(number) for number in numbers] == [signal.SIG_DFL] * 2
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def test_a_closed_terminal_that_is_ignored_stays_ignored() -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with EndSignals():
            signal.raise_signal(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
