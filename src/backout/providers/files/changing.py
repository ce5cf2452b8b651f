"""Change a page that people write into, and that they may save at the same moment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from backout.errors import BackoutError
from backout.private import write_new

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_TRIES: Final = 5


def change_page(path: Path, change: Callable[[str], str], what: str) -> Path:
    """Replace a page by what `change` makes of it, atomically, and return its path.

    Args:
        change: is given the page, and the page again where somebody saved it meanwhile.
        what: names the page in errors ("the report").

    Raises:
        BackoutError: it cannot be read or written.
    """
    try:
        for _ in range(_TRIES):
            before = path.read_bytes()  # people write into it, in any encoding
            after = change(before.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
            if after == before:
                return path
            temporary = path.with_name(f".{os.getpid()}-{os.urandom(4).hex()}.tmp")
            try:
                write_new(temporary, after)
                if path.read_bytes() == before:
                    temporary.replace(path)
                    return path
            finally:
                temporary.unlink(missing_ok=True)
        raise BackoutError(f"{what} is being written by somebody else", where=str(path), hint="try again")
    except OSError as error:
        said = f"{what} cannot be amended: {error.strerror or type(error).__name__}"
        raise BackoutError(said, where=str(path), hint="make the file readable, and its folder writable") from error
