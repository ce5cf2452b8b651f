"""The fault registry: what is set is active, what expires is not, and a new process still knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backout.errors import UsageError
from backout.twin.faults import Fault, FaultKind, Faults

if TYPE_CHECKING:
    from pathlib import Path


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_fault_ends_with_its_duration_and_listeners_hear_of_both_ends(tmp_path: Path) -> None:
    """A fault with a duration is active until then; set and expiry each call the listener once."""
    clock = Clock()
    faults = Faults(tmp_path / "faults.json", now=clock)
    heard: list[int] = []
    faults.on_change(lambda: heard.append(len(faults.active())))
    faults.set(Fault(FaultKind.LATENCY, target="fm5", latency_ms=30), duration_s=10)
    assert [f.latency_ms for f in faults.active(FaultKind.LATENCY, "fm5")] == [30]
    assert faults.active(FaultKind.LATENCY, "other") == ()
    clock.now = 1010.0
    assert faults.active() == ()
    assert len(faults.expire()) == 1
    assert faults.expire() == ()
    assert heard == [1, 0]


def test_faults_outlive_the_process_and_are_replaced_per_kind_and_target(tmp_path: Path) -> None:
    """A second registry on the same file sees the same faults; the same kind and target replaces."""
    path = tmp_path / "faults.json"
    faults = Faults(path)
    faults.set(Fault(FaultKind.ERRORS, share=0.5))
    faults.set(Fault(FaultKind.ERRORS, share=0.1))
    faults.set(Fault(FaultKind.ERRORS, target="fm5", share=0.2))
    assert sorted(f.share for f in Faults(path).active()) == [0.1, 0.2]
    cleared = faults.clear(FaultKind.ERRORS, "fm5")
    assert [f.share for f in cleared] == [0.2]
    assert [f.share for f in Faults(path).active()] == [0.1]
    faults.clear()
    assert Faults(path).active() == ()


@pytest.mark.parametrize(
    ("fault", "duration_s"),
    [
        (Fault(FaultKind.SERVICE_DOWN, target="moon"), None),
        (Fault(FaultKind.ERRORS, share=0.0), None),
        (Fault(FaultKind.ERRORS, status=404), None),
        (Fault(FaultKind.API_SLOW, latency_ms=-1), None),
        (Fault(FaultKind.API_DOWN), 0.0),
    ],
)
def test_nonsense_is_refused(tmp_path: Path, fault: Fault, duration_s: float | None) -> None:
    """A figure out of range or an unknown service is a usage error and changes nothing."""
    faults = Faults(tmp_path / "faults.json")
    with pytest.raises(UsageError):
        faults.set(fault, duration_s=duration_s)
    assert faults.active() == ()
