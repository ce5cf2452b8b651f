"""Base backups in a store, and reading them for restores: port Backups.

`base/ID/pack-000000` ... hold the files, `base/ID/index` says where each is, `base/ID/manifest` is Postgres' own list
of them with their checksums, and `base/ID/record.json` is written last.
"""

from __future__ import annotations

import hashlib
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from backout.decoding import decode_packed
from backout.errors import BackoutError, Refused, UsageError
from backout.model.database.recovery import sort_by_wal
from backout.model.database.wal import NO_END, WalSegment, list_replayable
from backout.model.names import parse_id, parse_member, parse_segment
from backout.providers.archive.layout import Layout
from backout.providers.archive.packing import Index, Packs, Source
from backout.providers.archive.places import BASES, RECORD, make_base_prefix, make_index_key, parse_backup, record_key
from backout.providers.archive.readback import MOST_BYTES, catch_up
from backout.providers.archive.record_store import SIGNED, RecordStore, Terms
from backout.providers.archive.records import FORMAT, RULE, Record, make_unsigned_refusal, require_key
from backout.providers.archive.sealing import make_damaged_error, pack, unpack
from backout.providers.archive.wal import WalArchive, make_segment
from backout.providers.postgres.backup.base_backups import MANIFEST, combine, verify_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from backout.model.database.recovery import BaseBackup
    from backout.model.database.wal import WalGap, WalRead
    from backout.providers.archive.packing import File
    from backout.providers.archive.records import Facts
    from backout.providers.archive.sealing import Key
    from backout.providers.archive.stores import Store
    from backout.providers.archive.wal_reading import Reading
    from backout.providers.postgres.server.binaries import Binaries

_SMALL_BYTES: Final = 128 * 1024 * 1024
_SMALL_LEVEL, _LARGE_LEVEL = 3, 1
"""zstd: neither may wait for the processor; a small increment is a tenth of pgBackRest's at any level."""
_META_LEVEL: Final = 12
_FETCHES_AT_ONCE: Final = 4


