"""Ports BackupTaker and BackupKeeper: a backup waits in `staging/ID` of the folder until it is stored.

A backup is complete when `staging/ID.json` exists; that is written last.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from backout.decoding import decode_json
from backout.errors import BackoutError, Busy, Refused
from backout.model.database.recovery import BackupKind
from backout.model.names import is_segment, parse_id
from backout.private import make_private_folder
from backout.providers.archive.holding import Holding
from backout.providers.archive.records import Facts
from backout.providers.archive.stores import FolderStore, make_not_kept_error
from backout.providers.postgres.backup.base_backups import (
    MANIFEST,
    SummariesMissing,
    read_manifest,
    take,
    verify_folder,
)
from backout.providers.postgres.tls.program_environment import make_program_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from backout.model.database.backups import Cluster, Retention
    from backout.ports import Clock
    from backout.providers.archive.origin import Origin
    from backout.providers.archive.repository import Repository
    from backout.providers.postgres.server.binaries import Binaries

_ALL: Final = 1 << 64
_ENDS_WITHIN_S: Final = 10.0
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


class StagedBackups:
    """Both ports on one folder of this machine.

    Args:
        directory: `staging` lies in it.
    """

    def __init__(self, repository: Repository, directory: Path, origin: Origin, clock: Clock) -> None:
        self._repository = repository
        self._staging = directory / "staging"
        self._notes = FolderStore(self._staging)
        self._origin = origin
        self._clock = clock

    # --- port BackupTaker --------------------------------------------------------------------------------------

    def take(self, backup: str, parent: str | None, progress: Callable[[int, int], None]) -> None:
        """Take it into the staging folder, then write the note that it is complete.

        Raises:
            Refused: the server cannot take it against that parent, its version is another one, or there is no room.
            Busy: what an interrupted one had started is still there.
            AuthError, ProviderUnavailable, BackoutError: as `base_backups.take`.
        """
        # What a killed one had started is over when the lock is free: its last process writes into the folder no more.
        with _translate_busy(), Holding(self._staging.parent, "taking").held(_ENDS_WITHIN_S) as held:
            self._take(backup, parent, held, progress)

    def _take(self, backup: str, parent: str | None, held: int, progress: Callable[[int, int], None]) -> None:
        self.discard()
        cluster = self._origin.cluster.read()
        binaries = self._origin.binaries()
        _check_version(binaries, cluster.server_version)
        folder = self._staging / parse_id(backup)
        try:
            make_private_folder(self._staging)
            free = shutil.disk_usage(self._staging).free
        except OSError as error:
            raise make_not_kept_error(error, str(self._staging)) from error
        if parent is None and free < cluster.size_bytes:
            raise Refused(
                f"no room: the cluster has {cluster.size_bytes >> 20:,} MB, and {free >> 20:,} MB are free",
                where=str(self._staging),
                options=("Name a larger disk in database.backup.directory.",),
            )
        began_at = self._clock.now()
        against = None
        if parent is not None:
            against = self._staging / f"{parse_id(parent)}.manifest"
            against.write_bytes(self._repository.manifest(parent))
        try:
            environment = make_program_environment(self._origin.dsn())
            take(binaries, environment, folder, against=against, held=held, progress=progress)
        except SummariesMissing as error:
            raise Refused(
                error.what, where=error.where, options=("Take a full one: backout db backup --full.",)
            ) from None
        facts = self._facts(folder, backup, parent, began_at, cluster)
        self._notes.put(f"{backup}.json", msgspec.json.encode(facts))

    def find_staged_parent(self, backup: str) -> str | None:
        """Return its parent ("": none), or None when nothing complete waits."""
        facts = self._waiting(backup)
        return None if facts is None else facts.parent or ""

    def verify(self, backup: str) -> None:
        """Run pg_verifybackup on what waits."""
        verify_folder(self._origin.binaries(), self._staging / parse_id(backup), backup)

    def discard(self, apart_from: Collection[str] = ()) -> None:
        """Remove the notes first, then the folders."""
        if not self._staging.is_dir():
            return
        for path in sorted(self._staging.iterdir(), key=lambda path: path.is_dir()):
            if path.name.removesuffix(".json") in apart_from:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    # --- port BackupKeeper -------------------------------------------------------------------------------------

    def store(self, backup: str, verified_at: float, progress: Callable[[int, int], None]) -> None:
        """Store what waits. After the machine's restart it is checked again first: it was never synced.

        Raises:
            BackoutError: it is no longer there, is damaged, or cannot be stored.
        """
        facts = self._waiting(backup)
        if facts is None:
            raise BackoutError(
                "the backup that was taken is no longer here", where=str(self._staging / parse_id(backup)),
                hint="backout runs abort RUN, then: backout db backup",
            )  # fmt: skip
        if facts.boot != _boot():
            self.verify(backup)
        archive = self._repository.archive(facts.system_identifier)
        archive.set_layout(facts.segment_bytes)
        self._repository.keep(self._staging / parse_id(backup), facts, verified_at, progress)

    def remove(self, retention: Retention) -> tuple[tuple[str, ...], int]:
        """Remove backups, the newest first, then WAL, then leftovers."""
        records = {record.facts.id: record for record in self._repository.every_record()}
        freed = sum(records[each].stored_bytes for each in retention.remove if each in records)
        self._repository.remove(retention.remove)
        self._repository.sweep()
        kept = [records[each].facts.system_identifier for each in retention.keep if each in records]
        if retention.wal_before is None or not kept:
            return (), freed
        gone = list(self._repository.archive(kept[-1]).remove_before(retention.wal_before))
        for system, before in retention.others:
            gone += self._repository.archive(system).remove_before(before)
        ended = {records[each].facts.system_identifier for each in retention.remove if each in records} - set(kept)
        for system in sorted(ended):  # a cluster without any backup left
            gone += self._repository.archive(system).remove_before(_ALL)
        return tuple(name for name, _ in gone), freed + sum(size for _, size in gone)

    def check(self, backup: str, progress: Callable[[int, int], None]) -> None:
        """Unpack a stored backup beside the staging folder, with everything it builds on, and check it all.

        Raises:
            Busy: another process reads one here.
            BackoutError: what is damaged, by name.
        """
        scratch = self._staging.with_name("checking")
        with Holding(scratch.parent, "check").held():
            shutil.rmtree(scratch, ignore_errors=True)  # of one that was killed
            try:
                (scratch / "data").mkdir(mode=0o700, parents=True)
                self._repository.unpack(backup, scratch / "data", progress)
                verify_folder(self._origin.binaries(), scratch / "data", backup)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
        self._repository.mark_verified(backup, self._clock.now())

    # --- inside ------------------------------------------------------------------------------------------------

    def _waiting(self, backup: str) -> Facts | None:
        note = self._notes.get(f"{parse_id(backup)}.json")
        if note is None or not (self._staging / parse_id(backup) / MANIFEST).is_file():
            return None
        return decode_json(note, Facts, what="the note of a backup that waits", where=backup)

    def _facts(self, folder: Path, backup: str, parent: str | None, began_at: float, cluster: Cluster) -> Facts:
        manifest = read_manifest((folder / MANIFEST).read_bytes())
        wal = sorted(path.name for path in (folder / "pg_wal").iterdir() if is_segment(path.name))
        size = sum(
            os.stat(os.path.join(place, name)).st_size  # noqa: PTH116, PTH118 pathlib costs 10 us for each file
            for place, _, names in os.walk(folder)
            for name in names
        )
        return Facts(
            id=backup,
            kind=BackupKind.FULL if parent is None else BackupKind.INCREMENTAL,
            parent=parent,
            began_at=began_at,
            ended_at=self._clock.now(),
            begin_lsn=manifest.begin_lsn,
            end_lsn=manifest.end_lsn,
            timeline=manifest.timeline,
            system_identifier=manifest.system_identifier or cluster.system_identifier,
            server_version=cluster.server_version,
            segment_bytes=cluster.segment_bytes,
            size_bytes=size,
            wal=tuple(wal),
            boot=_boot(),
        )


@contextlib.contextmanager
def _translate_busy() -> Iterator[None]:
    try:
        yield
    except Busy as error:
        what = "the pg_basebackup of another backup, which may have been interrupted, still runs"
        raise Busy(what, where=error.where, hint="pgrep -a pg_basebackup, and end it") from error


def _check_version(binaries: Binaries, server_version: int) -> None:
    ours, theirs = binaries.version().partition(".")[0], str(server_version // 10000)
    if ours != theirs:
        raise Refused(
            f"the server is version {theirs}, the programs here are version {ours}",
            where=str(binaries.directory),
            options=(f"Name the folder of version {theirs}'s programs in database.binaries.",),
        )


def _boot() -> str:
    with contextlib.suppress(OSError):
        return _BOOT.read_text(encoding="ascii").strip()
    return ""
