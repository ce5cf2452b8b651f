"""A setting for backout.toml as an error words it; the command line adapts it to the user's own file.

How a table may be added depends on the file: below a table that is written in one line, a header of its own is a
mistake, and so is a second header of the same name. So such a hint is always generated.
"""

from __future__ import annotations

import json
import re
from typing import Final

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_TEXT: Final = r"\"(?:[^\"\\\n]|\\.)*\""
_VALUES: Final = rf"\{{ (?:[^{{}}\"\n]|{_TEXT}|\{{ (?:[^{{}}\"\n]|{_TEXT})* \}})* \}}"
PATTERN: Final = re.compile(rf"in backout\.toml, \[(?P<table>[^\n]+?)\]: (?P<values>{_VALUES})")
"""Finds a setting in a text."""


def describe_setting(*table: str, **values: object) -> str:
    """Return the words for these keys of a table; values are texts, numbers, truth values, or tables of them.

    >>> describe_setting("environments", "a b", "guard", mode="act")
    'in backout.toml, [environments."a b".guard]: { mode = "act" }'
    """
    return f"in backout.toml, [{'.'.join(map(_format_key, table))}]: {_inline(values)}"


def _inline(values: dict[str, object]) -> str:
    return f"{{ {', '.join(f'{_format_key(name)} = {_format_literal(value)}' for name, value in values.items())} }}"


def _format_literal(value: object) -> str:
    return _inline(value) if isinstance(value, dict) else json.dumps(value)


def _format_key(name: str) -> str:
    return name if _BARE.fullmatch(name) else json.dumps(name)
