"""The machine's own clock."""

from __future__ import annotations

import time


class SystemClock:
    """Port Clock on the machine."""

    def now(self) -> float:
        """Return Unix seconds UTC."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Return after that many seconds."""
        time.sleep(max(0.0, seconds))
