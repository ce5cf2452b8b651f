"""Values as TOML writes them."""

from __future__ import annotations

import re

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_EXACT = 2.0**53
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def format_literal(value: object) -> str:
    r"""Return a value in TOML, tables inline.

    >>> format_literal({"url": 'a"b', "of": [1, 0.5, True]})
    '{ url = "a\\"b", of = [1, 0.5, true] }'
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return (
            f"{{ {', '.join(f'{format_key(name)} = {format_literal(item)}' for name, item in value.items())} }}"
            if value
            else "{}"
        )
    if isinstance(value, list | tuple):
        return f"[{', '.join(format_literal(item) for item in value)}]"
    if isinstance(value, str):
        return '"' + "".join(_escape(character) for character in value) + '"'
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return str(int(value))
    return str(value)


def format_key(name: str) -> str:
    """Return a key, quoted if TOML requires that."""
    return name if _BARE_KEY.fullmatch(name) else format_literal(name)


def _escape(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    return character if character.isprintable() else f"\\U{ord(character):08X}"
