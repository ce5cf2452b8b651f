"""Reads a table by parts: sums of hashes of each, and the rows of those that differ.

A part is the rows whose keys' hashes end the same. Each reading of rows is a pass over the whole table.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from backout.providers.postgres.comparison.judging import parse_rows
from backout.providers.postgres.server.copy_out import read_copy

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from backout.providers.postgres.comparison.judging import Rows
    from backout.providers.postgres.comparison.tables import Reading

_T = TypeVar("_T")
Sums = dict[int, tuple[int, int, str]]
"""(rows, their hashes mixed, and added up) by part of a table."""
_PARTS: Final = 64
"""How many parts of a table are held in memory at a time; more of them up to this many rows:"""
_HELD_ROWS: Final = 100_000


@contextmanager
def hold_snapshot(session: Any) -> Iterator[None]:
    """Hold one snapshot for the questions about a table, which locks no row and writes nothing."""
    with session.transaction():
        session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield


def read_sums(session: Any, reading: Reading, where: str = "true") -> Sums:
    """Return the sums of each part's rows. Raises psycopg.Error."""
    return {int(bucket): (rows, mixed, added) for bucket, rows, mixed, added in session.execute(reading.sums(where))}


def group_parts(parts: Sequence[int], sums: Collection[Sums]) -> Iterator[list[int]]:
    """Yield parts of a table that are read together: each time takes a pass over the whole table at every end."""
    together, rows = list[int](), 0
    for part in parts:
        more = sum(each[part][0] for each in sums if part in each)
        if len(together) >= _PARTS and rows + more > _HELD_ROWS:
            yield together
            together, rows = [], 0
        together.append(part)
        rows += more
    if together:
        yield together


def read_rows(session: Any, reading: Reading, where: str) -> Rows:
    """Return the hashes of the rows under a condition. Raises psycopg.Error."""
    content = b"".join(read_copy(session, f"COPY ({reading.rows(where)}) TO STDOUT"))
    return parse_rows(content.decode("ascii").splitlines())


def run_beside(jobs: list[Callable[[], _T]]) -> list[_T]:
    """Do them at the same time, each on a server of its own."""
    with ThreadPoolExecutor(len(jobs)) as pool:
        return [each.result() for each in [pool.submit(job) for job in jobs]]
