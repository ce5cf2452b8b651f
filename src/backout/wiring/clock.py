"""The clock of commands without an environment's tools."""

from __future__ import annotations

from backout.providers.clock import SystemClock


def now() -> float:
    """Return the time in Unix seconds."""
    return SystemClock().now()
