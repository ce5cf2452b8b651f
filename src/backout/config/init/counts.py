"""The line of backout.toml that has Workers Logs count the answers: in force, or a comment that says what it needs."""

from __future__ import annotations

import re
from typing import Final

from backout.config.toml_text import format_key

_LINE: Final = 'traffic = { provider = "telemetry" }'
PERMISSION: Final = "Workers Observability Write"
SETTING: Final = '"observability": { "enabled": true, "head_sampling_rate": 1 }'
_ON: Final = f"{_LINE} # Workers Logs count every answer; the token needs {PERMISSION}"
_OFF: Final = f"# {_LINE} # once wrangler's file has {SETTING}, and is deployed"


def format_line(*, keeps_all: bool) -> str:
    """Return the line; `keeps_all`: Workers Logs keep every invocation.

    >>> format_line(keeps_all=False).startswith('# traffic = { provider = "telemetry" } # once')
    True
    """
    return _ON if keeps_all else _OFF


def set_line(text: str, environment: str, *, keeps_all: bool) -> str:
    r"""Return the text of a first backout.toml with the line of one environment as it has to be; others stay.

    >>> set_line(f"[environments.a]\n{_OFF}\n[environments.b]\n{_OFF}\n", "a", keeps_all=True).count(_OFF)
    1
    """
    head = f"[environments.{format_key(environment)}]\n"
    before, found, rest = text.partition(head)
    table, mark, after = re.split(r"(\n(?=\[)|$)", rest, maxsplit=1) if found else ("", "", "")
    table = table.replace(_ON, _OFF).replace(_OFF, format_line(keeps_all=keeps_all))
    return f"{before}{found}{table}{mark}{after}"
