"""What SQLite says of an error, as far as it may be shown.

Some of its messages quote what lies in the file: the schema, a text that is no UTF-8. That is anybody's, may be secret,
and no terminal should obey it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import sqlite3

_OWN: Final = re.compile(r"[A-Za-z0-9 /:,-]{1,80}")


def in_brackets(error: sqlite3.Error) -> str:
    """Return ` (what it says)`, "" where that may quote the file."""
    return f" ({error})" if _OWN.fullmatch(str(error)) else ""
