"""One read from Postgres through libpq itself, the library that psycopg brings: no import of psycopg, one round trip.

Importing psycopg costs a third of a whole rollback's CPU time; asking one question needs ten functions of libpq. The
transaction is read-only and has a time limit, whatever the question.

Source: PostgreSQL 18 documentation, chapter "libpq - C Library"; these functions have not changed since 9.0.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import importlib.util
import select
import time
from contextlib import contextmanager
from ctypes import c_char_p, c_int, c_void_p
from pathlib import Path
from typing import TYPE_CHECKING, Final

from backout.providers.postgres.access import verified
from backout.providers.postgres.pinned import Row, begin_reading, copied_row

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

UNDEFINED_TABLE: Final = "42P01"
_CONNECTION_OK, _TUPLES_OK, _COPY_OUT = 0, 2, 3
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
        answers: what the queries before the one that failed said.
    """

    def __init__(self, text: str, sqlstate: str = "", answers: Sequence[list[Row]] = ()) -> None:
        super().__init__(text)
        self.sqlstate = sqlstate
        self.answers = answers


def read(dsn: str, query: str, *, connect_timeout_s: float, statement_timeout_s: float) -> list[Row]:
    """Return the rows of one query as text, asked in a read-only transaction of its own, in the catalog's names alone.

    Args:
        dsn: what libpq takes, URL or key=value. connect_timeout_s: per address, in whole seconds, two at least.

    Raises:
        LibpqError: there is no libpq, no connection, or no answer.
    """
    with opened(dsn, connect_timeout_s=connect_timeout_s, statement_timeout_s=statement_timeout_s) as asking:
        return [row for rows in asking.read(query) for row in rows]


@contextmanager
def opened(dsn: str, *, connect_timeout_s: float, statement_timeout_s: float) -> Iterator[Asking]:
    """Yield a connection that only reads. Args and errors as `read`."""
    library = _library()
    connection = _connected(library, verified(dsn), max(2, round(connect_timeout_s)))
    try:
        yield Asking(library, connection, statement_timeout_s)
    finally:
        library.PQfinish(connection)


class Asking:
    """A connection; each batch of queries is one round trip, and one read-only transaction."""

    def __init__(self, library: ctypes.CDLL, connection: int, statement_timeout_s: float) -> None:
        self._library = library
        self._connection = connection
        self._timeout_s = statement_timeout_s
        self._failed = False

    def read(self, *queries: str, before: str = "") -> list[list[Row]]:
        """Return the rows of each query or COPY that has any columns, as text.

        Args:
            before: what is asked in the names of the session, before it knows the catalog's alone: its names are whole.

        Raises:
            LibpqError: no answer; the transaction is over.
        """
        begin = begin_reading(round(self._timeout_s * 1000), before=before)
        batch = "; ".join((*(("ROLLBACK",) if self._failed else ()), begin, *queries, "COMMIT"))
        if not self._library.PQsendQuery(self._connection, _text(batch)):
            raise LibpqError(_told(self._library.PQerrorMessage(self._connection)))
        self._failed = True
        hidden = 1 if before else 0
        try:
            answered = _answer(self._library, self._connection, time.monotonic() + self._timeout_s + _GRACE_S)
        except LibpqError as error:
            error.answers = error.answers[hidden:]
            raise
        self._failed = False
        return answered[hidden:]


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
    r"""Return a text as SQL, which means the same whatever standard_conforming_strings is: a database may set it.

    >>> literal("it's")
    "'it''s'"
    >>> literal("a\\b")
    " E'a\\\\b'"
    """
    quoted = "'" + text.replace("'", "''") + "'"
    return " E" + quoted.replace("\\", "\\\\") if "\\" in text else quoted


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


def _answer(library: ctypes.CDLL, connection: int, deadline: float) -> list[list[Row]]:
    """Return the rows of each statement in the batch that answers with rows, when all of them were answered."""
    answers: list[list[Row]] = []
    failed: LibpqError | None = None
    while True:
        while library.PQisBusy(connection):
            _wait(library, connection, deadline)
        result = library.PQgetResult(connection)
        if not result and failed is not None:
            raise failed
        if not result:
            return answers
        try:
            status = library.PQresultStatus(result)
            if status in _FAILED:
                state = _told(library.PQresultErrorField(result, _SQLSTATE))
                failed = failed or LibpqError(_told(library.PQresultErrorMessage(result)), state, answers)
            if status == _TUPLES_OK:
                answers.append(_rows(library, result))
        finally:
            library.PQclear(result)
        if status == _COPY_OUT:
            answers.append(_copied(library, connection, deadline))


def _wait(library: ctypes.CDLL, connection: int, deadline: float) -> None:
    left_s = deadline - time.monotonic()
    if left_s <= 0 or not select.select([library.PQsocket(connection)], [], [], left_s)[0]:
        raise LibpqError("no answer in time")
    if not library.PQconsumeInput(connection):
        raise LibpqError(_told(library.PQerrorMessage(connection)))


def _copied(library: ctypes.CDLL, connection: int, deadline: float) -> list[Row]:
    """Return the rows of a COPY; an error at its end is the next result's."""
    rows: list[Row] = []
    place = c_void_p()
    while (size := library.PQgetCopyData(connection, ctypes.byref(place), 1)) >= 0:
        if size == 0:
            _wait(library, connection, deadline)
            continue
        try:
            rows.append(copied_row(ctypes.string_at(place, size)))
        finally:
            library.PQfreemem(place)
    if size < -1:
        raise LibpqError(_told(library.PQerrorMessage(connection)))
    return rows


def _rows(library: ctypes.CDLL, result: int) -> list[Row]:
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


@functools.cache
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
