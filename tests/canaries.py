"""Values of secrets that stand out: whatever a test leaves behind must hold none of them, in any spelling."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CANARIES = {
    "JWT_SECRET": 'canary+jwt/8f3d"1c77é==',
    "EMAIL_API_KEY": "canary_email_5b20d9e1",
    "NEW_KEY": "canary-new key%41?&=\\b61",
    "PEM": "-----BEGIN CANARY KEY-----\nQ2FuYXJ5IDEyMw\ncanaryline77aa11\n-----END CANARY KEY-----\n",
}
"""By name: with characters that JSON, URLs, base64 and shells treat in their own ways, and one of several lines."""
STORES = {"planted", "twin"}
"""Folders that are allowed to hold them: what a test planted, and the provider's own store."""
_MAX_BYTES = 8 * 1024 * 1024


def spellings(value: str) -> set[str]:
    """Return how a value may be written: as it is, URL-encoded, in JSON, in hex, in base64 at any place."""
    found: set[str] = set()
    for text in {value, *(line for line in value.splitlines() if len(line) >= 12)}:
        raw = text.encode()
        found |= {text, quote(text), quote(text, safe=""), quote_plus(text), raw.hex(), raw.hex().upper()}
        found |= {json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], text.replace("/", "\\/")}
        for lead in range(3):
            encoded = base64.b64encode(b"x" * lead + raw)[4:-4].decode()
            found |= {encoded, encoded.replace("+", "-").replace("/", "_")}
        found |= {raw.decode("latin-1")}
    return {spelling for spelling in found if len(spelling) >= 8}


_SPELLINGS = [(name, spelling) for name, value in CANARIES.items() for spelling in sorted(spellings(value))]


def leaks_in(text: str, where: str) -> list[str]:
    """Return which canary stands in a text, and where."""
    return [f"{name} in {where}" for name, spelling in _SPELLINGS if spelling in text]


def left_in(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield (path, text) of the files below a folder, stores and large files left out."""
    for path in folder.rglob("*"):
        inside = set(path.relative_to(folder).parts[:-1])
        if inside & STORES or not path.is_file() or path.is_symlink() or path.stat().st_size > _MAX_BYTES:
            continue
        yield str(path), path.read_bytes().decode("latin-1")


def leaks_below(folder: Path) -> list[str]:
    """Return which canary is in which file below a folder."""
    return [leak for where, text in left_in(folder) for leak in leaks_in(text, where)]
