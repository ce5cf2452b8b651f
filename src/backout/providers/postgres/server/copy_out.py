"""Reads what COPY ... TO STDOUT sends, a row at a time.

Source: PostgreSQL 18, libpq, "Functions Associated with the COPY Command" (PQgetCopyData).
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from psycopg.pq.abc import PGconn


def read_copy(connection: Any, query: str | bytes, values: Sequence[Any] | None = None) -> Iterator[bytes]:
    """Yield each row as libpq has it: psycopg's own reading takes twice as long, and a table has millions of them.

    Args:
        connection: in a transaction, or not.
        values: of the query's `%s`.

    Raises:
        psycopg.Error: the server's, as of any statement.
        psycopg.OperationalError: the connection was lost.
    """
    import psycopg

    pgconn = connection.pgconn
    if values is not None:
        query = psycopg.ClientCursor(connection).mogrify(query, values)
    if not connection.autocommit and pgconn.transaction_status == psycopg.pq.TransactionStatus.IDLE:
        connection.execute("SELECT")  # begins the transaction, as psycopg does it
    begun = pgconn.exec_(query.encode() if isinstance(query, str) else query)
    if begun.status != psycopg.pq.ExecStatus.COPY_OUT:
        raise psycopg.errors.error_from_result(begun)
    ended = False
    try:
        yield from _read_rows(pgconn)
        ended = True
    finally:
        if not ended:  # its reader has stopped, or was stopped: the session is to be of use again
            connection.cancel_safe()  # encrypted as the connection is
            for _ in _read_rows(pgconn):
                pass
        results = [*iter(pgconn.get_result, None)]
        if ended and not results:
            raise psycopg.OperationalError("the connection was lost")
        if ended and results[0].status != psycopg.pq.ExecStatus.COMMAND_OK:
            raise psycopg.errors.error_from_result(results[0])


def _read_rows(pgconn: PGconn) -> Iterator[bytes]:
    more = select.poll()
    more.register(pgconn.socket, select.POLLIN)
    while (found := pgconn.get_copy_data(1))[0] >= 0:
        if found[0]:
            yield bytes(found[1])
        else:
            more.poll()
            pgconn.consume_input()
