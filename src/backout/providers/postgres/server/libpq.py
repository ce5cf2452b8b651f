"""One read from Postgres through libpq itself: no import of psycopg, one round trip.

The transaction is read-only and has a time limit, whatever the question.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import select
import time
from contextlib import contextmanager
from ctypes import c_char_p, c_void_p
from typing import TYPE_CHECKING, Final

from backout.providers.postgres.server.libpq_library import LibpqError, load_library, to_bytes, to_text
from backout.providers.postgres.server.pinned import Row, begin_reading, parse_copied_row
from backout.providers.postgres.tls.access import add_verification

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["UNDEFINED_TABLE", "Asking", "LibpqError", "open_connection", "read"]

UNDEFINED_TABLE: Final = "42P01"
_CONNECTION_OK, _TUPLES_OK, _COPY_OUT = 0, 2, 3
_FAILED: Final = frozenset({5, 6, 7})  # bad response, (warnings of old servers), fatal error
_SQLSTATE: Final = ord("C")
_GRACE_S: Final = 5.0  # the server ends the statement first, and says why


def read(dsn: str, query: str, *, connect_timeout_s: float, statement_timeout_s: float) -> list[Row]:
    """Return the rows of one query as text, asked in a read-only transaction of its own, in the catalog's names alone.

    Args:
        dsn: what libpq takes, URL or key=value.
        connect_timeout_s: per address, in whole seconds, two at least.

    Raises:
        LibpqError: there is no libpq, no connection, or no answer.
    """
    with open_connection(dsn, connect_timeout_s=connect_timeout_s, statement_timeout_s=statement_timeout_s) as asking:
        return [row for rows in asking.read(query) for row in rows]


@contextmanager
def open_connection(dsn: str, *, connect_timeout_s: float, statement_timeout_s: float) -> Iterator[Asking]:
    """Yield a connection that only reads. Args and errors as `read`."""
    library = load_library()
    connection = _connect(library, add_verification(dsn), max(2, round(connect_timeout_s)))
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
        if not self._library.PQsendQuery(self._connection, to_bytes(batch)):
            raise LibpqError(to_text(self._library.PQerrorMessage(self._connection)))
        self._failed = True
        hidden = 1 if before else 0
        try:
            answered = _await_answer(self._library, self._connection, time.monotonic() + self._timeout_s + _GRACE_S)
        except LibpqError as error:
            error.answers = error.answers[hidden:]
            raise
        self._failed = False
        return answered[hidden:]


def _connect(library: ctypes.CDLL, dsn: str, seconds: int) -> int:
    parameters = {  # what follows dbname overrides what the DSN says
        "dbname": dsn,
        "connect_timeout": str(seconds),
        "tcp_user_timeout": str(seconds * 1000),
        "client_encoding": "UTF8",
    }
    size = len(parameters) + 1  # both arrays end with a null
    names = (c_char_p * size)(*map(to_bytes, parameters), None)
    values = (c_char_p * size)(*map(to_bytes, parameters.values()), None)
    connection = library.PQconnectdbParams(names, values, 1)
    if not connection:
        raise LibpqError("out of memory")
    if library.PQstatus(connection) != _CONNECTION_OK:
        text = to_text(library.PQerrorMessage(connection))
        library.PQfinish(connection)
        raise LibpqError(text)
    return int(connection)


def _await_answer(library: ctypes.CDLL, connection: int, deadline: float) -> list[list[Row]]:
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
                state = to_text(library.PQresultErrorField(result, _SQLSTATE))
                failed = failed or LibpqError(to_text(library.PQresultErrorMessage(result)), state, answers)
            if status == _TUPLES_OK:
                answers.append(_read_rows(library, result))
        finally:
            library.PQclear(result)
        if status == _COPY_OUT:
            answers.append(_read_copied_rows(library, connection, deadline))


def _wait(library: ctypes.CDLL, connection: int, deadline: float) -> None:
    left_s = deadline - time.monotonic()
    if left_s <= 0 or not select.select([library.PQsocket(connection)], [], [], left_s)[0]:
        raise LibpqError("no answer in time")
    if not library.PQconsumeInput(connection):
        raise LibpqError(to_text(library.PQerrorMessage(connection)))


def _read_copied_rows(library: ctypes.CDLL, connection: int, deadline: float) -> list[Row]:
    """Return the rows of a COPY; an error at its end is the next result's."""
    rows: list[Row] = []
    place = c_void_p()
    while (size := library.PQgetCopyData(connection, ctypes.byref(place), 1)) >= 0:
        if size == 0:
            _wait(library, connection, deadline)
            continue
        try:
            rows.append(parse_copied_row(ctypes.string_at(place, size)))
        finally:
            library.PQfreemem(place)
    if size < -1:
        raise LibpqError(to_text(library.PQerrorMessage(connection)))
    return rows


def _read_rows(library: ctypes.CDLL, result: int) -> list[Row]:
    columns = range(library.PQnfields(result))
    return [
        tuple(
            None if library.PQgetisnull(result, row, column) else to_text(library.PQgetvalue(result, row, column))
            for column in columns
        )
        for row in range(library.PQntuples(result))
    ]
