"""Backups of the database: the repository, the steps of a backup, and the receiver of WAL, from a configuration."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from backout import wiring
from backout.errors import BackoutError, UsageError
from backout.model.setting import setting
from backout.providers.archive.origin import Origin
from backout.providers.archive.record_store import Terms
from backout.providers.archive.repository import Repository
from backout.providers.archive.sealing import Key
from backout.providers.archive.stores import FolderStore
from backout.providers.archive.taking import StagedBackups
from backout.providers.clock import SystemClock
from backout.providers.postgres.binaries import find_binaries
from backout.providers.postgres.cluster import PostgresCluster
from backout.runbook.backup import BackupTools

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from contextlib import AbstractContextManager

    from backout.config import Config
    from backout.config.schema.environment import Backup
    from backout.journal.stop import StopRequest
    from backout.model.backups import BackupProgress, Cluster, LastProof, Protection
    from backout.providers.archive.stores import Store
    from backout.providers.postgres.binaries import Binaries


_DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class BackupHooks:
    """What a command wants to hear, see `BackupTools`."""

    stop: StopRequest | None = None
    progress: Callable[[BackupProgress], None] = lambda _progress: None
    say: Callable[[str], None] = lambda _text: None


def backup_settings(config: Config) -> Backup:
    """Return the section. Raises UsageError without a database, Refused when it names a file of programs."""
    database = config.environment.database
    if database is None:
        raise UsageError(
            f"environments.{config.name} has no database",
            where=str(config.path),
            hint=setting("environments", config.name, "database", provider="postgres", url_env="DATABASE_URL"),
        )
    config.refuse_withheld("database.backup.pgbackrest.config")
    return database.backup


def binaries(config: Config) -> Binaries:
    """Return the Postgres programs. Raises UsageError when there are none."""
    database = config.environment.database
    return find_binaries(database.binaries if database else None)


def slot_name(config: Config) -> str:
    """Return the name of the receiver's slot, which is also its application_name."""
    return "backout_" + "".join(c if c.isascii() and c.isalnum() else "_" for c in config.name.lower())


def store(config: Config) -> Store:
    """Return where backups are kept. Raises AuthError: the bucket's access key is not set."""
    settings = backup_settings(config).store
    if settings is None:
        return FolderStore(config.backup_directory)
    from backout.providers.archive.bucket import BucketStore  # noqa: PLC0415 only with a bucket
    from backout.providers.s3.client import S3Client  # noqa: PLC0415 same
    from backout.providers.s3.sigv4 import S3Credentials  # noqa: PLC0415 same
    from backout.providers.s3.transport import S3Settings  # noqa: PLC0415 same

    access = config.backup_access()
    endpoint = str(settings.endpoint or access.endpoint)
    if not endpoint:
        raise UsageError(
            "the backups' bucket has no endpoint", where=f"environments.{config.name}.database.backup.store"
        )
    credentials = S3Credentials(access.access_key_id, access.secret_access_key.reveal())
    client = S3Client(S3Settings(endpoint, credentials), SystemClock())
    return BucketStore(client, settings.bucket, f"{settings.prefix.strip('/')}/{config.name}")


def repository(
    config: Config, accepted: Collection[str] = (), *, lays_out: bool = True, whose: Callable[[], str] | None = None
) -> Repository:
    """Return port Backups.

    Args:
        accepted: the ids of what a person takes although it is not signed. lays_out: see `Terms`.
        whose: which cluster is meant where the store holds several; None: the pinned one, or the one that answers.

    Raises:
        AuthError: the key, or the bucket's, is not set. UsageError: no database, or the programs are missing.
    """
    found = config.backup_key()
    key = None if found is None else Key.parse(found.reveal())
    incoming, terms = config.backup_directory / "incoming", Terms(config.name, frozenset(accepted), lays_out)
    asked = whose or (lambda: _whose(config))
    return Repository(store(config), lambda: binaries(config), incoming=incoming, key=key, terms=terms, whose=asked)


def _whose(config: Config) -> str:
    pinned = config.environment.pin.database_system_identifier
    if pinned:
        return pinned.partition("/")[0]
    try:
        return cluster(config).read().system_identifier
    except BackoutError:
        return ""


def cluster(config: Config) -> PostgresCluster:
    """Return the live cluster, asked as who may replicate."""
    database = config.environment.database
    timeout_s = float(database.connect_timeout) if database else 5.0
    return PostgresCluster(lambda: config.database_admin_url().reveal(), slot_name(config), connect_timeout_s=timeout_s)


def origin(config: Config) -> Origin:
    """Return the cluster as backups reach it: through the TLS proxy where the programs have no TLS."""
    from backout.providers.postgres.tls_access import PlainAccess  # noqa: PLC0415 with the first program

    reached = PlainAccess(lambda: config.database_admin_url().reveal(), lambda: binaries(config).has_tls())
    return Origin(lambda: binaries(config), reached.dsn, cluster(config))


