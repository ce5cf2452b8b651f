"""The machine's own clock, and the same clock corrected by the provider's answers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from backout.decoding import Undecodable, parse_moment
from backout.model.clock import TOLERANCE_S, is_off

if TYPE_CHECKING:
    from backout.ports import Clock, ProviderClock


class SystemClock:
    """Port Clock on the machine."""

    def now(self) -> float:
        """Return Unix seconds UTC."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Return after that many seconds."""
        time.sleep(max(0.0, seconds))


class CorrectedClock:
    """Port Clock in the provider's time: deployments, counts and deadlines are compared in one time (safety rule 3).

    Within the tolerance the machine's clock is taken as it is. Beyond it the measured offset is added, and kept until
    a measurement differs from it by more than the tolerance, so that time does not jitter with the measurements.
    """

    def __init__(self, inner: Clock, provider: ProviderClock) -> None:
        self._inner = inner
        self._provider = provider
        self._correction_s = 0.0

    def now(self) -> float:
        """Return Unix seconds UTC; before the provider's first answer those of the machine."""
        offset_s = self._provider.offset_s()
        if offset_s is not None and abs(offset_s - self._correction_s) > TOLERANCE_S:
            self._correction_s = offset_s if is_off(offset_s) else 0.0
        return self._inner.now() + self._correction_s

    def sleep(self, seconds: float) -> None:
        """Return after that many seconds."""
        self._inner.sleep(seconds)


def parse_unix_s(rfc3339: str) -> float:
    """Return the Unix seconds of an API time; 0.0 when it cannot be read.

    >>> parse_unix_s("1970-01-01T00:01:00.5Z")
    60.5
    """
    try:
        return parse_moment(rfc3339)
    except Undecodable:
        return 0.0
