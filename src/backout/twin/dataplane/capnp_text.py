"""Text of a Cap'n Proto configuration; pure."""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def quote(text: str) -> str:
    r"""Return a Cap'n Proto string literal.

    >>> quote('a "b" \\ \n')
    '"a \\"b\\" \\\\ \\x0a"'
    """
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", escaped) + '"'
