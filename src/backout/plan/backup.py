"""The plan of a backup, pure: take, verify, store, prune."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.model.database.recovery import BackupKind
from backout.model.plan import Plan, PlanKind, Step
from backout.model.steps.backup import PruneBackupsStep, StoreBackupStep, TakeBackupStep, VerifyBackupStep

if TYPE_CHECKING:
    from backout.model.database.backups import Choice

_LANE: Final = "/backup"


def name_lane(environment: str) -> str:
    """Return what a backup's run keeps in the journal: not the environment, which a rollback must always find free.

    >>> name_lane("production"), get_environment(name_lane("production")), get_environment("staging")
    ('production/backup', 'production', 'staging')
    """
    return environment + _LANE


def get_environment(kept: str) -> str:
    """Return the environment of a lane, or of what is none."""
    return kept.removesuffix(_LANE)


def plan_backup(environment: str, backup: str, choice: Choice, *, fallback: bool, keep_s: float) -> Plan:
    """Return the plan; `fallback`: where the server cannot take the incremental one, take a full one instead."""
    full = choice.kind is BackupKind.FULL
    what = "full" if full else f"incremental on {choice.parent}"
    manifest = "" if full else " --incremental=PARENT/backup_manifest"
    take = TakeBackupStep(backup=backup, kind=choice.kind, parent=choice.parent, fallback=fallback)
    verify, prune = VerifyBackupStep(backup=backup), PruneBackupsStep(backup=backup, keep_s=keep_s)
    steps = (
        Step.of(
            f"take base backup {backup} ({what})",
            take,
            f"pg_basebackup --pgdata={backup} --checkpoint=fast --manifest-checksums=CRC32C{manifest}",
        ),
        Step.of("check every file against Postgres' manifest", verify, f"pg_verifybackup -n {backup}"),
        Step.of("store it", StoreBackupStep(backup=backup)),
        Step.of("remove what backup.keep no longer needs", prune),
    )
    return Plan(PlanKind.BACKUP, name_lane(environment), f"base backup {backup}: {what}", steps, notes=(choice.why,))
