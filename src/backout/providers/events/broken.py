"""Why a line that looks like JSON cannot be read."""

from __future__ import annotations

from typing import Final

BROKEN: Final = "broken JSON"
CUT: Final = "JSON that is cut off"
DEEP: Final = "JSON that is nested too deeply"


def explain_unreadable(line: bytes) -> str:
    """Return which of them it is.

    >>> explain_unreadable(b'{"a": }'), explain_unreadable(b'{"a": 1'), explain_unreadable(b"[[[[")
    ('broken JSON', 'JSON that is cut off', 'JSON that is nested too deeply')
    """
    if line.count(b"[") + line.count(b"{") > len(line) // 2:
        return DEEP
    return BROKEN if line.rstrip().endswith((b"}", b"]")) else CUT
