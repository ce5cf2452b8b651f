"""Which rows the answers of an application depend on: they are other ones once the row is gone.

That needs no log of the server. The rows are not put back: the database is thrown away afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from psycopg import errors

from backout.providers.postgres.certify.reading import write_delete
from backout.providers.postgres.certify.rows import read_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import psycopg

_MOST_ROWS: Final = 20

Answers = tuple[object, ...]


def count_reread(
    connection: psycopg.Connection[Any],
    rows: Mapping[str, Sequence[tuple[str | None, ...]]],
    ask: Callable[[], Answers],
) -> int:
    """Return on how many of these rows, of all tables the first 20, at least one answer depends.

    Args:
        rows: keys by table.
        ask: sends the same requests each time, and returns their answers.
    """
    usual, again = ask(), ask()
    steady = [at for at, answer in enumerate(usual) if answer == again[at]]  # the others differ by themselves
    waiting = [(name, key) for name, listed in rows.items() for key in listed][:_MOST_ROWS]
    found = 0
    for name, key in reversed(waiting) if steady else ():  # what was written last refers to the others
        columns = read_columns(connection, name)
        try:
            is_gone = bool(columns) and connection.execute(write_delete(name, columns, key)).rowcount > 0
        except errors.IntegrityError:
            continue
        if not is_gone:
            continue
        now = ask()
        found += any(now[at] != usual[at] for at in steady)
        usual = now
    return found
