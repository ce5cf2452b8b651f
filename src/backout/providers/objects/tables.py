"""Listings of a bucket in a file that goes with its process: by key, whatever the store's order, and in no memory."""

from __future__ import annotations

import sqlite3
import tempfile
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from backout.model.objects.manifests import ManifestEntry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_BATCH: Final = 1000


class Tables:
    """Some listings under their names; use it in a `with` block."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="backout-objects-")
        self._file = sqlite3.connect(Path(self._folder.name) / "tables.sqlite", check_same_thread=False)
        self._file.execute("PRAGMA journal_mode = OFF")
        self._file.execute("PRAGMA synchronous = OFF")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._folder.cleanup()

    def fill(self, name: str, entries: Iterable[ManifestEntry]) -> None:
        """Keep a listing under a name of ours; the last one of a key counts."""
        self._file.execute(
            f"CREATE TABLE {name} (key BLOB PRIMARY KEY, etag TEXT, size INTEGER, at REAL, stored TEXT, kept TEXT) "
            "WITHOUT ROWID"
        )
        numbered = iter(entries)
        while batch := list(islice(numbered, _BATCH)):
            self.add(name, batch)

    def add(self, name: str, entries: Iterable[ManifestEntry]) -> None:
        """Add to a listing."""
        rows = (
            (each.key.encode(), each.etag, each.size_bytes, each.at, each.stored, each.kept_etag) for each in entries
        )
        self._file.executemany(f"INSERT OR REPLACE INTO {name} VALUES (?, ?, ?, ?, ?, ?)", rows)  # noqa: S608 - ours

    def find(self, name: str, key: str) -> ManifestEntry | None:
        """Return the entry of a key."""
        query = f"SELECT key, etag, size, at, stored, kept FROM {name} WHERE key = ?"  # noqa: S608 - our names
        found = self._file.execute(query, (key.encode(),)).fetchone()
        return None if found is None else _make_entry(found)

    def read(self, name: str) -> Iterator[ManifestEntry]:
        """Yield a listing by key."""
        for row in self._file.execute(f"SELECT key, etag, size, at, stored, kept FROM {name} ORDER BY key"):  # noqa: S608
            yield _make_entry(row)

    def keys(self, *names: str) -> Iterator[str]:
        """Yield the keys of several listings, each once, by key."""
        union = " UNION ".join(f"SELECT key FROM {name}" for name in names)  # noqa: S608 - our names
        for (key,) in self._file.execute(f"{union} ORDER BY key"):
            yield key.decode()

    def count(self, name: str) -> tuple[int, int]:
        """Return how many objects a listing has, and their size in bytes."""
        found = self._file.execute(f"SELECT count(*), coalesce(sum(size), 0) FROM {name}").fetchone()  # noqa: S608
        return int(found[0]), int(found[1])

    def count_missing(self, name: str, of: str) -> int:
        """Return how many keys of a listing are not in this one."""
        query = f"SELECT count(*) FROM {of} LEFT JOIN {name} USING (key) WHERE {name}.key IS NULL"  # noqa: S608
        return int(self._file.execute(query).fetchone()[0])

    def list_superseded(self, name: str, by: str) -> Iterator[ManifestEntry]:
        """Yield the entries of a listing whose content another one does not have any more."""
        query = (
            f"SELECT o.key, o.etag, o.size, o.at, o.stored, o.kept FROM {name} AS o LEFT JOIN {by} AS n "  # noqa: S608
            "ON o.key = n.key AND o.stored = n.stored WHERE n.key IS NULL"
        )
        for row in self._file.execute(query):
            yield _make_entry(row)


def _make_entry(row: tuple[bytes, str, int, float, str, str]) -> ManifestEntry:
    return ManifestEntry(row[0].decode(), *row[1:])
