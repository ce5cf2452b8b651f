r"""Names and values out of a .env file or a JSON object; no error ever quotes a value.

The dialect of .env is what dotenv of npm, wrangler and docker compose agree on: `NAME=value`, an optional `export`,
comments on lines of their own or after white space, single quotes as they are, double quotes with \n, \r, \t, \" and
\\, values in quotes over several lines. Nothing is expanded: `$` stays `$`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from backout.decoding import Undecodable, decode_json
from backout.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BYTES: Final = 1024 * 1024
_LINE: Final = re.compile(r"[ \t]*(?:export[ \t]+)?(?P<name>[^\s=#'\"]+)[ \t]*=[ \t]*")
_BLANK: Final = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")
_QUOTED: Final = {
    "'": re.compile(r"'([^']*)'"),
    '"': re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL),
    "`": re.compile(r"`([^`]*)`"),
}
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t"}
_REST: Final = re.compile(r"[^\n]*")
_COMMENT: Final = re.compile(r"(?:^|\s)#.*")


def parse(data: bytes, where: str) -> dict[str, str]:
    """Return the values of a JSON object or of a .env file, distinguished by the first character.

    Raises:
        UsageError: it is neither, no UTF-8, or larger than MAX_BYTES; with the line.
    """
    if len(data) > MAX_BYTES:
        raise UsageError("it is larger than 1 MiB", where=where)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError("it is not UTF-8", where=f"{where}:{data[: error.start].count(10) + 1}") from None
    return (
        _parse_json(text, where)
        if text.lstrip().startswith("{")
        else dict(_parse_pairs(text.replace("\r\n", "\n"), where))
    )


def _parse_json(text: str, where: str) -> dict[str, str]:
    try:
        found = decode_json(text, dict[str, object])
    except Undecodable:
        raise UsageError("it is not JSON", where=where, hint='{"NAME": "value"}, or lines NAME=value') from None
    values: dict[str, str] = {}
    for name, value in found.items():
        # `sops` keeps a part about itself in its files; a decrypted one has none, so any nesting is a mistake.
        if not isinstance(value, str):
            what = f"{name} is not a string: each name needs one"
            raise UsageError(what, where=where, hint='{"NAME": "value"}')
        values[name] = value
    return values


def _parse_pairs(text: str, where: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(text):
        blank = _BLANK.match(text, at)
        if blank is not None:
            at = blank.end()
            continue
        line = text.count("\n", 0, at) + 1
        named = _LINE.match(text, at)
        if named is None:
            raise UsageError("a line that is neither NAME=value nor a comment", where=f"{where}:{line}")
        value, at = _parse_value(text, named.end(), f"{where}:{line}", named["name"])
        yield named["name"], value


def _parse_value(text: str, at: int, where: str, name: str) -> tuple[str, int]:
    quote = text[at : at + 1]
    if quote in _QUOTED:
        found = _QUOTED[quote].match(text, at)
        if found is None:
            raise UsageError(f"the quotes around the value of {name} are not closed", where=where)
        rest = _BLANK.match(text, found.end())
        if rest is None:
            raise UsageError(f"something follows the closing quote of {name}", where=where)
        value = found[1]
        if quote == '"':
            value = re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), value, flags=re.DOTALL)
        return value, rest.end()
    plain = _REST.match(text, at)
    assert plain is not None
    return _COMMENT.sub("", plain[0]).strip(), plain.end() + 1
