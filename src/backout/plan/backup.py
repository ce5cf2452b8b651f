"""The plan of a backup, pure: take, verify, store, prune."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.model.plan import Plan, PlanKind, Step
from backout.model.recovery import BackupKind

if TYPE_CHECKING:
    from backout.model.backups import Choice

_LANE: Final = "/backup"


def lane(environment: str) -> str:
    """Return what a backup's run keeps in the journal: not the environment, which a rollback must always find free.

    >>> lane("production"), environment_of(lane("production")), environment_of("staging")
    ('production/backup', 'production', 'staging')
    """
    return environment + _LANE


def environment_of(kept: str) -> str:
    """Return the environment of a lane, or of what is none."""
    return kept.removesuffix(_LANE)


def plan_backup(environment: str, backup: str, choice: Choice, *, fallback: bool, keep_s: float) -> Plan:
    """Return the plan; `fallback`: where the server cannot take the incremental one, take a full one instead."""
    full = choice.kind is BackupKind.FULL
    what = "full" if full else f"incremental on {choice.parent}"
    args = {"backup": backup}
    manifest = "" if full else " --incremental=PARENT/backup_manifest"
    take = {**args, "kind": choice.kind.value, "parent": choice.parent, "fallback": fallback}
    steps = (
        Step(
            "take_backup",
            f"take base backup {backup} ({what})",
            take,
            f"pg_basebackup --pgdata={backup} --checkpoint=fast --manifest-checksums=CRC32C{manifest}",
        ),
        Step("verify_backup", "check every file against Postgres' manifest", args, f"pg_verifybackup -n {backup}"),
        Step("store_backup", "store it", args),
        Step("prune_backups", "remove what backup.keep no longer needs", {**args, "keep_s": keep_s}),
    )
    return Plan(PlanKind.BACKUP, lane(environment), f"base backup {backup}: {what}", steps, notes=(choice.why,))
