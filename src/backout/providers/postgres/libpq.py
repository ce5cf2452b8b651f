"""One read from Postgres through libpq itself, the library that psycopg brings: no import of psycopg, one round trip.

Importing psycopg costs a third of a whole rollback's CPU time; asking one question needs ten functions of libpq. The
transaction is read-only and has a time limit, whatever the question.

Source: PostgreSQL 18 documentation, chapter "libpq - C Library"; these functions have not changed since 9.0.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
import select
import time
from ctypes import c_char_p, c_int, c_void_p
from pathlib import Path
from typing import Final

UNDEFINED_TABLE: Final = "42P01"
_CONNECTION_OK, _TUPLES_OK = 0, 2
_FAILED: Final = frozenset({5, 6, 7})  # bad response, (warnings of old servers), fatal error
_SQLSTATE: Final = ord("C")
_GRACE_S: Final = 5.0  # the server ends the statement first, and says why

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
    ("PQconninfoParse", c_void_p, (c_char_p, ctypes.POINTER(c_char_p))),
    ("PQconninfoFree", None, (c_void_p,)),
)

Row = tuple[str | None, ...]


class _Option(ctypes.Structure):
    """`PQconninfoOption`; the array of them ends with one that has no keyword."""

    _fields_ = [
        *((name, c_char_p) for name in ("keyword", "environment", "compiled", "val", "label", "shown")),
        ("size", c_int),
    ]


class LibpqError(Exception):
    """Postgres or libpq said no; `sqlstate` is "" when it was not the server. The text may quote the DSN."""

    def __init__(self, text: str, sqlstate: str = "") -> None:
        super().__init__(text)
        self.sqlstate = sqlstate


def read(dsn: str, query: str, *, connect_timeout_s: float, statement_timeout_s: float) -> list[Row]:
    """Return the rows of one query as text, asked in a read-only transaction of its own.

    Args:
        dsn: what libpq takes, URL or key=value. connect_timeout_s: per address, in whole seconds, two at least.

    Raises:
        LibpqError: there is no libpq, no connection, or no answer.
    """
    library = _library()
    connection = _connected(library, dsn, max(2, round(connect_timeout_s)))
    try:
        limit_ms = round(statement_timeout_s * 1000)
        batch = (
            f"BEGIN READ ONLY; SET LOCAL statement_timeout = {limit_ms}; SET LOCAL client_min_messages = error; "
            f"{query}; COMMIT"
        )
        if not library.PQsendQuery(connection, _text(batch)):
            raise LibpqError(_told(library.PQerrorMessage(connection)))
        return _answer(library, connection, time.monotonic() + statement_timeout_s + _GRACE_S)
    finally:
        library.PQfinish(connection)


def parameters(dsn: str) -> dict[str, str]:
    """Return what a connection string, URL or key=value, says.

    Raises:
        LibpqError: it is none; the text may quote it.
    """
    library, trouble = _library(), c_char_p()
    options = library.PQconninfoParse(_text(dsn), ctypes.byref(trouble))
    if not options:
        raise LibpqError(_told(trouble.value))
    try:
        found, number = {}, 0
        while (option := ctypes.cast(options, ctypes.POINTER(_Option))[number]).keyword:
            if option.val is not None:
                found[_told(option.keyword)] = _told(option.val)
            number += 1
        return found
    finally:
        library.PQconninfoFree(options)


def identifier(name: str) -> str:
    """Return a name as SQL.

    >>> identifier('no"such')
    '"no""such"'
    """
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as SQL, with standard_conforming_strings as it is since 9.1.

    >>> literal("it's")
    "'it''s'"
    """
    return "'" + text.replace("'", "''") + "'"


def _connected(library: ctypes.CDLL, dsn: str, seconds: int) -> int:
    parameters = {  # what follows dbname overrides what the DSN says
        "dbname": dsn,
        "connect_timeout": str(seconds),
        "tcp_user_timeout": str(seconds * 1000),
        "client_encoding": "UTF8",
    }
    size = len(parameters) + 1  # both arrays end with a null
    names = (c_char_p * size)(*map(_text, parameters), None)
    values = (c_char_p * size)(*map(_text, parameters.values()), None)
    connection = library.PQconnectdbParams(names, values, 1)
    if not connection:
        raise LibpqError("out of memory")
    if library.PQstatus(connection) != _CONNECTION_OK:
        text = _told(library.PQerrorMessage(connection))
        library.PQfinish(connection)
        raise LibpqError(text)
    return int(connection)


def _answer(library: ctypes.CDLL, connection: int, deadline: float) -> list[Row]:
    """Return the rows of the one statement in the batch that has any."""
    rows: list[Row] = []
    while True:
        while library.PQisBusy(connection):
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not select.select([library.PQsocket(connection)], [], [], left_s)[0]:
                raise LibpqError("no answer in time")
            if not library.PQconsumeInput(connection):
                raise LibpqError(_told(library.PQerrorMessage(connection)))
        result = library.PQgetResult(connection)
        if not result:
            return rows
        try:
            rows += _rows(library, result)
        finally:
            library.PQclear(result)


def _rows(library: ctypes.CDLL, result: int) -> list[Row]:
    status = library.PQresultStatus(result)
    if status in _FAILED:
        state = _told(library.PQresultErrorField(result, _SQLSTATE))
        raise LibpqError(_told(library.PQresultErrorMessage(result)), state)
    if status != _TUPLES_OK:
        return []
    columns = range(library.PQnfields(result))
    return [
        tuple(
            None if library.PQgetisnull(result, row, column) else _told(library.PQgetvalue(result, row, column))
            for column in columns
        )
        for row in range(library.PQntuples(result))
    ]


def _text(text: str) -> bytes:
    if "\0" in text:
        raise LibpqError("a zero byte where none can be")
    return text.encode()


def _told(text: bytes | None) -> str:
    return (text or b"").decode(errors="replace")


def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_path())
        for name, result, arguments in _FUNCTIONS:
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise LibpqError(f"libpq cannot be loaded: {error}") from error
    return library


def _path() -> str:
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
