"""Decode bytes and texts from outside; the rule: whatever comes in, a value comes out, or `Undecodable`.

Nothing here raises anything else: no RecursionError of a text that is nested 100,000 deep, no ValueError of a number
of 5,000 digits, no OverflowError of a year of 20 digits. A test forbids the libraries' decoders everywhere else. Pure.
"""

from __future__ import annotations

import math
import re
from _thread import RLock  # all that is needed of `threading`, as functools has it
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

import msgspec

from backout.bounds import EARLIEST, LATEST
from backout.errors import ProviderUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

MOST_BYTES: Final = 64 * 1024 * 1024
MOST_DEEP: Final = 100
"""Deeper nesting would break whatever walks through the value afterwards: printing, masking, recording it."""
MOST_WHOLE: Final = 2**64 - 1
UNDECODABLE: Final = (msgspec.MsgspecError, ValueError, RecursionError, OverflowError)
"""What the libraries' decoders raise. For hot loops with a decoder of their own; all else uses the functions below."""

# Texts, so that each is compiled on first use: a command that gets no odd answer needs none of them.
_EXPECTED: Final = r"Expected `[^`]{1,60}`, got `[^`]{1,60}`|Object missing required field `[^`]{1,60}`"
_LONG: Final = re.compile(rb"\d{19,}")
_NO_BRACKET: Final = bytes(set(range(256)) - set(b'[]{}"'))
_QUOTED: Final = rb'"[^"]*"'
_LONG_TEXT: Final = re.compile(r"\d{19,}")
_TEXT: Final = rb'(?s)"(?:[^"\\]++|\\.?)*+"?'
"""A string, also one without an end: whatever begins as one is passed over at once, so that the time stays linear."""
_PARTS: Final = _TEXT + rb"|[\[\]{}]|[+-]?\d[\d.eE+-]*+"
_SURROGATE: Final = rb"\\u[dD][89a-fA-F]"
_ESCAPES: Final = (
    rb"(?s)\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\(u[dD][89a-fA-F][0-9a-fA-F]{2})|\\."
)
"""A pair of surrogates, one alone (the group), or any other escape."""
_MOST_BRACKETS: Final = 1_000_000
_LONG_WHOLE: Final = rb"(?<![\d.eE+])(?<![eE]-)(\d{19,})(?![\d.eE])"
_WHOLE: Final = r"[+-]?[0-9]{1,20}"
_LONGEST_DATE: Final = 64
_PREPARED: Final[set[Any]] = {object}
_PREPARING: Final = RLock()


Text = bytes | bytearray | str | msgspec.Raw


class Undecodable(ProviderUnavailable):
    """A value from outside is not what it has to be; `what` says why, and never quotes it."""


def prepare(type: Any) -> None:
    """Have msgspec read a type's annotations once, alone: two threads that do it at once end the process (0.22).

    To be called before a decoder of msgspec's is used anywhere else; the functions below do.
    """
    if type not in _PREPARED:
        with _PREPARING:
            msgspec.json.Decoder(type)
            _PREPARED.add(type)


def make_decoder(type: type[T]) -> msgspec.json.Decoder[T]:
    """Return a decoder for a hot loop, which catches `UNDECODABLE` itself."""
    prepare(type)
    return msgspec.json.Decoder(type)


def decode_raw(raw: Text, type: type[T]) -> T:
    """Return a JSON text of ours as a value of a type. Raises what msgspec does, for those who handle that."""
    prepare(type)
    return msgspec.json.decode(raw, type=type)


def decode_packed(raw: bytes, type: type[T]) -> T:
    """Return a MessagePack record of ours as a value of a type. Raises what msgspec does."""
    prepare(type)
    return msgspec.msgpack.decode(raw, type=type)


def convert(value: object, type: type[T], dec_hook: Callable[[Any, Any], Any] | None = None) -> T:
    """Return plain values as a value of a type. Raises what msgspec does, for those who explain its errors.

    Args:
        dec_hook: see `msgspec.convert`.
    """
    prepare(type)
    return msgspec.convert(value, type, dec_hook=dec_hook)


@overload
def decode_json(raw: Text, *, what: str = ..., where: str | None = ...) -> object: ...
@overload
def decode_json(
    raw: Text,
    type: type[T],
    *,
    what: str = ...,
    where: str | None = ...,
) -> T: ...
def decode_json(
    raw: Text,
    type: Any = object,
    *,
    what: str = "the text",
    where: str | None = None,
) -> Any:
    """Return a JSON text as a value of a type, or as plain values if none is given.

    Args:
        what: names the text in the error: "the answer".
        where: its source, without secrets.

    Raises:
        Undecodable: it is not JSON, has another shape, holds a number that no counter has, or is too long or too deep.

    >>> decode_json(b'{"a": [1]}')
    {'a': [1]}
    """
    try:
        content = raw.encode() if isinstance(raw, str) else bytes(raw)
        if len(content) > MOST_BYTES:
            raise Undecodable(f"{what} is longer than {MOST_BYTES >> 20} MiB", where=where)
        if _LONG.search(content) and _has_huge_number(content):
            raise Undecodable(f"{what} holds a number that is too large", where=where)
        if is_nested_too_deep(content):
            raise Undecodable(f"{what} is nested too deeply", where=where)
        prepare(type)
        return msgspec.json.decode(content, type=type)
    except UNDECODABLE as error:
        raise Undecodable(f"{what} {explain_error(error)}", where=where) from None


