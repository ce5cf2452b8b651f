"""One bag of what comes from outside on the worst day: bytes, JSON, answers of HTTP, lines of logs, rows of a database.

Every edge of the program is driven with all of it (`tests/safety/test_edges.py`): a value comes out, or the edge's own
error; never anything else, in bounded time.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

DEEP = 100_000
DIGITS = "9" * 5000
YEAR = "9" * 20


@dataclass(frozen=True)
class Nasty:
    """One thing with its name."""

    name: str
    content: bytes

    def __str__(self) -> str:
        """Return the name, for ids."""
        return self.name


BYTES = (
    Nasty("nothing", b""),
    Nasty("zero bytes", b"\0" * 1000),
    Nasty("no UTF-8", b"\xff\xfe\x80\x81" * 50),
    Nasty("half a character", b'{"status":"ok\xe2\x82'),
    Nasty("a lone surrogate", b'{"status":"\xed\xa0\x80"}'),
    Nasty("HTML", b"<html><body>Just a moment...</body></html>"),
    Nasty("a byte order mark", b"\xef\xbb\xbf{}"),
    Nasty("gzip", b"\x1f\x8b\x08\x00" + b"\0" * 40),
    Nasty("a long line", b"x" * 300_000),
)

JSON = (
    Nasty("lists nested 100,000 deep", b"[" * DEEP + b"]" * DEEP),
    Nasty("lists that never end", b"[" * DEEP),
    Nasty("objects nested 100,000 deep", b'{"a":' * DEEP + b"1" + b"}" * DEEP),
    Nasty("lists nested 900 deep", b"[" * 900 + b"]" * 900),
    Nasty("a number of 5,000 digits", DIGITS.encode()),
    Nasty("a number of 30 digits", b"9" * 30),
    Nasty("a negative number of 30 digits", b"-" + b"9" * 30),
    Nasty("a number beyond all floats", b"1e999"),
    Nasty("a float of 400 digits", b"9" * 400 + b".5"),
    Nasty("not a number", b"NaN"),
    Nasty("infinity", b"-Infinity"),
    Nasty("null", b"null"),
    Nasty("an escaped surrogate", b'"\\ud800"'),
    Nasty("an escaped zero", b'"\\u0000"'),
    Nasty("the same name twice", b'{"a":1,"a":{"a":2}}'),
    Nasty("a cut object", b'{"success": true, "result": {"dep'),
    Nasty("a true where anything else belongs", b"true"),
)
"""Values; `filled` puts them at each place of a shape that an edge knows."""

LATE = ("9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", f"{YEAR}-01-01T00:00:00Z", "2026-02-30T25:61:61Z")
NUMBERS = (10**30, -(10**30), 10**18, -1, 1e308, -1e308, 2**63, 2**64, 5e-324)
ODD: tuple[Any, ...] = (
    *LATE, *NUMBERS, None, True, "", "\0", "\u202e\u2066", DIGITS, "9" * 40, "NaN", "infinity", [], {}, [[]], {"": {}},
)  # fmt: skip


def filled(shape: Any, *, whole: bool = False) -> list[Nasty]:
    """Return a shape that an edge knows, with something odd at each of its places, one at a time.

    Args:
        whole: everything at each place; otherwise four things at each, other ones at the next.
    """
    odd = [json.dumps(each).encode() for each in ODD] + [nasty.content for nasty in JSON[:7]]
    found = []
    for number, place in enumerate(_places(shape)):
        mine = odd if whole else [odd[(4 * number + k) % len(odd)] for k in range(4)]
        for content in mine:
            text = json.dumps(_with(shape, place, "@@")).encode().replace(b'"@@"', content)
            found.append(Nasty(f"{'.'.join(map(str, place))} = {content[:20].decode()}", text))
    return found


def _places(shape: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = shape.items() if isinstance(shape, dict) else enumerate(shape) if isinstance(shape, list) else ()
    here = [before] if before else []
    return here + [place for key, value in inner for place in _places(value, (*before, key))]


def _with(shape: Any, place: tuple[Any, ...], value: object) -> Any:
    if not place:
        return value
    key, *rest = place
    if isinstance(shape, dict):
        return {k: _with(v, tuple(rest), value) if k == key else v for k, v in shape.items()}
    return [_with(v, tuple(rest), value) if k == key else v for k, v in enumerate(shape)]


def body(content: bytes, *headers: bytes, status: int = 200) -> bytes:
    """Return a whole answer of HTTP with this body."""
    lines = b"".join(header + b"\r\n" for header in headers)
    return b"HTTP/1.1 %d X\r\n%sContent-Length: %d\r\n\r\n" % (status, lines, len(content)) + content


def _line(rest: bytes, *, ts: bytes = b"1800000000", version: bytes = b"v") -> bytes:
    return b'{"ts": %s, "version": "%s", "outcome": "ok", %s}' % (ts, version, rest)


HEADERS = (
    Nasty("a Date with a year of 20 digits", f"Date: Mon, 01 Jan {YEAR} 00:00:00 GMT".encode()),
    Nasty("a Date of the year 1", b"Date: Mon, 01 Jan 0001 00:00:00 GMT"),
    Nasty("a Date of the year 9999", b"Date: Fri, 31 Dec 9999 23:59:59 -2359"),
    Nasty("a Date of words", b"Date: 99 Foo 9999999 99:99:99"),
    Nasty("a zone of 20 digits", f"Date: Mon, 01 Jan 2026 00:00:00 +{YEAR}".encode()),
    Nasty("a Retry-After with a year of 20 digits", f"Retry-After: Mon, 01 Jan {YEAR} 00:00:00 GMT".encode()),
    Nasty("a Retry-After of 5,000 digits", f"Retry-After: {DIGITS}".encode()),
    Nasty("a negative Retry-After", b"Retry-After: -1"),
    Nasty("a Retry-After in Arabic digits", "Retry-After: ٣٣٣".encode()),
    Nasty("a Last-Modified with a year of 20 digits", f"Last-Modified: Mon, 01 Jan {YEAR} 00:00:00 GMT".encode()),
    Nasty("a Content-Range of 5,000 digits", f"Content-Range: bytes 0-1/{DIGITS}".encode()),
    Nasty("a header that is not ASCII", b"X: \xff\xfe"),
    Nasty("a header of 60,000 characters", b"X: " + b"x" * 60_000),
)

ANSWERS = (
    Nasty("a negative length", b"HTTP/1.1 200 X\r\nContent-Length: -5\r\n\r\nhello"),
    Nasty("a length of 5,000 digits", b"HTTP/1.1 200 X\r\nContent-Length: " + DIGITS.encode() + b"\r\n\r\nhello"),
    Nasty("a length of 19 digits", b"HTTP/1.1 200 X\r\nContent-Length: 9223372036854775807\r\n\r\nhello"),
    Nasty("a length in words", b"HTTP/1.1 200 X\r\nContent-Length: five\r\n\r\nhello"),
    Nasty("two lengths", b"HTTP/1.1 200 X\r\nContent-Length: 2\r\nContent-Length: 200\r\n\r\n{}"),
    Nasty("a length that is too long", b"HTTP/1.1 200 X\r\nContent-Length: 500\r\n\r\n{}"),
    Nasty("a length and chunks", b"HTTP/1.1 200 X\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}"),
    Nasty("a negative chunk", b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n" + b"x" * 50_000),
    Nasty("a huge chunk", b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nhello"),
    Nasty("a chunk in words", b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\nfive\r\nhello"),
    Nasty("a status of 5,000 digits", b"HTTP/1.1 " + DIGITS.encode() + b" X\r\n\r\n"),
    Nasty("a negative status", b"HTTP/1.1 -200 X\r\n\r\n"),
    Nasty("no status", b"HTTP/1.1\r\n\r\n"),
    Nasty("no HTTP", b"\0\0\0\0\r\n\r\n"),
    Nasty("nothing but continue", b"HTTP/1.1 100 Continue\r\n\r\n" * 50),
    Nasty("two hundred headers", b"HTTP/1.1 200 X\r\n" + b"A: b\r\n" * 200 + b"\r\n"),
    Nasty("a redirect to nowhere", b"HTTP/1.1 302 X\r\nLocation: http://[::1\r\nContent-Length: 0\r\n\r\n"),
)

LINES = (
    Nasty("a status of 5,000 digits", _line(b'"status": "' + DIGITS.encode() + b'"')),
    Nasty("a bare status of 5,000 digits", _line(b'"status": ' + DIGITS.encode())),
    Nasty("a status of 30 digits", _line(b'"status": ' + b"9" * 30)),
    Nasty("a time of 30 digits", _line(b'"status": 200', ts=b"9" * 30)),
    Nasty("a time beyond all calendars", _line(b'"status": 200', ts=b"1e308")),
    Nasty("a time of the year 1", _line(b'"status": 200', ts=b'"0001-01-01T00:00:00+23:59"')),
    Nasty("a time of the year 9999", _line(b'"status": 200', ts=b'"9999-12-31T23:59:59-23:59"')),
    Nasty("a latency beyond all clocks", _line(b'"status": 200, "latency_ms": 1e308')),
    Nasty("a latency of 400 digits", _line(b'"status": 200, "latency_ms": ' + b"9" * 400)),
    Nasty("a version of a megabyte", _line(b'"status": 200', version=b"v" * 1_000_000)),
    Nasty("a route nested 100,000 deep", _line(b'"status": 200, "route": ' + b"[" * DEEP + b"]" * DEEP)),
    Nasty("a message nested 900 deep", _line(b'"level": "error", "msg": ' + b"[" * 900 + b"]" * 900)),
    Nasty("a plain number", DIGITS.encode()),
    Nasty("an entry of an access log", f'::1 - - [01/Jan/{YEAR}:00:00:00 +0000] "GET / HTTP/1.1" {DIGITS} 1'.encode()),
)

ROWS: tuple[tuple[str, object], ...] = (
    ("text where a number belongs", "abc"),
    ("bytes", b"\xff\x00\xfe"),
    ("a negative number", -5),
    ("the largest number", 2**63 - 1),
    ("a huge float", 1e308),
    ("infinity", float("inf")),
    ("empty text", ""),
    ("text of 5,000 digits", DIGITS),
    ("JSON nested 100,000 deep", "[" * DEEP + "]" * DEEP),
    ("objects nested 100,000 deep", '{"a":' * DEEP + "1" + "}" * DEEP),
    ("JSON nested 900 deep", "[" * 900 + "]" * 900),
    ("JSON with a number of 5,000 digits", '{"at": ' + DIGITS + "}"),
    ("JSON of another shape", '{"a": [null, {"b": 1e308}]}'),
    ("a list", "[1, 2]"),
    ("a number in JSON", "7"),
    ("cut JSON", '{"plan": {"ste'),
    ("null in JSON", "null"),
)
"""Values of a column, whatever its type is said to be; SQLite takes each of them."""
