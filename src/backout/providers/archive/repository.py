"""Base backups in a store, and what restores read of them: port Backups.

`base/ID/pack-000000` ... hold the files, `base/ID/index` says where each is, `base/ID/manifest` is Postgres' own list
of them with their checksums, and `base/ID/record.json` is written last.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

import msgspec

from backout.errors import UsageError
from backout.model.recovery import WalSegment
from backout.providers.archive import records
from backout.providers.archive.packing import Index, Packs, Source
from backout.providers.archive.records import FORMAT, Record
from backout.providers.archive.sealing import damaged, pack, unpack
from backout.providers.archive.stores import not_kept
from backout.providers.archive.wal import WalArchive, segment_of
from backout.providers.postgres.backup_tools import MANIFEST, combine, verify_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from backout.model.recovery import BaseBackup
    from backout.providers.archive.packing import File
    from backout.providers.archive.records import Facts
    from backout.providers.archive.sealing import Key
    from backout.providers.archive.stores import Store
    from backout.providers.postgres.binaries import Binaries

_RECORD: Final = "record.json"
_SMALL_BYTES: Final = 128 * 1024 * 1024
_SMALL_LEVEL, _LARGE_LEVEL = 9, 1
"""zstd: a small increment may cost a moment more, a full backup must not wait for the processor."""
_META_LEVEL: Final = 12
_FETCHES_AT_ONCE: Final = 4


class Repository:
    """Port Backups, and how backups come in and go.

    Args:
        binaries: returns the Postgres programs. incoming: the folder that WAL is received into.
        key: what is encrypted with; None keeps everything readable.
    """

    def __init__(self, store: Store, binaries: Callable[[], Binaries], *, incoming: Path, key: Key | None) -> None:
        self.store = store
        self._binaries = binaries
        self._incoming = incoming
        self._key = key
        self._known: dict[str, Record] = {}

    # --- port Backups ------------------------------------------------------------------------------------------

    def backups(self) -> tuple[BaseBackup, ...]:
        """Return the complete ones, oldest first."""
        return tuple(record.as_backup() for record in self.records())

    def wal(self) -> tuple[WalSegment, ...]:
        """Return the WAL of the newest backup's cluster: the archive's, and what the backups brought along."""
        found = self.records()
        if not found:
            return ()
        system = found[-1].facts.system_identifier
        segments = {segment.name: segment for segment in self.archive(system).segments()}
        for record in found:
            facts = record.facts
            for name in facts.wal if facts.system_identifier == system else ():
                whole = segment_of(name, facts.segment_bytes)
                end = min(whole.end_lsn, facts.end_lsn)
                ours = WalSegment(name, whole.timeline, whole.begin_lsn, end, partial=end < whole.end_lsn)
                if name not in segments or segments[name].end_lsn < end:
                    segments[name] = ours
        return tuple(sorted(segments.values(), key=lambda segment: (segment.timeline, segment.begin_lsn)))

    def unpack(self, backup: str, into: Path, progress: Callable[[int, int], None]) -> None:
        """Lay out a data directory, each block by its checksum; an incremental one is combined.

        The members of a chain are checked against Postgres' own manifests first, as nothing after it would notice.

        Raises:
            BackoutError: something is damaged or missing, by name; there is no room. AuthError: the key is another.
        """
        chain = self.chain(backup)
        indexes = {record.facts.id: self.index(record) for record in chain}
        whole = sum(sum(file.size for file in index.files) for index in indexes.values())
        done, telling = 0, threading.Lock()

        def tell(size: int) -> None:
            nonlocal done
            with telling:
                done += size
                progress(min(done, whole), whole)

        if len(chain) == 1:
            self._lay(backup, indexes, into, tell)
        else:
            with tempfile.TemporaryDirectory(prefix=".combining-", dir=into.parent) as scratch:
                parts = [Path(scratch) / record.facts.id for record in chain]
                for part in parts:
                    part.mkdir(mode=0o700)

                def lay(part: Path) -> None:
                    self._lay(part.name, indexes, part, tell)
                    verify_folder(self._binaries(), part, f"{self.store.name}/base/{part.name}")

                # Most of a small part is the making of its many files: that goes on beside the large full one.
                with ThreadPoolExecutor(_FETCHES_AT_ONCE) as pool:
                    for _ in pool.map(lay, parts):
                        pass
                combine(self._binaries(), parts, into)
                into.chmod(0o700)
        progress(whole, whole)

    def fetch_wal(self, names: Sequence[str], into: Path, laid: Callable[[str], None] = lambda _name: None) -> None:
        """Lay segments into a folder, whole, the first ones first; history files come along.

        Args:
            laid: told of each segment when it is there.

        Raises:
            BackoutError: one is not there, or is damaged.
        """
        found = self.records()
        if not found:
            raise UsageError("there is no backup, and so no WAL", where=self.store.name, hint="backout db backup")
        archive = self.archive(found[-1].facts.system_identifier)
        reach = {segment.name: segment for segment in archive.segments()}

        def fetch(name: str) -> None:
            holder = self._holder(name, found)
            have = reach.get(name)
            short = have is None or (have.partial and holder is not None and have.end_lsn < holder.facts.end_lsn)
            if holder is not None and short:
                self._fetch_brought(name, holder, into)
            elif not archive.fetch(name, into):
                raise damaged(f"{self.store.name}/{archive.prefix}{name}", "this segment of WAL is missing")
            laid(name)

        for name in archive.histories():  # what is replayed first is asked for first
            archive.fetch(name, into)
        with ThreadPoolExecutor(_FETCHES_AT_ONCE) as pool:
            for _ in pool.map(fetch, names):
                pass

    # --- keeping and removing ----------------------------------------------------------------------------------

    def archive(self, system_identifier: str) -> WalArchive:
        """Return the WAL of a cluster."""
        return WalArchive(self.store, system_identifier, self._incoming, self._key)

    def keep(self, folder: Path, facts: Facts, verified_at: float, progress: Callable[[int, int], None]) -> Record:
        """Store a backup that lies complete in a folder; what a killed attempt left of it is overwritten."""
        before: dict[str, File] = {}
        if facts.parent is not None:
            before = {file.path: file for file in self.index(self.record(facts.parent)).files if file.digest}
        source = Source(folder, facts.id, before)
        level = _SMALL_LEVEL if source.size <= _SMALL_BYTES else _LARGE_LEVEL
        packs = Packs(self.store, self._key).write(source, facts.id, level, progress)
        index = msgspec.msgpack.encode(Index(source.files, source.folders, packs))
        kept = self._put(facts.id, "index", index)
        stored = sum(part.stored for part in packs) + len(kept)
        record = Record(
            format=FORMAT,
            facts=facts,
            stored_bytes=stored,
            index=hashlib.sha256(kept).hexdigest(),
            key=self._key.fingerprint if self._key else "",
            verified_at=verified_at,
        )
        self._write_record(record)
        return record

    def mark_verified(self, backup: str, at: float) -> None:
        """Record that a backup was read and found whole."""
        self._write_record(msgspec.structs.replace(self.record(backup), verified_at=at))

    def manifest(self, backup: str) -> bytes:
        """Return Postgres' own manifest of a backup: what an incremental one is taken against."""
        record = self.record(backup)
        index = self.index(record)
        wanted = [file for file in index.files if file.path == MANIFEST]
        if not wanted:
            raise damaged(f"{self.store.name}/base/{backup}", "the manifest of this backup is missing")
        with tempfile.TemporaryDirectory() as scratch:
            self._lay_own(wanted, backup, index, Path(scratch), lambda _size: None)
            return (Path(scratch) / MANIFEST).read_bytes()

    def remove(self, backups: Sequence[str]) -> None:
        """Remove backups, the newest first, each one's record before its files: none is ever there in part."""
        for backup in sorted(backups, reverse=True):
            keys = [key for key, _ in self.store.keys(f"base/{backup}/")]
            record = f"base/{backup}/{_RECORD}"
            self._known.pop(backup, None)
            self.store.delete([record])
            self.store.delete(key for key in keys if key != record)

    def sweep(self, *, apart_from: Collection[str] = ()) -> tuple[str, ...]:
        """Remove what killed attempts left: files of backups that have no record. Return the backups' ids."""
        keys = [key for key, _ in self.store.keys("base/")]
        complete = {key.split("/")[1] for key in keys if key.endswith(f"/{_RECORD}")} | set(apart_from)
        left = [key for key in keys if key.split("/")[1] not in complete]
        self.store.delete(left)
        return tuple(sorted({key.split("/")[1] for key in left}))

    # --- reading -----------------------------------------------------------------------------------------------

    def records(self) -> tuple[Record, ...]:
        """Return the records, oldest first."""
        keys = [key for key, _ in self.store.keys("base/") if key.endswith(f"/{_RECORD}")]
        with ThreadPoolExecutor(_FETCHES_AT_ONCE) as pool:
            found = list(pool.map(self._find, [key.split("/")[1] for key in keys]))
        return tuple(sorted((each for each in found if each is not None), key=lambda each: each.facts.id))

    def record(self, backup: str) -> Record:
        """Return one record. Raises UsageError when there is no such backup."""
        found = self._find(backup)
        if found is None:
            raise UsageError(f"no backup {backup!r}", where=self.store.name, hint="backout db backups list")
        return found

    def chain(self, backup: str) -> tuple[Record, ...]:
        """Return a backup with everything that it builds on, the full one first."""
        chain = [self.record(backup)]
        while (parent := chain[0].facts.parent) is not None:
            if any(record.facts.id == parent for record in chain):
                raise damaged(f"{self.store.name}/base/{parent}", "this backup is its own parent")
            if self._find(parent) is None:
                raise damaged(
                    f"{self.store.name}/base/{parent}", f"it is missing, and {chain[0].facts.id} builds on it"
                )
            chain.insert(0, self.record(parent))
        return tuple(chain)

    def index(self, record: Record) -> Index:
        """Return where a backup's files are. Raises AuthError for another key, BackoutError when it is damaged."""
        name = f"base/{record.facts.id}/index"
        where = f"{self.store.name}/{name}"
        records.check_key(record, self._key, f"{self.store.name}/base/{record.facts.id}")
        data = self.store.get(name)
        if data is None:
            raise damaged(where, "the index of this backup is missing")
        if hashlib.sha256(data).hexdigest() != record.index:
            raise damaged(where, "the index of this backup is damaged")
        key = self._key if record.key else None
        index = msgspec.msgpack.decode(unpack(name, data, key), type=Index)
        for path in (*index.folders, *(file.path for file in index.files)):
            if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
                raise damaged(where, f"it names a file outside the backup: {path!r}")
        return index

    # --- inside ------------------------------------------------------------------------------------------------

    def _lay(self, backup: str, indexes: dict[str, Index], into: Path, tell: Callable[[int], None]) -> None:
        """Lay out one member of a chain as it was taken."""
        index = indexes[backup]
        try:
            into.chmod(0o700)
            for folder in sorted(index.folders):
                (into / folder).mkdir(mode=0o700, exist_ok=True)
            for file in index.files:
                if not file.size:
                    (into / file.path).touch(mode=0o600)
        except OSError as error:
            raise not_kept(error, str(into)) from error
        for holder in sorted({file.backup for file in index.files}):
            if holder not in indexes:
                raise damaged(f"{self.store.name}/base/{backup}", f"it refers to {holder}, which it does not build on")
            wanted = [file for file in index.files if file.backup == holder]
            self._lay_own(wanted, holder, indexes[holder], into, tell)

    def _lay_own(
        self, wanted: Sequence[File], holder: str, index: Index, into: Path, tell: Callable[[int], None]
    ) -> None:
        key = self._key if self.record(holder).key else None
        Packs(self.store, key).read(holder, index, wanted, into, tell)

    def _holder(self, name: str, found: Sequence[Record]) -> Record | None:
        """Return the backup that brought the most of a segment along."""
        holders = [record for record in found if name in record.facts.wal]
        return max(holders, key=lambda record: record.facts.end_lsn, default=None)

    def _fetch_brought(self, name: str, record: Record, into: Path) -> None:
        index = self.index(record)
        wanted = [file for file in index.files if file.path == f"pg_wal/{name}"]
        if not wanted:
            raise damaged(f"{self.store.name}/base/{record.facts.id}", f"its segment {name} of WAL is missing")
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=into) as scratch:
            (Path(scratch) / "pg_wal").mkdir()
            for file in wanted:
                self._lay_own([file], file.backup, self.index(self.record(file.backup)), Path(scratch), lambda _: None)
            shutil.move(Path(scratch) / "pg_wal" / name, into / name)

    def _put(self, backup: str, part: str, content: bytes) -> bytes:
        name = f"base/{backup}/{part}"
        kept = pack(name, content, self._key, level=_META_LEVEL)
        self.store.put(name, kept)
        return kept

    def _find(self, backup: str) -> Record | None:
        """Return a record, read once: only its time of verification ever changes."""
        if backup not in self._known:
            key = f"base/{backup}/{_RECORD}"
            content = self.store.get(key)
            if content is None:
                return None
            self._known[backup] = records.decode(content, f"{self.store.name}/{key}")
        return self._known[backup]

    def _write_record(self, record: Record) -> None:
        key = self._key if record.key else None
        content = records.encode(record, key)
        self.store.put(f"base/{record.facts.id}/{_RECORD}", content)
        self._known[record.facts.id] = records.decode(content, record.facts.id)