class Repository:
    """Port Backups, and the storing and pruning of backups.

    Args:
        binaries: returns the Postgres programs.
        incoming: the folder that WAL is received into.
        key: the encryption key; None keeps everything readable.
        terms: which backups are accepted.
        whose: returns the system identifier of the cluster that is meant, "" where unknown; asked only when the
            store holds backups of several, whose WAL has the same names and whose positions cannot be compared.
    """

    def __init__(
        self,
        store: Store,
        binaries: Callable[[], Binaries],
        *,
        incoming: Path,
        key: Key | None,
        terms: Terms = SIGNED,
        whose: Callable[[], str] = str,
    ) -> None:
        self.store = store
        self._binaries = binaries
        self._incoming = incoming
        self._key = key
        self._terms = terms
        self._records = RecordStore(store, key, terms)
        self._whose = whose
        self._meant: str | None = None
        self._archives: dict[str, WalArchive] = {}

    # --- port Backups ------------------------------------------------------------------------------------------

    def backups(self) -> tuple[BaseBackup, ...]:
        """Return the complete ones of the cluster that may be used, in the order in which they were taken."""
        found = self._own_records()
        return sort_by_wal([each.as_backup(unsigned=self._records.is_unsigned(each)) for each in found])

    def cluster(self) -> str:
        """Return the cluster that is meant: the given one where it has backups here, else the newest; "": none.

        Raises:
            Refused: two clusters write into this store, and it is unknown which one is meant.
        """
        newest: dict[str, float] = {}
        oldest: dict[str, float] = {}
        for each in self.records():
            facts = each.facts
            newest[facts.system_identifier] = max(newest.get(facts.system_identifier, 0.0), facts.began_at)
            oldest[facts.system_identifier] = min(oldest.get(facts.system_identifier, facts.began_at), facts.began_at)
        if len(newest) <= 1:
            return next(iter(newest), "")
        if self._meant is None:
            self._meant = self._whose()
        if self._meant in newest:
            return self._meant
        latest = max(newest, key=lambda system: newest[system])
        if not self._meant and any(newest[each] > oldest[latest] for each in newest if each != latest):
            raise Refused(
                f"several clusters write their backups into this store ({', '.join(sorted(newest))}), and which one is "
                "meant is not known: the database does not answer",
                where=self.store.name,
                rule=RULE,
                options=(
                    'Say which: pin.database_system_identifier = "SYSTEM_IDENTIFIER/DATABASE" of the environment.',
                    "Then give each environment a folder or prefix of its own.",
                ),
            )
        return latest

    def others(self) -> tuple[BaseBackup, ...]:
        """Return the backups of other clusters in this store: they do not protect this one."""
        ours = self.cluster()
        found = [each for each in self.records() if each.facts.system_identifier != ours]
        return sort_by_wal([each.as_backup(unsigned=self._records.is_unsigned(each)) for each in found])

    def _own_records(self) -> tuple[Record, ...]:
        ours = self.cluster()
        return tuple(each for each in self.records() if each.facts.system_identifier == ours)

    def last_commit(self, system_identifier: str) -> float:
        """Return when the last commit was made that was read back of a cluster's WAL (Unix seconds), 0: not known."""
        return self.archive(system_identifier).reading().commit_at

    def list_refused(self) -> tuple[tuple[str, BackoutError], ...]:
        """Return the ids of those that may not be used, and why; they protect nothing."""
        return self._records.list_refused()

    def doubtful(self) -> tuple[BaseBackup, ...]:
        """Return those of them whose record can be read, oldest first: what it says is not proved."""
        return tuple(record.as_backup(unsigned=True) for record in self._records.doubtful())

    def wal(self) -> tuple[WalSegment, ...]:
        """Return the WAL of the cluster: the archive's, and what the backups brought along.

        What was written with wal_level `minimal` is left out: nothing can be replayed across it.
        """
        return list_replayable(self._whole_wal(), self._useless())

    def useless(self, names: Sequence[str]) -> tuple[WalGap, ...]:
        """Read those of these segments that were not read back yet; return the WAL that cannot be replayed."""
        archive, segments = self.archive(self.cluster()), {each.name: each for each in self._whole_wal()}
        known = now = archive.reading()
        for segment in (segments[name] for name in names if name in segments):
            is_read = segment.timeline == known.timeline and known.begin_lsn <= segment.begin_lsn
            if not (is_read and segment.end_lsn <= known.end_lsn):
                now = now.with_segment(segment, archive.read(segment.name) or b"")
        return self._useless(now)

    def _useless(self, read: Reading | None = None) -> tuple[WalGap, ...]:
        """Return the WAL that cannot be replayed; where a backup could be taken, the level is another one again."""
        found = self._own_records()
        if not found:
            return ()
        gaps = (read or self.archive(found[-1].facts.system_identifier).reading()).gaps
        begins = [(each.facts.timeline, each.facts.begin_lsn) for each in found]
        ends = [min([at for timeline, at in begins if timeline == gap.timeline and at > gap.begin_lsn], default=NO_END)
                for gap in gaps]  # fmt: skip
        return tuple(replace(gap, end_lsn=min(gap.end_lsn, end)) for gap, end in zip(gaps, ends, strict=True))

    def _whole_wal(self) -> tuple[WalSegment, ...]:
        found = self._own_records()
        if not found:
            return ()
        system = found[-1].facts.system_identifier
        archive = self.archive(system)
        said, real = archive.layout(), found[-1].facts.segment_bytes
        if said not in {None, real}:
            what = f"it says that segments have {said} bytes, and the cluster's have {real}"
            raise Refused(what, where=f"{self.store.name}/{archive.prefix}layout.json", rule=RULE)
        segments = {segment.name: segment for segment in archive.segments()}
        for record in found:
            facts = record.facts
            for name in facts.wal:
                whole = make_segment(name, facts.segment_bytes)
                end = min(whole.end_lsn, facts.end_lsn)
                ours = WalSegment(name, whole.timeline, whole.begin_lsn, end, partial=end < whole.end_lsn)
                if name not in segments or segments[name].end_lsn < end:
                    segments[name] = ours
        return tuple(sorted(segments.values(), key=lambda segment: (segment.timeline, segment.begin_lsn)))

    def read_back(self, backup: BaseBackup, most_bytes: int = MOST_BYTES) -> tuple[WalRead, tuple[WalGap, ...]]:
        """Read back the unread WAL since a backup; return how far it is read, and the WAL that is unusable."""
        read = catch_up(self.archive(backup.system_identifier), backup, self._whole_wal(), most_bytes)
        return read, self._useless()

    def unpack(self, backup: str, into: Path, progress: Callable[[int, int], None]) -> None:
        """Lay out a data directory, each block by its checksum; an incremental one is combined.

        The members of a chain are checked against Postgres' own manifests first, as nothing after it would notice.

        Raises:
            BackoutError: something is damaged or missing, by name; there is no room.
            AuthError: the key is another.
            Refused: it, or what it builds on, is not signed.
        """
        chain = self.chain(backup)
        self._records.check_lays_out(chain[-1])
        indexes = {record.facts.id: self.index(record) for record in chain}
        whole = sum(sum(file.size for file in index.files) for index in indexes.values())
        done, telling = 0, threading.Lock()

        def tell(size: int) -> None:
            nonlocal done
            with telling:
                done += size
                progress(min(done, whole), whole)

        if len(chain) == 1:
            self._layout().lay(backup, indexes, into, tell)
            if self._records.is_unsigned(chain[0]):  # nothing but Postgres' own list of files says that it is whole
                verify_folder(self._binaries(), into, f"{self.store.name}/base/{backup}")
        else:
            with tempfile.TemporaryDirectory(prefix=".combining-", dir=into.parent) as scratch:
                parts = [Path(scratch) / parse_id(record.facts.id) for record in chain]
                for part in parts:
                    part.mkdir(mode=0o700)

                def lay(part: Path) -> None:
                    self._layout().lay(part.name, indexes, part, tell)
                    verify_folder(self._binaries(), part, f"{self.store.name}/base/{part.name}")

                # Most of a small part is the making of its many files: that goes on beside the large full one.
                with ThreadPoolExecutor(_FETCHES_AT_ONCE) as pool:
                    for _ in pool.map(lay, parts):
                        pass
                combine(self._binaries(), parts, into)
                into.chmod(0o700)
        progress(whole, whole)

    def fetch_wal(self, names: Sequence[str], into: Path, laid: Callable[[str], None] = lambda _name: None) -> None:
        """Lay segments into a folder, whole, the first ones first, and history files; `laid` is told of each segment.

        Raises:
            BackoutError: one is not there, or is damaged.
            UsageError: there is no backup.
        """
        found = self._own_records()
        names = [parse_segment(name) for name in names]
        if not found:
            raise UsageError("there is no backup, and so no WAL", where=self.store.name, hint="backout db backup")
        archive = self.archive(found[-1].facts.system_identifier)
        reach = {segment.name: segment for segment in archive.segments()}

        def fetch(name: str) -> None:
            brought = [record for record in found if name in record.facts.wal]
            holder = max(brought, key=lambda record: record.facts.end_lsn, default=None)
            have = reach.get(name)
            short = have is None or (have.partial and holder is not None and have.end_lsn < holder.facts.end_lsn)
            if holder is not None and short:
                self._layout().fetch_segment(name, holder, into)
            elif not archive.fetch(name, into):
                raise make_damaged_error(f"{self.store.name}/{archive.prefix}{name}", "this segment of WAL is missing")
            laid(name)

        for name in archive.histories():  # what is replayed first is asked for first
            archive.fetch(name, into)
        with ThreadPoolExecutor(_FETCHES_AT_ONCE) as pool:
            for _ in pool.map(fetch, names):
                pass

    # --- keeping and removing ----------------------------------------------------------------------------------

    def archive(self, system_identifier: str) -> WalArchive:
        """Return the WAL of a cluster."""
        if system_identifier not in self._archives:
            made = WalArchive(self.store, system_identifier, self._incoming, self._key, self._terms)
            self._archives[system_identifier] = made
        return self._archives[system_identifier]

    def keep(self, folder: Path, facts: Facts, verified_at: float, progress: Callable[[int, int], None]) -> Record:
        """Store a backup that lies complete in a folder; what a killed attempt left of it is overwritten."""
        before: dict[str, File] = {}
        parent = None if facts.parent is None else self.record(facts.parent)
        if parent is not None:
            before = {file.path: file for file in self.index(parent).files if file.digest}
        source = Source(folder, facts.id, before)
        level = _SMALL_LEVEL if source.size <= _SMALL_BYTES else _LARGE_LEVEL
        packs = Packs(self.store, self._key).write(source, facts.id, level, progress)
        index = msgspec.msgpack.encode(Index(source.files, source.folders, packs))
        kept = self._put(make_index_key(facts.id), index)
        stored = sum(part.stored for part in packs) + len(kept)
        record = Record(
            format=FORMAT,
            facts=facts,
            stored_bytes=stored,
            index=hashlib.sha256(kept).hexdigest(),
            key=self._key.fingerprint if self._key else "",
            verified_at=verified_at,
            environment=self._terms.environment,
            parent_index=parent.index if parent else "",
        )
        self._records.write(record)
        return record

    def mark_verified(self, backup: str, at: float) -> None:
        """Record that a backup was read and found whole; of one that is not signed nothing is recorded."""
        self._records.write(msgspec.structs.replace(self.record(backup), verified_at=at))

    def manifest(self, backup: str) -> bytes:
        """Return Postgres' own manifest: an incremental one is taken against it. Raises BackoutError: it is missing."""
        record = self.record(backup)
        index = self.index(record)
        wanted = [file for file in index.files if file.path == MANIFEST]
        if not wanted:
            raise make_damaged_error(f"{self.store.name}/base/{backup}", "the manifest of this backup is missing")
        with tempfile.TemporaryDirectory() as scratch:
            self._layout().lay_files(wanted, backup, index, Path(scratch), lambda _size: None)
            return (Path(scratch) / MANIFEST).read_bytes()

    def remove(self, backups: Sequence[str]) -> None:
        """Remove backups, the newest first, each one's record before its files: none is ever there in part."""
        for backup in sorted(backups, reverse=True):
            keys = [key for key, _ in self.store.keys(make_base_prefix(backup))]
            record = record_key(backup)
            self._records.forget(backup)
            self.store.delete([record])
            self.store.delete(key for key in keys if key != record)

    def sweep(self, *, apart_from: Collection[str] = ()) -> tuple[str, ...]:
        """Remove what killed attempts left: files of backups that have no record. Return the backups' ids."""
        keys = [key for key, _ in self.store.keys(BASES)]
        complete = {parse_backup(key) for key in keys if key.endswith(f"/{RECORD}")} | set(apart_from)
        left = [key for key in keys if parse_backup(key) not in complete]
        self.store.delete(left)
        return tuple(sorted({parse_backup(key) for key in left}))

    # --- reading -----------------------------------------------------------------------------------------------

    def records(self) -> tuple[Record, ...]:
        """Return the records that may be used, oldest first."""
        return self._records.records()

    def every_record(self) -> tuple[Record, ...]:
        """Return the records that can be read, also of backups that may not be used."""
        return (*self._records.records(), *self._records.doubtful())

    def record(self, backup: str) -> Record:
        """Return one record. Raises UsageError when there is no such backup, or why it may not be used."""
        return self._records.record(backup)

    def chain(self, backup: str) -> tuple[Record, ...]:
        """Return it and all it builds on, full one first. Raises BackoutError: one is missing; Refused: not signed."""
        chain = [self.record(backup)]
        while (parent := chain[0].facts.parent) is not None:
            if any(record.facts.id == parent for record in chain):
                raise make_damaged_error(f"{self.store.name}/base/{parent}", "this backup is its own parent")
            found = self._records.find(parent)
            if found is None:
                raise make_damaged_error(
                    f"{self.store.name}/base/{parent}", f"it is missing, and {chain[0].facts.id} builds on it"
                )
            if chain[0].parent_index not in {"", found.index}:
                what = f"it is not the backup that {chain[0].facts.id} was built on"
                raise make_unsigned_refusal(parent, what, f"{self.store.name}/base/{parent}")
            chain.insert(0, found)
        return tuple(chain)

    def index(self, record: Record) -> Index:
        """Return where its files are. Raises AuthError: another key; BackoutError: damaged; Refused: a strange path."""
        name = make_index_key(record.facts.id)
        where = f"{self.store.name}/{name}"
        require_key(record, self._key, f"{self.store.name}/base/{record.facts.id}")
        data = self.store.get(name)
        if data is None:
            raise make_damaged_error(where, "the index of this backup is missing")
        if hashlib.sha256(data).hexdigest() != record.index:
            raise make_damaged_error(where, "the index of this backup is damaged")
        key = self._key if record.key else None
        try:
            index = decode_packed(unpack(name, data, key), Index)
            for path in (*index.folders, *(file.path for file in index.files)):
                parse_member(path)
        except msgspec.MsgspecError as error:
            raise make_damaged_error(where, f"the index of this backup cannot be read: {error}") from None
        except Refused as refused:
            raise Refused(f"the index of this backup is refused: {refused.what}", where=where, rule=RULE) from None
        return index

    def _layout(self) -> Layout:
        return Layout(self.store, self._key, self.record, self.index)

    def _put(self, name: str, content: bytes) -> bytes:
        kept = pack(name, content, self._key, level=_META_LEVEL)
        self.store.put(name, kept)
        return kept