@overload
def decode_lossily(raw: Text, *, what: str = ..., where: str | None = ...) -> object: ...
@overload
def decode_lossily(
    raw: Text,
    type: type[T],
    *,
    what: str = ...,
    where: str | None = ...,
) -> T: ...
def decode_lossily(raw: Text, type: Any = object, *, what: str = "the text", where: str | None = None) -> Any:
    """Return the same as `decode_json`, but nothing that a visitor can have written in it makes it undecodable.

    For texts in which the words of strangers stand beside what is needed: `make_readable` says what is lost of them.

    Raises:
        Undecodable: it is not JSON, or what is needed of it has another shape.

    >>> decode_lossily(b'{"a": [1], "b": 100000000000000000000}')
    {'a': [1], 'b': None}
    """
    try:
        return decode_json(raw, type, what=what, where=where)
    except Undecodable:
        return decode_json(make_readable(raw), type, what=what, where=where)


def make_readable(raw: Text) -> bytes:
    r"""Return a JSON text without what no value can hold.

    A lone surrogate, as JavaScript writes it, becomes U+FFFD; a whole number that is too large, and whatever is nested
    too deep, null.

    >>> make_readable('["\\ud800", "\\\\ud800", 100000000000000000000, 1.5]').decode()
    '["\\ufffd", "\\\\ud800", null, 1.5]'
    """
    content = raw.encode("utf-8", "replace") if isinstance(raw, str) else bytes(raw)
    if len(content) > MOST_BYTES:
        return content
    if re.search(_SURROGATE, content):
        content = re.sub(_ESCAPES, lambda found: rb"\ufffd" if found[1] else found[0], content)
    deep = MOST_DEEP < content.count(b"[") + content.count(b"{") <= _MOST_BRACKETS
    return _drop_unusable(content) if deep or _LONG.search(content) else content


def _drop_unusable(content: bytes) -> bytes:
    """Return a JSON text with null in place of huge whole numbers, and of what is nested too deep."""
    kept: list[bytes] = []
    depth = begin = 0
    for found in re.finditer(_PARTS, content):
        sign = found[0][:1]
        if sign in b"[{":
            depth += 1
            if depth == MOST_DEEP:
                kept += (content[begin : found.start()], b"null")
        elif sign in b"]}":
            depth -= 1
            if depth == MOST_DEEP - 1:
                begin = found.end()
        elif sign != b'"' and depth < MOST_DEEP and _has_huge_number(found[0]):
            kept += (content[begin : found.start()], b"null")
            begin = found.end()
    return b"".join((*kept, content[begin:] if depth < MOST_DEEP else b""))


def is_nested_too_deep(text: bytes | str) -> bool:
    """Whether brackets of a JSON text are nested too deep to walk through, also those that nothing closes.

    To be asked before a decoder is: one that runs into the limit of recursion may take with it whatever the collector
    of garbage calls meanwhile, a file's close for instance.

    >>> is_nested_too_deep("[" * 5000), is_nested_too_deep('["[[", {}]')
    (True, False)
    """
    if len(text) <= MOST_DEEP:
        return False
    content = text.encode("utf-8", "replace") if isinstance(text, str) else text
    if content.count(b"[") + content.count(b"{") <= MOST_DEEP:
        return False
    brackets = content.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _NO_BRACKET)
    brackets = re.sub(_QUOTED, b"", brackets)
    for _ in range(MOST_DEEP):  # each round removes the innermost ones
        rest = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if len(rest) == len(brackets):  # nothing is left, or they do not pair: then it is no JSON
            return len(rest) > MOST_DEEP
        brackets = rest
    return bool(brackets)


def decode_own(text: str, *, what: str = "the record", where: str | None = None) -> Any:
    """Return a JSON text that `json.dumps` wrote, lone surrogates included. Raises Undecodable as `decode_json`."""
    import json

    try:
        if len(text) > MOST_BYTES:
            raise Undecodable(f"{what} is longer than {MOST_BYTES >> 20} MiB", where=where)
        if is_nested_too_deep(text):
            raise Undecodable(f"{what} is nested too deeply", where=where)
        value = json.loads(text)
        huge = _LONG_TEXT.search(text) is not None and _has_huge_number(text.encode("utf-8", "replace"))
        if huge or _is_too_deep(value):
            raise Undecodable(f"{what} holds values that no record can hold", where=where)
    except (*UNDECODABLE, TypeError) as error:
        raise Undecodable(f"{what} {explain_error(error)}", where=where) from None
    return value


