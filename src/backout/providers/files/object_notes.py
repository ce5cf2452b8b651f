"""Port ChangeNotes: a small SQLite file for each run, so that a million objects need no memory."""

from __future__ import annotations

import contextlib
import sqlite3
from itertools import islice
from typing import TYPE_CHECKING, Final

import msgspec

from backout.decoding import decode_json
from backout.errors import BackoutError
from backout.model.names import parse_id
from backout.model.objects.versions import Carried, ObjectChange
from backout.private import make_private_folder
from backout.sqlite_words import quote_in_brackets

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

_BATCH: Final = 1000
_DECODED_AT_ONCE: Final = 50
_SCHEMA: Final = """
CREATE TABLE changes (place INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, change BLOB NOT NULL, carried BLOB);
CREATE TABLE whole (number INTEGER NOT NULL);
"""


class FileChangeNotes:
    """Port ChangeNotes on a folder.

    Args:
        directory: made when it is first written to, for its owner alone.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def note(self, run: str, changes: Iterable[ObjectChange]) -> None:
        """Keep the changes of a run; a key that comes twice shows that the listing was in no order.

        Raises:
            BackoutError: the file cannot be written, or the listing is in no order.
        """
        path = self._path(run)
        make_private_folder(self._directory)
        for each in (path, path.with_name(f"{path.name}-journal")):
            each.unlink(missing_ok=True)
        numbered = enumerate(changes)
        with self._open(run) as file:
            file.executescript(_SCHEMA)
            path.chmod(0o600)
            number = 0
            while batch := list(islice(numbered, _BATCH)):
                rows = [(place, each.key.encode(), msgspec.json.encode(each)) for place, each in batch]
                try:
                    file.executemany("INSERT INTO changes VALUES (?, ?, ?, NULL)", rows)
                except sqlite3.IntegrityError:
                    what = "the listing of the bucket is in no order: an object came twice"
                    raise BackoutError(what, hint="type the same command again") from None
                number += len(rows)
            file.execute("INSERT INTO whole VALUES (?)", (number,))

    def count(self, run: str) -> int | None:
        """Return how many are kept, None where they were never kept whole."""
        if not self._path(run).is_file():
            return None
        with contextlib.suppress(BackoutError), self._open(run) as file:
            found = file.execute("SELECT number FROM whole").fetchone()
            return None if found is None else int(found[0])
        return None

    def read(self, run: str, begin: int, number: int) -> Sequence[ObjectChange]:
        """Return changes from a place on."""
        with self._open(run) as file:
            query = "SELECT change, NULL FROM changes WHERE place >= ? ORDER BY place LIMIT ?"
            rows = file.execute(query, (begin, number))
            return [change for change, _ in _decode(rows)]

    def settle(self, run: str, begin: int, carried: Sequence[Carried]) -> None:
        """Keep what became of the changes from a place on."""
        rows = [(msgspec.json.encode(each), begin + place) for place, each in enumerate(carried)]
        with self._open(run) as file:
            file.executemany("UPDATE changes SET carried = ? WHERE place = ?", rows)

    def is_settled(self, run: str, begin: int, number: int) -> bool:
        """Whether it is kept what became of each of so many changes from a place on."""
        query = "SELECT count(*) FROM changes WHERE place >= ? AND place < ? AND carried IS NULL"
        with self._open(run) as file:
            return not file.execute(query, (begin, begin + number)).fetchone()[0]

    def find(self, run: str, keys: Sequence[str]) -> Mapping[str, tuple[ObjectChange, Carried | None]]:
        """Return the changes of these objects and what became of each, by key; an object without one is left out."""
        marks = ", ".join("?" * len(keys))
        query = f"SELECT change, carried FROM changes WHERE key IN ({marks})"  # noqa: S608 - marks alone
        with self._open(run) as file:
            rows = file.execute(query, [key.encode() for key in keys])
            return {change.key: (change, carried) for change, carried in _decode(rows)}

    def settled(self, run: str) -> Iterator[tuple[ObjectChange, Carried | None]]:
        """Yield every change with what became of it, in their order."""
        with self._open(run) as file:
            yield from _decode(file.execute("SELECT change, carried FROM changes ORDER BY place"))

    def _path(self, run: str) -> Path:
        return self._directory / f"{parse_id(run)}.sqlite"

    @contextlib.contextmanager
    def _open(self, run: str) -> Iterator[sqlite3.Connection]:
        """Open a run's file; what the block writes is durable at its end, or not there.

        Raises:
            BackoutError: the file cannot be used.
        """
        path = self._path(run)
        try:
            with contextlib.closing(sqlite3.connect(path, timeout=15.0)) as file, file:
                file.execute("PRAGMA synchronous = FULL")
                yield file
        except sqlite3.Error as error:
            what = f"the notes of the restore cannot be used{quote_in_brackets(error)}"
            raise BackoutError(what, where=str(path), hint="type the same command again") from error


def _decode(rows: Iterator[tuple[bytes, bytes | None]]) -> Iterator[tuple[ObjectChange, Carried | None]]:
    """Yield the changes of rows, some decoded at once: to decode one takes as long as to look at a text at all."""
    while batch := list(islice(rows, _DECODED_AT_ONCE)):
        pairs = b",".join(b"[%b,%b]" % (change, carried or b"null") for change, carried in batch)
        yield from decode_json(b"[%b]" % pairs, list[tuple[ObjectChange, Carried | None]])
