"""Values of secrets that stand out: whatever a test leaves behind must hold none of them, in any spelling.

The suite itself looks (tests/conftest.py): at all captured output, and at every file that a test has left, apart from
folders named `planted` (where tests keep values on purpose) and the twin's own store.
"""

from __future__ import annotations

import base64
import html
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterator

CANARIES = {
    "JWT_SECRET": 'canary+jwt/8f3d"1c77é==',
    "EMAIL_API_KEY": "canary_email_5b20d9e1",
    "NEW_KEY": "canary-new key%41?&=\\b61",
    "PEM": "-----BEGIN CANARY KEY-----\nY2FuYXJ5MTIzNDU2\ncanaryline77aa11\n-----END CANARY KEY-----\n",
}
"""By name: with characters that JSON, URLs, base64 and shells treat in their own ways, and one of several lines."""
STORES = {"planted", "twin"}
"""Folders that are allowed to hold them."""
_STORE = "state.sqlite"
"""The twin's own, also where a test runs its API alone."""
_PASSED_OVER = {"node_modules", "base", "global", "pg_wal", "pg_xact", "blobs", "modules"}
_SEGMENT = re.compile(r"[0-9A-F]{24}(\.partial)?")
"""WAL holds what the database does, which may be a value; megabytes of it lie in each archive."""
_KINDS = {"", ".sqlite", ".sqlite-wal", ".json", ".jsonl", ".md", ".log", ".txt", ".toml", ".html", ".eml", ".ndjson"}
_MAX_BYTES = 16 * 1024 * 1024


def spellings(value: str) -> set[bytes]:
    """Return how a value may be written: as it is, URL-encoded, in JSON, in hex, in base64 at any place."""
    found: set[str] = set()
    for text in {value, *(line for line in value.splitlines() if "canary" in line)}:
        raw = text.encode()
        found |= {text, quote(text), quote(text, safe=""), quote_plus(text), raw.hex(), raw.hex().upper()}
        found |= {json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], text.replace("/", "\\/")}
        found |= {repr(text)[1:-1], text.replace("_", "\\_"), html.escape(text)}
        found |= {re.sub("%..", lambda each: each[0].lower(), quote(text, safe=""))}
        for lead in range(3):
            encoded = base64.b64encode(b"x" * lead + raw)[4 if lead else 0 : -4].decode()
            found |= {encoded, encoded.replace("+", "-").replace("/", "_")}
    return {spelling.encode() for spelling in found}


_STEMS = (b"canary", b"63616e617279", b"63616E617279", b"Y2FuYXJ5", b"bmFy", b"YW5h")
"""Every spelling holds one of these (in base64 `canary`, `nar` or `ana`): most texts hold none, and are done with."""
_SPELLINGS = [(name, spelling) for name, value in CANARIES.items() for spelling in sorted(spellings(value))]


def leaks_in(text: str | bytes, where: str) -> list[str]:
    """Return which canary stands in a text, and where."""
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    if not any(stem in data for stem in _STEMS):
        return []
    return sorted({f"{name} in {where}" for name, spelling in _SPELLINGS if spelling in data})


def left_in(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (path, bytes) of what was written below a folder: journals, logs, reports, plans, configurations."""
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in STORES | _PASSED_OVER]
        for path in (Path(parent, name) for name in files):
            if path.suffix not in _KINDS or path.name.startswith(_STORE) or _SEGMENT.fullmatch(path.name):
                continue
            if path.is_symlink() or not path.is_file():
                continue
            if path.stat().st_size <= _MAX_BYTES and os.access(path, os.R_OK):
                yield str(path), path.read_bytes()


def leaks_below(folder: Path) -> list[str]:
    """Return which canary is in which file below a folder."""
    return [leak for where, data in left_in(folder) for leak in leaks_in(data, where)]
