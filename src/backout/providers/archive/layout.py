"""Unpacks the files of a backup from the packs that hold them."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from backout.model.names import parse_member, parse_segment
from backout.providers.archive.packing import Packs
from backout.providers.archive.sealing import make_damaged_error
from backout.providers.archive.stores import make_not_kept_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backout.providers.archive.packing import File, Index
    from backout.providers.archive.records import Record
    from backout.providers.archive.sealing import Key
    from backout.providers.archive.stores import Store


class Layout:
    """Unpacks backups.

    Args:
        key: the encryption key; None: not encrypted.
        record: returns the record of a backup.
        index: returns where the files of a backup are.
    """

    def __init__(
        self, store: Store, key: Key | None, record: Callable[[str], Record], index: Callable[[Record], Index]
    ) -> None:
        self._store = store
        self._key = key
        self._record = record
        self._index = index

    def lay(self, backup: str, indexes: dict[str, Index], into: Path, tell: Callable[[int], None]) -> None:
        """Lay out one member of a chain as it was taken.

        Raises:
            BackoutError: a file cannot be written, or something is damaged or missing.
        """
        index = indexes[backup]
        try:
            into.chmod(0o700)
            for folder in sorted(index.folders):
                (into / parse_member(folder)).mkdir(mode=0o700, exist_ok=True)
            for file in index.files:
                if not file.size:
                    (into / parse_member(file.path)).touch(mode=0o600)
        except OSError as error:
            raise make_not_kept_error(error, str(into)) from error
        for holder in sorted({file.backup for file in index.files}):
            if holder not in indexes:
                raise make_damaged_error(
                    f"{self._store.name}/base/{backup}", f"it refers to {holder}, which it does not build on"
                )
            wanted = [file for file in index.files if file.backup == holder]
            self.lay_files(wanted, holder, indexes[holder], into, tell)

    def lay_files(
        self, wanted: Sequence[File], holder: str, index: Index, into: Path, tell: Callable[[int], None]
    ) -> None:
        """Lay out some files that one backup holds; `tell` hears of each part's bytes."""
        key = self._key if self._record(holder).key else None
        Packs(self._store, key).read(holder, index, wanted, into, tell)

    def fetch_segment(self, name: str, record: Record, into: Path) -> None:
        """Lay out a segment of WAL that a backup brought along. Raises BackoutError: it is missing, or damaged."""
        index = self._index(record)
        wanted = [file for file in index.files if file.path == f"pg_wal/{name}"]
        if not wanted:
            raise make_damaged_error(
                f"{self._store.name}/base/{record.facts.id}", f"its segment {name} of WAL is missing"
            )
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=into) as scratch:
            (Path(scratch) / "pg_wal").mkdir()
            for file in wanted:
                self.lay_files(
                    [file], file.backup, self._index(self._record(file.backup)), Path(scratch), lambda _: None
                )
            shutil.move(Path(scratch) / "pg_wal" / parse_segment(name), into / parse_segment(name))
