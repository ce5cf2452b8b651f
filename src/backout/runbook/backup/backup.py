"""Backup: take a base backup, check it, store it, remove what is no longer needed ("Database Backup")."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.recovery.backups import choose, retain, retain_others, spare_doubtful
from backout.errors import AuthError, BackoutError, Refused
from backout.model.clock import to_utc
from backout.model.database.backups import BackupProgress, Retention
from backout.model.steps.backup import (
    PruneBackupsResult,
    PruneBackupsStep,
    StoreBackupResult,
    StoreBackupStep,
    TakeBackupResult,
    TakeBackupStep,
    VerifyBackupResult,
    VerifyBackupStep,
)
from backout.model.value import Value
from backout.plan.backup import plan_backup
from backout.ports import Action, AnyAction, Done, NotDone, find_result
from backout.runbook.action_table import ActionTable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from backout.model.database.recovery import BackupKind, BaseBackup
    from backout.model.plan import Plan
    from backout.ports import BackupKeeper, Backups, BackupTaker, Clock, Journal, LiveCluster, Probe, Runs, StepContext


class BackupTools(Value, frozen=True):
    """The ports of one environment's backups.

    Args:
        history: for each timeline but the first, the earlier ones with the position at which each was left.
        refused: returns the backups that may not be used, and why.
        doubtful: those of them that can be read.
        others: returns the backups of other clusters in the same store.
        last_commit: returns when the last commit was made that was read back from a cluster's WAL (Unix seconds), 0:
            not known.
        progress: is told the progress of a step.
        say: tells a person something at once.
    """

    environment: str
    actor: str
    clock: Clock
    journal: Journal
    runs: Runs
    cluster: LiveCluster
    backups: Backups
    taker: BackupTaker
    keeper: BackupKeeper
    full_every_s: float
    keep_s: float
    history: Callable[[], Mapping[int, Sequence[tuple[int, int]]]] = dict
    refused: Callable[[], Sequence[tuple[str, BackoutError]]] = tuple
    doubtful: Callable[[], Sequence[BaseBackup]] = tuple
    others: Callable[[], Sequence[BaseBackup]] = tuple
    last_commit: Callable[[str], float] = lambda _system: 0.0
    progress: Callable[[BackupProgress], None] = lambda _progress: None
    say: Callable[[str], None] = lambda _text: None


def prepare(tools: BackupTools, wanted: BackupKind | None) -> Plan:
    """Inspect the cluster and the existing backups, and return the plan.

    Raises:
        AuthError: the role may not replicate.
        Refused: these backups cannot hold this cluster, or an incremental one was asked for and is not possible.
    """
    cluster = tools.cluster.read()
    if not cluster.replication:
        raise AuthError(
            "the role may not take backups: it lacks REPLICATION",
            where="database",
            hint="backout db roles backup  # a role that may; its connection string goes into database.admin_url_env",
        )
    if cluster.tablespaces:
        raise Refused(
            f"the cluster has tablespaces ({', '.join(cluster.tablespaces)}), which these backups do not hold",
            where="database",
            options=("Back it up with pgBackRest, whose repository `backout db restore` reads.",),
        )
    found = tools.backups.backups()
    try:
        choice = choose(found, cluster, full_every_s=tools.full_every_s, wanted=wanted)
    except ValueError as error:
        raise Refused(
            f"no incremental backup: {error}", where="database", options=("Take a full one: backout db backup --full.",)
        ) from None
    # A backup that may not be used still has its place, and must not be overwritten.
    at, known = int(tools.clock.now()), {each.id for each in (*found, *tools.others())}
    known |= {name for name, _ in tools.refused()}
    while (backup := to_utc(at).strftime("%Y%m%d-%H%M%S")) in known:
        at += 1
    return plan_backup(tools.environment, backup, choice, fallback=wanted is None, keep_s=tools.keep_s)


def find_retention(tools: BackupTools) -> Retention:
    """Return what may be removed now."""
    return _compute_retention(tools, tools.keep_s)


def _compute_retention(tools: BackupTools, keep_s: float) -> Retention:
    try:
        timeline = tools.cluster.read().timeline
    except BackoutError:
        timeline = None  # it is not known which branch is live, so none is taken for undone
    found = tools.backups.backups()
    history = tools.history() if found and timeline is not None and timeline > 1 else {}  # the first has none
    now = tools.clock.now()
    kept = retain(found, now=now, keep_s=keep_s, timeline=timeline, history=history)
    whole = spare_doubtful(kept, found, tools.doubtful(), now=now, keep_s=keep_s)
    if kept.wal_before is None:
        return whole
    rest = retain_others(found, tools.others(), now=now, keep_s=keep_s, last_commit=tools.last_commit)
    return Retention(
        tuple(name for each in (*rest, whole) for name in each.keep),
        tuple(name for each in (whole, *rest) for name in each.remove),
        whole.wal_before,
        tuple(pair for each in rest for pair in each.others),
    )


class _Step:
    """What the steps share."""

    effect = True

    def __init__(self, tools: BackupTools) -> None:
        self._tools = tools

    def _is_stored(self, backup: str) -> bool:
        return any(each.id == backup for each in self._tools.backups.backups())

    def _hears(self, what: str) -> Callable[[int, int], None]:
        return lambda done, total: self._tools.progress(BackupProgress(what, done, total))


class TakeBackup(_Step, Action[TakeBackupStep, TakeBackupResult]):
    """Step `take_backup` {backup, kind, parent, fallback}: onto this machine; nothing is stored yet."""

    arguments = TakeBackupStep
    effect = False

    def do(self, args: TakeBackupStep, context: StepContext) -> TakeBackupResult:
        """Return {parent}: None when it became a full backup."""
        tools, backup, parent = self._tools, args.backup, args.parent
        try:
            tools.taker.take(backup, parent, self._hears("taking"))
        except Refused as refused:
            if parent is None or not args.fallback:
                raise
            tools.say(f"{refused.what}; taking a full one")
            parent = None
            tools.taker.take(backup, None, self._hears("taking"))
        return TakeBackupResult(parent=parent)

    def probe(self, args: TakeBackupStep, context: StepContext) -> Probe[TakeBackupResult]:
        """Check whether it is here, complete."""
        parent = self._tools.taker.find_staged_parent(args.backup)
        return NotDone() if parent is None else Done(TakeBackupResult(parent=parent or None))


class VerifyBackup(_Step, Action[VerifyBackupStep, VerifyBackupResult]):
    """Step `verify_backup` {backup}: every file's size and checksum against Postgres' manifest."""

    arguments = VerifyBackupStep
    effect = False

    def do(self, args: VerifyBackupStep, context: StepContext) -> VerifyBackupResult:
        """Return {at}: when it was found whole."""
        self._tools.taker.verify(args.backup)
        return VerifyBackupResult(at=self._tools.clock.now())


class StoreBackup(_Step, Action[StoreBackupStep, StoreBackupResult]):
    """Step `store_backup` {backup}: from then on the backup exists."""

    arguments = StoreBackupStep

    def do(self, args: StoreBackupStep, context: StepContext) -> StoreBackupResult:
        """Return {size_bytes, stored_bytes}.

        Raises:
            BackoutError: it was not verified, or cannot be stored.
        """
        tools, backup = self._tools, args.backup
        verified = find_result(tools.runs, context.run, VerifyBackupStep)
        if verified is None:
            raise BackoutError("the backup was not verified", where=backup)
        tools.keeper.store(backup, verified.at, self._hears("storing"))
        return self._result(backup)

    def probe(self, args: StoreBackupStep, context: StepContext) -> Probe[StoreBackupResult]:
        """Its record is written last; once that is there, the backup is done."""
        backup = args.backup
        return Done(self._result(backup)) if self._is_stored(backup) else NotDone()

    def _result(self, backup: str) -> StoreBackupResult:
        found = next(each for each in self._tools.backups.backups() if each.id == backup)
        return StoreBackupResult(size_bytes=found.size_bytes, stored_bytes=found.stored_bytes)


class PruneBackups(_Step, Action[PruneBackupsStep, PruneBackupsResult]):
    """Step `prune_backups` {backup, keep_s}: chains stay whole, the newest verified one always stays."""

    arguments = PruneBackupsStep

    def do(self, args: PruneBackupsStep, context: StepContext) -> PruneBackupsResult:
        """Return {removed, wal_segments, freed_bytes}."""
        tools = self._tools
        tools.taker.discard()
        found = _compute_retention(tools, args.keep_s)
        segments, freed = tools.keeper.remove(found)
        return PruneBackupsResult(removed=tuple(found.remove), wal_segments=len(segments), freed_bytes=freed)


_STEPS: Mapping[str, Callable[[BackupTools], AnyAction]] = {
    TakeBackupStep.action: TakeBackup,
    VerifyBackupStep.action: VerifyBackup,
    StoreBackupStep.action: StoreBackup,
    PruneBackupsStep.action: PruneBackups,
}


class BackupActions(ActionTable[BackupTools]):
    """The actions of a backup's plan, by name."""

    def __init__(self, tools: BackupTools) -> None:
        super().__init__(tools, _STEPS)