def decode_toml(text: str) -> dict[str, Any]:
    """Return a TOML document. Raises ValueError, as `tomllib` does, whatever is wrong with it."""
    import tomllib

    try:
        document = tomllib.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if _is_too_deep(document):
        raise ValueError("nested too deeply")
    return document


def decode_values(value: object, type: type[T], *, what: str = "the record", where: str | None = None) -> T:
    """Return plain values (of JSON, TOML, a row) as a value of a type. Raises Undecodable as `decode_json`."""
    try:
        prepare(type)
        return msgspec.convert(value, type)
    except UNDECODABLE as error:
        raise Undecodable(f"{what} {explain_error(error)}", where=where) from None


def explain_error(error: Exception) -> str:
    """Return what is wrong for a decoder, as the rest of a sentence; it never quotes the text.

    >>> explain_error(RecursionError())
    'is nested too deeply'
    """
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    if isinstance(error, UnicodeError):
        return "is not UTF-8"
    if isinstance(error, msgspec.ValidationError):
        if "out of range" in str(error):
            return "holds a number that is too large"
        place = re.search(r"`(\$[^`]{0,100})`$", str(error))
        expected = re.match(_EXPECTED, str(error))
        said = expected[0] if expected else "another value"
        return f"does not have the expected shape ({said}{f' at {_make_plain(place[1])}' if place else ''})"
    if isinstance(error, OverflowError):
        return "holds a number that is too large"
    return "is not JSON"


def parse_whole(text: str | bytes, *, least: int = 0, most: int = MOST_WHOLE, what: str = "the number") -> int:
    """Return a whole number written in decimal digits. Raises Undecodable: it is none, or out of bounds.

    >>> parse_whole(" 42 ")
    42
    """
    try:
        written = (text.decode("ascii") if isinstance(text, bytes) else text).strip()
    except UnicodeDecodeError:
        raise Undecodable(f"{what} is not a number") from None
    if not re.fullmatch(_WHOLE, written):
        raise Undecodable(f"{what} is not a usable whole number")
    value = int(written)
    if not least <= value <= most:
        raise Undecodable(f"{what} is not between {least} and {most}")
    return value


def parse_number(text: str, *, what: str = "the number") -> float:
    """Return a finite number. Raises Undecodable: it is none.

    >>> parse_number("1e3")
    1000.0
    """
    try:
        value = float(text)
    except UNDECODABLE:
        raise Undecodable(f"{what} is not a number") from None
    if not math.isfinite(value):
        raise Undecodable(f"{what} is not finite")
    return value


def parse_moment(rfc3339: str, *, what: str = "the time", where: str | None = None) -> float:
    """Return the Unix seconds of a time as APIs write it; without a zone it is taken as UTC.

    Raises:
        Undecodable: it is not a time, or is before 1970 or after 9999.

    >>> parse_moment("1970-01-01T00:01:00.5Z")
    60.5
    """
    try:
        found = datetime.fromisoformat(rfc3339)
        at = (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except UNDECODABLE:
        raise Undecodable(f"{what} cannot be read", where=where) from None
    if not EARLIEST <= at <= LATEST:
        raise Undecodable(f"{what} is out of range", where=where)
    return at


def parse_http_date(header: str) -> float:
    """Return the Unix seconds of a Date, Last-Modified or Retry-After header. Raises Undecodable as `parse_moment`.

    >>> parse_http_date("Thu, 01 Jan 1970 00:00:09 GMT")
    9.0
    """
    import email.utils

    try:
        if len(header) > _LONGEST_DATE:
            raise ValueError
        at = email.utils.parsedate_to_datetime(header).timestamp()
    except (*UNDECODABLE, TypeError, LookupError):
        raise Undecodable("the date cannot be read") from None
    if not EARLIEST <= at <= LATEST:
        raise Undecodable("the date is out of range")
    return at


def _has_huge_number(content: bytes) -> bool:
    """Whether a whole number outside of all strings is larger than any counter; longer fractions do no harm."""
    bare = re.sub(_TEXT, b'""', content)
    return any(len(found[1]) > 20 or int(found[1]) > MOST_WHOLE for found in re.finditer(_LONG_WHOLE, bare))


def _is_too_deep(value: object) -> bool:
    """Whether plain values are nested too deep to walk through; without recursion."""
    level: list[object] = [value]
    for _ in range(MOST_DEEP):
        level = [inner for each in level for inner in _list_inside(each)]
        if not level:
            return False
    return True


def _list_inside(value: object) -> list[object]:
    parts: Any = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [part for part in parts if isinstance(part, dict | list | tuple)]


def _make_plain(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
