"""libpq, the library bundled with psycopg, loaded without psycopg itself.

Importing psycopg costs a third of a whole rollback's CPU time; asking one question needs ten functions of libpq.

Source: PostgreSQL 18 documentation, chapter "libpq - C Library"; these functions have not changed since 9.0.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import importlib.util
from ctypes import c_char_p, c_int, c_void_p
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.providers.postgres.server.pinned import Row

_FUNCTIONS: Final = (
    ("PQconnectdbParams", c_void_p, (ctypes.POINTER(c_char_p), ctypes.POINTER(c_char_p), c_int)),
    ("PQstatus", c_int, (c_void_p,)),
    ("PQerrorMessage", c_char_p, (c_void_p,)),
    ("PQfinish", None, (c_void_p,)),
    ("PQsocket", c_int, (c_void_p,)),
    ("PQsendQuery", c_int, (c_void_p, c_char_p)),
    ("PQconsumeInput", c_int, (c_void_p,)),
    ("PQisBusy", c_int, (c_void_p,)),
    ("PQgetResult", c_void_p, (c_void_p,)),
    ("PQresultStatus", c_int, (c_void_p,)),
    ("PQresultErrorMessage", c_char_p, (c_void_p,)),
    ("PQresultErrorField", c_char_p, (c_void_p, c_int)),
    ("PQntuples", c_int, (c_void_p,)),
    ("PQnfields", c_int, (c_void_p,)),
    ("PQgetisnull", c_int, (c_void_p, c_int, c_int)),
    ("PQgetvalue", c_char_p, (c_void_p, c_int, c_int)),
    ("PQclear", None, (c_void_p,)),
    ("PQgetCopyData", c_int, (c_void_p, ctypes.POINTER(c_void_p), c_int)),
    ("PQfreemem", None, (c_void_p,)),
    ("PQconninfoParse", c_void_p, (c_char_p, ctypes.POINTER(c_char_p))),
    ("PQconninfoFree", None, (c_void_p,)),
)


class _Option(ctypes.Structure):
    """`PQconninfoOption`; the array of them ends with one that has no keyword."""

    _fields_ = [
        *((name, c_char_p) for name in ("keyword", "environment", "compiled", "val", "label", "shown")),
        ("size", c_int),
    ]


class LibpqError(Exception):
    """Postgres or libpq said no; `sqlstate` is "" when it was not the server. The text may quote the DSN.

    Args:
        answers: those of the queries before the failed one.
    """

    def __init__(self, text: str, sqlstate: str = "", answers: Sequence[list[Row]] = ()) -> None:
        super().__init__(text)
        self.sqlstate = sqlstate
        self.answers = answers


def parse_parameters(dsn: str) -> dict[str, str]:
    """Return what a connection string, URL or key=value, says.

    Raises:
        LibpqError: it is none; the text may quote it.
    """
    library, trouble = load_library(), c_char_p()
    options = library.PQconninfoParse(to_bytes(dsn), ctypes.byref(trouble))
    if not options:
        raise LibpqError(to_text(trouble.value))
    try:
        found, number = {}, 0
        while (option := ctypes.cast(options, ctypes.POINTER(_Option))[number]).keyword:
            if option.val is not None:
                found[to_text(option.keyword)] = to_text(option.val)
            number += 1
        return found
    finally:
        library.PQconninfoFree(options)


def to_bytes(text: str) -> bytes:
    """Return a text as libpq takes it. Raises LibpqError: a zero byte is in it."""
    if "\0" in text:
        raise LibpqError("a zero byte where none can be")
    return text.encode()


def to_text(text: bytes | None) -> str:
    """Return what libpq says as text, "" for nothing."""
    return (text or b"").decode(errors="replace")


@functools.cache
def load_library() -> ctypes.CDLL:
    """Return libpq with the types of the functions that are called. Raises LibpqError: there is none."""
    try:
        library = ctypes.CDLL(_find_library())
        for name, result, arguments in _FUNCTIONS:
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise LibpqError(f"libpq cannot be loaded: {error}") from error
    return library


def _find_library() -> str:
    """Return the libpq of psycopg's wheel (Linux, then macOS), or else the machine's own."""
    spec = importlib.util.find_spec("psycopg_binary")
    for place in (spec.submodule_search_locations or []) if spec else []:
        package = Path(place)
        for folder in (package.with_name("psycopg_binary.libs"), package / ".dylibs"):
            found = sorted(folder.glob("libpq[-.]*")) if folder.is_dir() else []
            if found:
                return str(found[0])
    found_by_system = ctypes.util.find_library("pq")
    if found_by_system is None:
        raise LibpqError("libpq is not installed: pip install 'psycopg[binary]'")
    return found_by_system
