"""Backup: take a base backup, check it, store it, remove what is no longer needed ("Database Backup")."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backout.analysis.backups import choose, retain, retain_others, spare
from backout.errors import AuthError, BackoutError, Refused
from backout.model.backups import BackupProgress, Retention
from backout.model.clock import utc
from backout.plan.backup import plan_backup
from backout.ports import Action, Done, NotDone

if TYPE_CHECKING:
    from backout.model.plan import Json, Plan
    from backout.model.recovery import BackupKind, BaseBackup
    from backout.ports import BackupKeeper, Backups, BackupTaker, Clock, Journal, LiveCluster, Probe, Runs, StepContext


@dataclass(frozen=True, slots=True)
class BackupTools:
    """The ports of one environment's backups.

    Args:
        history: of each timeline but the first, those before it with the position at which each was left.
        refused: returns the backups that may not be used, and why. doubtful: those of them that can be read.
        others: returns the backups of other clusters in the same store. last_commit: returns when the last commit of a
            cluster was made that was read back of its WAL (Unix seconds), 0: not known.
        progress: hears how far a step is. say: tells a person something at once.
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
    """Look at the cluster and at what there is, and return the plan.

    Raises:
        AuthError: the role may not replicate. Refused: these backups cannot hold this cluster, or an incremental one
            was asked for and is not possible.
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
    # One that may not be used lies in its place all the same, and must not be written over.
    at, known = int(tools.clock.now()), {each.id for each in (*found, *tools.others())}
    known |= {name for name, _ in tools.refused()}
    while (backup := utc(at).strftime("%Y%m%d-%H%M%S")) in known:
        at += 1
    return plan_backup(tools.environment, backup, choice, fallback=wanted is None, keep_s=tools.keep_s)


def retention(tools: BackupTools) -> Retention:
    """Return what may go now."""
    return _retention(tools, tools.keep_s)


def _retention(tools: BackupTools, keep_s: float) -> Retention:
    try:
        timeline = tools.cluster.read().timeline
    except BackoutError:
        timeline = None  # nobody knows which branch lives, so none is taken for undone
    found = tools.backups.backups()
    history = tools.history() if found and timeline is not None and timeline > 1 else {}  # the first has none
    now = tools.clock.now()
    kept = retain(found, now=now, keep_s=keep_s, timeline=timeline, history=history)
    whole = spare(kept, found, tools.doubtful(), now=now, keep_s=keep_s)
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

    def _stored(self, backup: str) -> bool:
        return any(each.id == backup for each in self._tools.backups.backups())

    def _hears(self, what: str) -> Callable[[int, int], None]:
        return lambda done, total: self._tools.progress(BackupProgress(what, done, total))


class TakeBackup(_Step):
    """Step `take_backup` {backup, kind, parent, fallback}: onto this machine, nothing is stored yet."""

    effect = False

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002 the Action protocol
        """Return {parent}: None when it became a full backup."""
        tools, backup = self._tools, str(args["backup"])
        parent = None if args["parent"] is None else str(args["parent"])
        try:
            tools.taker.take(backup, parent, self._hears("taking"))
        except Refused as refused:
            if parent is None or not args["fallback"]:
                raise
            tools.say(f"{refused.what}; taking a full one")
            parent = None
            tools.taker.take(backup, None, self._hears("taking"))
        return {"parent": parent}

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """Look whether it waits here complete."""
        parent = self._tools.taker.taken(str(args["backup"]))
        return NotDone() if parent is None else Done({"parent": parent or None})


class VerifyBackup(_Step):
    """Step `verify_backup` {backup}: every file's size and checksum against Postgres' manifest."""

    effect = False

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002
        """Return {at}: when it was found whole."""
        self._tools.taker.verify(str(args["backup"]))
        return {"at": self._tools.clock.now()}

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """Reading has no effect; it is done again."""
        return NotDone()


class StoreBackup(_Step):
    """Step `store_backup` {backup}: from here on it exists."""

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002
        """Return {size_bytes, stored_bytes}."""
        tools, backup = self._tools, str(args["backup"])
        verified = tools.runs.result(context.run, "verify_backup")
        if not isinstance(verified, dict):
            raise BackoutError("the backup was not verified", where=backup)
        tools.keeper.store(backup, float(str(verified["at"])), self._hears("storing"))
        return self._result(backup)

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """Its record is written last; with it, the backup is there."""
        backup = str(args["backup"])
        return Done(self._result(backup)) if self._stored(backup) else NotDone()

    def _result(self, backup: str) -> Json:
        found = next(each for each in self._tools.backups.backups() if each.id == backup)
        return {"size_bytes": found.size_bytes, "stored_bytes": found.stored_bytes}


class PruneBackups(_Step):
    """Step `prune_backups` {backup, keep_s}: chains stay whole, the newest verified one always stays."""

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002
        """Return {removed, wal_segments, freed_bytes}."""
        tools = self._tools
        tools.taker.discard()
        found = _retention(tools, float(str(args["keep_s"])))
        segments, freed = tools.keeper.remove(found)
        return {"removed": list(found.remove), "wal_segments": len(segments), "freed_bytes": freed}

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """Removing again removes the rest."""
        return NotDone()


_STEPS: Mapping[str, Callable[[BackupTools], Action]] = {
    "take_backup": TakeBackup,
    "verify_backup": VerifyBackup,
    "store_backup": StoreBackup,
    "prune_backups": PruneBackups,
}


class BackupActions(Mapping[str, Action]):
    """The actions of a backup's plan, by name."""

    def __init__(self, tools: BackupTools) -> None:
        self._tools = tools

    def __getitem__(self, name: str) -> Action:
        """Return the action of that name."""
        return _STEPS[name](self._tools)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(_STEPS)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(_STEPS)
