"""SQLite's own error messages, as far as they may be shown.

Some of them quote content of the file: the schema, a text that is not UTF-8. That may be anyone's, may be secret, and
no terminal should obey it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import sqlite3

_OWN: Final = re.compile(r"[A-Za-z0-9 /:,-]{1,80}")


def quote_in_brackets(error: sqlite3.Error) -> str:
    """Return ` (what it says)`, "" where that may quote the file."""
    return f" ({error})" if _OWN.fullmatch(str(error)) else ""
