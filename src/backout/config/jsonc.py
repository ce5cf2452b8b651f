"""JSON with comments and trailing commas, as in wrangler.jsonc; positions are kept, so an error has its line."""

from __future__ import annotations

import json
import re

from backout.decoding import is_nested_too_deep

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|//[^\n]*|/\*.*?\*/', re.DOTALL)
_TRAILING = re.compile(r'("(?:[^"\\]|\\.)*")|,(?=\s*[}\]])')


def loads(text: str) -> object:
    r"""Return the value.

    Raises:
        ValueError: what is wrong, with `lineno` when it is a json.JSONDecodeError.

    >>> loads('{"a": [1, 2,], // "b"\n "c": "//", /* , */ }')
    {'a': [1, 2], 'c': '//'}
    """
    bare = _TOKEN.sub(
        lambda match: match[0] if match[0][0] == '"' else _blank_out(match[0]), text.removeprefix("\ufeff")
    )
    plain = _TRAILING.sub(lambda match: match[1] or " ", bare)
    if is_nested_too_deep(plain):
        raise ValueError("nested too deeply")
    return json.loads(plain)


def _blank_out(comment: str) -> str:
    return re.sub(r"[^\n]", " ", comment)
