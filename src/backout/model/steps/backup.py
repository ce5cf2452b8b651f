"""The steps of a base backup: take, verify, store, prune."""

from __future__ import annotations

from typing import ClassVar

from backout.model.database.recovery import BackupKind
from backout.model.steps.base import Arguments, Result


class TakeBackupResult(Result, frozen=True, kw_only=True):
    """Id of the backup that it builds on; None where it became a full one."""

    parent: str | None


class TakeBackupStep(Arguments[TakeBackupResult], frozen=True, kw_only=True):
    """Take a base backup onto this machine.

    Args:
        parent: id of the backup that an incremental one builds on, None for a full one.
        fallback: take a full backup where the server cannot take an incremental one.
    """

    action: ClassVar[str] = "take_backup"
    backup: str
    kind: BackupKind
    parent: str | None
    fallback: bool


class VerifyBackupResult(Result, frozen=True, kw_only=True):
    """When it was verified, in Unix seconds."""

    at: float


class VerifyBackupStep(Arguments[VerifyBackupResult], frozen=True, kw_only=True):
    """Check every file against Postgres' manifest."""

    action: ClassVar[str] = "verify_backup"
    backup: str


class StoreBackupResult(Result, frozen=True, kw_only=True):
    """Its size in bytes: as files, and as stored."""

    size_bytes: int
    stored_bytes: int


class StoreBackupStep(Arguments[StoreBackupResult], frozen=True, kw_only=True):
    """Store it."""

    action: ClassVar[str] = "store_backup"
    backup: str


class PruneBackupsResult(Result, frozen=True, kw_only=True):
    """Ids of the removed backups, the number of removed WAL segments, and of bytes."""

    removed: tuple[str, ...]
    wal_segments: int
    freed_bytes: int


class PruneBackupsStep(Arguments[PruneBackupsResult], frozen=True, kw_only=True):
    """Remove backups and WAL that are older than `keep_s` seconds and no longer needed."""

    action: ClassVar[str] = "prune_backups"
    backup: str
    keep_s: float
