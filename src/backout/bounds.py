"""Limits for values from outside."""

from __future__ import annotations

from typing import Final

EARLIEST: Final = 0.0
LATEST: Final = 253_402_300_799.0
"""Unix seconds of the times that are accepted, 1970 to 9999: others cannot be written as a date."""
