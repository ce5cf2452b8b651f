"""Which commands passed `backout conformance`: a fingerprint of them, which changes with whatever they run."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Final

from backout.providers.command.protocol import PROTOCOL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from backout.providers.command.protocol import Name

_DIGITS: Final = 32
_MOST_BYTES: Final = 16 * 1024 * 1024


def make_fingerprint(argv: Mapping[Name, Sequence[str]], variables: Mapping[str, str], folder: Path) -> str:
    """Return the fingerprint of commands, their variables, and the files that their words name.

    What they run beyond that (a program on PATH, a module that a script imports) is not in it.
    """
    asked = {name: list(words) for name, words in argv.items() if words}
    total = hashlib.sha256(json.dumps([PROTOCOL, asked, dict(variables)], sort_keys=True).encode())
    for word in sorted({word for words in asked.values() for word in words}):
        total.update(_read(folder / word))
    return total.hexdigest()[:_DIGITS]


def _read(path: Path) -> bytes:
    """Return the hash of a file, b"" where the word names none."""
    try:
        if not path.is_file() or path.stat().st_size > _MOST_BYTES:
            return b""
        return hashlib.sha256(path.read_bytes()).digest()
    except (OSError, ValueError):
        return b""
