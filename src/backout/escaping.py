"""Text from outside, made harmless for where it goes; each destination has its one function here, and no other.

Whatever an application, a visitor, a colleague's commit or a provider wrote is text: a terminal obeys none of it, a
page makes no link, picture, mention or element of it, a mail gets no header from it. What cannot be seen is named.
"""

from __future__ import annotations

import re

INVISIBLE = (
    r"\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    r"\ufeff\uffa0\ufff0-\uffff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Inside of a character class: what has no shape of its own (fillers, joiners, marks of direction, tags, selectors)."""

_OBEYED = re.compile(
    r"[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]|\x1b(?!\[(?:0|1|2|31|32|33|36)m)"
)
"""What a terminal obeys instead of showing it; our own colours, line ends and tabs are left."""


def printable(text: str) -> str:
    r"""Return text with `?` for whatever would move the cursor, rename the window, hide or turn round what is shown.

    >>> printable("fine\x1b[2J\r\x1b]0;x\x07")
    'fine?[2J??]0;x?'
    """
    return _OBEYED.sub("?", text)