def backup_tools(config: Config, hooks: BackupHooks, accepted: Collection[str] = ()) -> BackupTools:
    """Return the ports of the environment's backups; they need no token of the platform."""
    settings, kept, source = backup_settings(config), repository(config, accepted), origin(config)
    staged = StagedBackups(kept, config.backup_directory, source, SystemClock())
    book = wiring.journal(config, hooks.stop)

    def history() -> Mapping[int, Sequence[tuple[int, int]]]:
        from backout.providers.postgres.walsearch import WalSearch  # noqa: PLC0415 only where something may go

        return WalSearch(binaries(config), kept, config.backup_directory / "history").history()

    return BackupTools(
        environment=config.name,
        actor=wiring.actor(),
        clock=SystemClock(),
        journal=book,
        runs=book,
        cluster=source.cluster,
        backups=kept,
        taker=staged,
        keeper=staged,
        full_every_s=float(settings.full_every),
        keep_s=float(settings.keep),
        history=history,
        refused=kept.refused,
        doubtful=kept.doubtful,
        others=kept.others,
        last_commit=kept.last_commit,
        progress=hooks.progress,
        say=hooks.say,
    )


def protection(
    config: Config, live: Cluster | None = None, *, most_bytes: int | None = None, known: Repository | None = None
) -> Protection:
    """Return whether the live cluster could be brought back now: the one answer of every command, and of the receiver.

    Args:
        live: the cluster where it was asked already. most_bytes: of WAL that is read for it, where nobody has read it
            yet; None: as much as a command may wait for. known: of who asks again and again, so that only what is new
            is listed; what is wrong by that is looked at as a whole before it is said.

    Raises:
        ProviderUnavailable, AuthError: it does not answer.
    """
    from backout.analysis.backups import base_of, proof_alarm  # noqa: PLC0415 only when somebody asks
    from backout.analysis.backups import protection as judged  # noqa: PLC0415 same
    from backout.providers.archive.gaps import read_gaps  # noqa: PLC0415 same
    from backout.providers.archive.readback import MOST_BYTES  # noqa: PLC0415 same

    state = live or cluster(config).read()
    kept = known or repository(config, whose=lambda: state.system_identifier)
    live, found = state, kept.backups()
    base, wal = base_of(live, found), kept.wal()  # what is received after this is read, and not asked for
    read, useless = (
        (None, ()) if base is None else kept.read_back(base, MOST_BYTES if most_bytes is None else most_bytes)
    )
    judgement = judged(live, found, wal, (*read_gaps(config.backup_directory), *useless), read)
    if known is not None and not judgement.protected and base is not None:
        kept.archive(base.system_identifier).look_anew()
    last, within_s = last_proof(config), float(backup_settings(config).prove_within)
    return replace(judgement, proved_at=last.at, alarm=proof_alarm(last, found, SystemClock().now(), within_s))


def proof_alarm(config: Config) -> str:
    """Return why somebody has to look after the proofs of the backups, "" for nothing, or where there are none.

    For where no WAL is received: `protection` says it, too, where some is.
    """
    from backout.analysis.backups import proof_alarm as judged  # noqa: PLC0415 only when somebody asks

    if backup_settings(config).store is None and not config.backup_directory.is_dir():
        return ""
    try:
        found = repository(config).backups()
    except BackoutError:  # which the commands for backups say
        return ""
    return judged(last_proof(config), found, SystemClock().now(), float(backup_settings(config).prove_within))


def teller_of_proofs(config: Config) -> Callable[[str], None]:
    """Return what tells through the channels why a proof failed."""
    from backout.analysis.backups import failed_proof  # noqa: PLC0415 only when one failed

    return lambda why: tell_unproved(config, failed_proof(why))


def tell_unproved(config: Config, alarm: str) -> None:
    """Tell that the backups are not proved, the same alarm once a day; nothing happens without a channel."""
    from backout.model.notice import Notice, NoticeKind  # noqa: PLC0415 only when something is told
    from backout.report.notice import unproved  # noqa: PLC0415 same
    from backout.wiring.telling import notifier  # noqa: PLC0415 same

    courier, now = notifier(config), SystemClock().now()
    if courier is None:
        return
    words, day = unproved(config.name, alarm), int(now // _DAY_S)
    key = f"{config.name}:{NoticeKind.UNPROVED}:{zlib.crc32(alarm.encode()):08x}:{day}"
    courier.tell(
        Notice(
            NoticeKind.UNPROVED, config.name, now, words.title, words.text, key=key, next=words.next, facts=words.facts
        )
    )


def proving(config: Config) -> AbstractContextManager[None]:
    """Return what keeps others from proving at the same time. Raises Busy: somebody does."""
    from backout.providers.archive.holding import Holding  # noqa: PLC0415 only where one is made

    return Holding(config.backup_directory, "proof").held()


def last_proof(config: Config) -> LastProof:
    """Return what the journal knows of proofs; nothing where it cannot be read, which is said elsewhere."""
    from backout.model.backups import LastProof  # noqa: PLC0415 only when somebody asks
    from backout.runbook.backup_proof import PROOF_FAILED, PROVED  # noqa: PLC0415 same

    found = LastProof()
    try:
        for event in wiring.journal(config, hurried=True).events(environment=config.name, kind="database.backup.*"):
            if event.kind == PROVED:
                found = LastProof(float(str(event.data["at"])))
            elif event.kind == PROOF_FAILED:
                found = LastProof(found.at, str(event.data["why"]))
    except BackoutError:
        return LastProof()
    return found
