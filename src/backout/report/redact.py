"""The one mask for everything that leaves the process: registered values in every spelling, and known shapes."""

from __future__ import annotations

import base64
import json
import re
from urllib.parse import quote, quote_plus, unquote

MASK = "***"
_OBEYED = re.compile(
    r"[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]|\x1b(?!\[(?:0|1|2|31|32|33|36)m)"
)
"""What a terminal obeys instead of showing it; our own colours, line ends and tabs are left."""
_SHORTEST, _SHORTEST_PATH = 6, 16
_URL = re.compile(r"[a-z][a-z0-9+.-]*://([^/?#]*?:(?P<password>[^/?#]+)@)?[^/?#@]*(?P<path>[^#]*)", re.IGNORECASE)
_SHAPES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"), rf"\1 {MASK}"),
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://[^\s:/@'\"]*):[^\s/'\"]+@"), rf"\1:{MASK}@"),
    (
        # Also where the text stands in JSON: a backslash before a quote belongs to it, and a quote may end the text.
        re.compile(
            r"(?i)\b(password|passwd|secret|token|api[_-]?key)=(\\?['\"](?![,:}\]]))?(?!\*\*\*)"
            r"(?:\\\\|\\(?!['\"\\])|[^\s&;,'\"\\])+"
        ),
        rf"\1=\2{MASK}",
    ),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), MASK),
)


class Redactor:
    """Knows the secrets of one process and masks them in text.

    >>> redactor = Redactor()
    >>> redactor.register("s3cr3t value")
    >>> redactor.redact("?k=s3cr3t%20value, Authorization: Bearer abcdefgh1234")
    '?k=***, Authorization: Bearer ***'
    """

    def __init__(self) -> None:
        self._allowed: set[str] = set()
        self._spellings: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def register(self, value: str) -> None:
        """Mask this value from now on, also URL-encoded, in hex, in base64 at any place, in JSON; short ones are not.

        Of a URL, its password and the path of a web address are masked on their own as well.
        """
        if len(value) < _SHORTEST:
            return
        for line in {value, *value.splitlines(), *_parts(value)}:
            if len(line) >= _SHORTEST:
                self._spellings |= _spellings(line)
        longest_first = sorted(self._spellings, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def allow(self, text: str) -> None:
        """Never mask this very text: the twin's own loopback connection string, made up for this run."""
        self._allowed.add(text)

    def redact(self, text: str) -> str:
        """Return the text with every secret in it masked."""
        for allowed in self._allowed:
            if allowed in text:
                return allowed.join(self._masked(part) for part in text.split(allowed))
        return self._masked(text)

    def _masked(self, text: str) -> str:
        if self._pattern:
            text = self._pattern.sub(MASK, text)
        for shape, mask in _SHAPES:
            text = shape.sub(mask, text)
        return text


def _parts(value: str) -> set[str]:
    """Return what is secret in a URL by itself; a password that is an ordinary word of that URL cannot be masked."""
    found = _URL.match(value)
    if found is None:
        return set()
    password, path = found["password"] or "", found["path"] if value.startswith("http") else ""
    parts = {password, unquote(password)} if value.count(password) == 1 else set()
    return parts | ({path} if len(path) >= _SHORTEST_PATH else set())


def printable(text: str) -> str:
    r"""Return text with `?` for whatever would move the cursor, rename the window, hide or turn round what is shown.

    >>> printable("fine\x1b[2J\r\x1b]0;x\x07")
    'fine?[2J??]0;x?'
    """
    return _OBEYED.sub("?", text)


def _spellings(value: str) -> set[str]:
    raw = value.encode()
    found = {value, quote(value, safe=""), quote_plus(value), raw.hex(), raw.hex().upper()}
    found |= {json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
    for lead in range(3):
        # What stands before a value in a base64 text shifts it; only the characters that it alone decides are fixed.
        padded = base64.b64encode(b"\0" * lead + raw)
        start = (lead * 8 + 5) // 6
        certain = padded[start : start + (len(raw) * 8 - (start * 6 - lead * 8)) // 6].decode()
        found |= {certain, certain.replace("+", "-").replace("/", "_")}
    return {spelling for spelling in found if len(spelling) >= _SHORTEST}
