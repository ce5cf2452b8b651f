"""Every way in which a value comes out of a program: encodings, escapes, layouts; for the tests of the mask."""

from __future__ import annotations

import base64
import html
import json
import re
import textwrap
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Callable


def _mixed(text: str) -> str:
    """Return percent-encoding in both cases: %2b and %2B by turns."""
    number = iter(range(len(text)))
    return re.sub(r"%..", lambda found: found[0].lower() if next(number) % 2 else found[0].upper(), text)


def _json_all(value: str) -> str:
    """Return a value as a JSON encoder writes it that escapes all that is no letter or digit."""
    raw = value.encode("utf-16-be", "surrogatepass").hex()
    units = [int(raw[at : at + 4], 16) for at in range(0, len(raw), 4)]
    return "".join(chr(u) if u < 128 and chr(u).isalnum() else f"\\u{u:04X}" for u in units)


ENCODINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "url": lambda v: quote(v, safe=""),
    "url, small letters": lambda v: quote(v, safe="").lower() if quote(v, safe="") != v and v == v.lower() else v,
    "url, both cases": lambda v: _mixed(quote(v, safe="")),
    "url, every byte": lambda v: "".join(f"%{byte:02x}" for byte in v.encode()),
    "url, twice": lambda v: quote(quote(v, safe=""), safe=""),
    "form": quote_plus,
    "json": lambda v: json.dumps(v)[1:-1],
    "json, as it is": lambda v: json.dumps(v, ensure_ascii=False)[1:-1],
    "json, slashes": lambda v: json.dumps(v)[1:-1].replace("/", "\\/"),
    "json, all": _json_all,
    "json in json": lambda v: json.dumps(json.dumps(v))[1:-1],
    "url in json": lambda v: json.dumps(quote(v, safe="/"))[1:-1].replace("/", "\\/"),
    "python": lambda v: repr(v)[1:-1],
    "python bytes": lambda v: repr(v.encode())[2:-1],
    "html": html.escape,
    "html, numbers": lambda v: "".join(c if c.isalnum() else f"&#{ord(c)};" for c in v),
    "html, hex": lambda v: "".join(c if c.isalnum() else f"&#x{ord(c):X};" for c in v),
    "markdown": lambda v: re.sub(r"([\\`*_\[\]<>|&~$#!(){}.+-])", r"\\\1", v),
    "hex": lambda v: v.encode().hex(),
    "HEX": lambda v: v.encode().hex().upper(),
    "zero width": "\u200b".join,
    "coloured": lambda v: "\x1b[1m".join(v[at : at + 3] for at in range(0, len(v), 3)),
}
BASE64: dict[str, Callable[[bytes], str]] = {
    "base64": lambda raw: base64.b64encode(raw).decode(),
    "base64, url": lambda raw: base64.urlsafe_b64encode(raw).decode().rstrip("="),
    "base64, lines": lambda raw: base64.encodebytes(raw).decode(),
    "base64, in a url": lambda raw: quote(base64.b64encode(raw).decode(), safe=""),
}


def split(text: str, width: int, indent: str) -> str:
    """Return a text over lines of that width, cut wherever it is."""
    return ("\n" + indent).join(text[at : at + width] for at in range(0, len(text), width))


def wrapped(text: str, width: int, indent: str) -> str:
    """Return a text wrapped at its blanks."""
    return "\n".join(textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent)) or text


LAYOUTS: dict[str, Callable[[str, int], str]] = {
    "as it is": lambda text, _: text,
    "split": lambda text, width: split(text, width, ""),
    "split, indented": lambda text, width: split(text, width, "      "),
    "split, quoted": lambda text, width: split(text, width, "> "),
    "split, windows": lambda text, width: split(text, width, "").replace("\n", "\r\n"),
    "wrapped": lambda text, width: wrapped(text, width, "  "),
    "cut": lambda text, width: text[: max(width, 1)] + "…",
}


def shown_of(secret: str, text: str, *, least: int = 8) -> str:
    """Return the longest run of a secret that can be read in a text, "" when none has `least` characters (or half)."""
    least = min(least, max(1, (len(secret) + 1) // 2))
    runs = (
        secret[at : at + size] for size in range(len(secret), least - 1, -1) for at in range(len(secret) - size + 1)
    )
    return next((run for run in runs if run in text), "")
