"""Eight-byte numbers as text: hashes of rows and of their keys, for files and other processes."""

from __future__ import annotations

import base64
from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def pack_numbers(numbers: Iterable[int]) -> str:
    """Return numbers (signed, 64 bits) as text."""
    return base64.b64encode(array("q", numbers).tobytes()).decode("ascii")


def unpack_numbers(text: str) -> array[int]:
    """Return them from that text.

    >>> list(unpack_numbers(pack_numbers([1, -2])))
    [1, -2]
    """
    return array("q", base64.b64decode(text))
