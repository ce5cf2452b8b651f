"""Backups of the database: the repository, the steps of a backup, and the receiver of WAL, from a configuration."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.errors import BackoutError, Untrusted, UsageError
from backout.model.setting import describe_setting
from backout.model.value import Value
from backout.providers.archive.origin import Origin
from backout.providers.archive.record_store import Terms
from backout.providers.archive.repository import Repository
from backout.providers.archive.sealing import Key
from backout.providers.archive.stores import FolderStore
from backout.providers.archive.taking import StagedBackups
from backout.providers.clock import SystemClock
from backout.providers.postgres.restore.cluster import PostgresCluster
from backout.providers.postgres.server.binaries import find_binaries
from backout.runbook.backup.backup import BackupTools
from backout.wiring.records import find_actor, open_journal

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from contextlib import AbstractContextManager

    from backout.config import Config
    from backout.config.schema.environment import Backup
    from backout.journal.stop import StopRequest
    from backout.model.database.backups import BackupProgress, Cluster, LastProof, Protection
    from backout.ports import Journal
    from backout.providers.archive.stores import Store
    from backout.providers.postgres.server.binaries import Binaries


_DAY_S: Final = 86_400


class BackupHooks(Value, frozen=True):
    """The callbacks of a command, see `BackupTools`."""

    stop: StopRequest | None = None
    progress: Callable[[BackupProgress], None] = lambda _progress: None
    say: Callable[[str], None] = lambda _text: None


def get_backup_settings(config: Config) -> Backup:
    """Return the section. Raises UsageError without a database, Refused when it names a file of programs."""
    database = config.environment.database
    if database is None:
        raise UsageError(
            f"environments.{config.name} has no database",
            where=str(config.path),
            hint=describe_setting("environments", config.name, "database", provider="postgres", url_env="DATABASE_URL"),
        )
    config.refuse_withheld("database.backup.pgbackrest.config")
    return database.backup


def get_binaries(config: Config) -> Binaries:
    """Return the Postgres programs. Raises UsageError when there are none."""
    database = config.environment.database
    return find_binaries(database.binaries if database else None)


def get_slot_name(config: Config) -> str:
    """Return the name of the receiver's slot, which is also its application_name."""
    return "backout_" + "".join(c if c.isascii() and c.isalnum() else "_" for c in config.name.lower())


def make_store(config: Config) -> Store:
    """Return where backups are kept.

    Raises:
        AuthError: the bucket's access key is not set.
        UsageError: the bucket has no endpoint; otherwise as `get_backup_settings`.
    """
    settings = get_backup_settings(config).store
    if settings is None:
        return FolderStore(config.places.backups)
    from backout.providers.archive.bucket import BucketStore
    from backout.providers.s3.client import S3Client
    from backout.providers.s3.sigv4 import S3Credentials
    from backout.providers.s3.transport import S3Settings

    access = config.backup_access()
    endpoint = str(settings.endpoint or access.endpoint)
    if not endpoint:
        raise UsageError(
            "the backups' bucket has no endpoint", where=f"environments.{config.name}.database.backup.store"
        )
    credentials = S3Credentials(access.access_key_id, access.secret_access_key.reveal())
    client = S3Client(S3Settings(endpoint, credentials), SystemClock())
    return BucketStore(client, settings.bucket, f"{settings.prefix.strip('/')}/{config.name}")


def make_repository(
    config: Config, accepted: Collection[str] = (), *, lays_out: bool = True, whose: Callable[[], str] | None = None
) -> Repository:
    """Return port Backups.

    Args:
        accepted: the ids of what a person takes although it is not signed.
        lays_out: see `Terms`.
        whose: which cluster is meant where the store holds several; None: the pinned one, or the one that answers.

    Raises:
        AuthError: the key, or the bucket's, is not set.
        UsageError: no database, or the programs are missing.
    """
    found = config.backup_key()
    key = None if found is None else Key.parse(found.reveal())
    incoming, terms = config.places.backups / "incoming", Terms(config.name, frozenset(accepted), lays_out)
    asked = whose or (lambda: _describe_owner(config))
    return Repository(
        make_store(config), lambda: get_binaries(config), incoming=incoming, key=key, terms=terms, whose=asked
    )


def _describe_owner(config: Config) -> str:
    pinned = config.environment.pin.database_system_identifier
    if pinned:
        return pinned.partition("/")[0]
    try:
        return make_cluster(config).read().system_identifier
    except BackoutError:
        return ""


def make_cluster(config: Config) -> PostgresCluster:
    """Return the live cluster, asked with a role that may replicate."""
    database = config.environment.database
    timeout_s = float(database.connect_timeout) if database else 5.0
    return PostgresCluster(
        lambda: config.database_admin_url().reveal(), get_slot_name(config), connect_timeout_s=timeout_s
    )


def make_origin(config: Config) -> Origin:
    """Return the cluster as backups reach it: through the TLS proxy where the programs have no TLS."""
    from backout.providers.postgres.tls.routes import PlainAccess

    reached = PlainAccess(lambda: config.database_admin_url().reveal(), lambda: get_binaries(config).has_tls())
    return Origin(lambda: get_binaries(config), reached.dsn, make_cluster(config))


def make_backup_tools(config: Config, hooks: BackupHooks, accepted: Collection[str] = ()) -> BackupTools:
    """Return the ports of the environment's backups; they need no token of the platform."""
    settings, kept, source = get_backup_settings(config), make_repository(config, accepted), make_origin(config)
    staged = StagedBackups(kept, config.places.backups, source, SystemClock())
    book = open_journal(config, hooks.stop)

    def history() -> Mapping[int, Sequence[tuple[int, int]]]:
        from backout.providers.postgres.restore.wal_search import WalSearch

        return WalSearch(get_binaries(config), kept, config.places.backups / "history").history()

    return BackupTools(
        environment=config.name,
        actor=find_actor(),
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
        refused=kept.list_refused,
        doubtful=kept.doubtful,
        others=kept.others,
        last_commit=kept.last_commit,
        progress=hooks.progress,
        say=hooks.say,
    )


def judge_protection(
    config: Config, live: Cluster | None = None, *, most_bytes: int | None = None, known: Repository | None = None
) -> Protection:
    """Return whether the live cluster could be brought back now: the one answer of every command, and of the receiver.

    Args:
        live: the cluster where it was asked already.
        most_bytes: of WAL that is read for it, where it was not read yet; None: as much as a command may wait for.
        known: of who asks again and again, so that only what is new is listed; what is wrong by that is looked at as a
            whole before it is said.

    Raises:
        ProviderUnavailable, AuthError: it does not answer.
    """
    from backout.analysis.recovery.backups import explain_proof_alarm, find_base
    from backout.analysis.recovery.backups import judge_protection as judged
    from backout.providers.archive.gaps import read_gaps
    from backout.providers.archive.readback import MOST_BYTES

    state = live or make_cluster(config).read()
    kept = known or make_repository(config, whose=lambda: state.system_identifier)
    live, found = state, kept.backups()
    base, wal = find_base(live, found), kept.wal()  # what is received after this is read, and not asked for
    read, useless = (
        (None, ()) if base is None else kept.read_back(base, MOST_BYTES if most_bytes is None else most_bytes)
    )
    judgement = judged(live, found, wal, (*read_gaps(config.places.backups), *useless), read)
    if known is not None and not judgement.protected and base is not None:
        kept.archive(base.system_identifier).look_anew()
    last, within_s = find_last_proof(config), float(get_backup_settings(config).prove_within)
    return replace(judgement, proved_at=last.at, alarm=explain_proof_alarm(last, found, SystemClock().now(), within_s))


def explain_proof_alarm(config: Config) -> str:
    """Return why the proofs of the backups need attention, "" for nothing, or where there are none.

    For where no WAL is received: `judge_protection` says it, too, where some is.
    """
    from backout.analysis.recovery.backups import explain_proof_alarm as judged

    try:
        if get_backup_settings(config).store is None and not config.places.backups.is_dir():
            return ""
    except Untrusted as error:
        return f"{error.what} ({'; '.join(error.mistakes)})"
    try:
        found = make_repository(config).backups()
    except BackoutError:  # which the commands for backups say
        return ""
    return judged(find_last_proof(config), found, SystemClock().now(), float(get_backup_settings(config).prove_within))


def make_proof_teller(config: Config) -> Callable[[str], None]:
    """Return what tells through the channels why a proof failed."""
    from backout.analysis.recovery.backups import make_failed_proof_alarm

    return lambda why: tell_unproved(config, make_failed_proof_alarm(why))


def tell_unproved(config: Config, alarm: str) -> None:
    """Tell that the backups are not proved, the same alarm once a day; nothing happens without a channel."""
    from backout.model.incident.notice import Notice, NoticeKind
    from backout.report.incident.notice import describe_unproved
    from backout.wiring.telling import make_notifier

    dispatcher, now = make_notifier(config), SystemClock().now()
    if dispatcher is None:
        return
    words, day = describe_unproved(config.name, alarm), int(now // _DAY_S)
    key = f"{config.name}:{NoticeKind.UNPROVED}:{zlib.crc32(alarm.encode()):08x}:{day}"
    dispatcher.tell(
        Notice(
            NoticeKind.UNPROVED, config.name, now, words.title, words.text, key=key, next=words.next, facts=words.facts
        )
    )


def proving(config: Config) -> AbstractContextManager[int]:
    """Return a lock against simultaneous proofs. Raises Busy: another process is proving."""
    from backout.providers.archive.holding import Holding

    return Holding(config.places.backups, "proof").held()


def find_last_proof(config: Config) -> LastProof:
    """Return what the journal knows of proofs; nothing where it cannot be read, which is said elsewhere."""
    from backout.model.database.backups import LastProof

    try:
        return read_last_proof(open_journal(config, hurried=True), config.name)
    except BackoutError:
        return LastProof()


def read_last_proof(journal: Journal, environment: str) -> LastProof:
    """Return what a journal knows of proofs. Raises JournalUnavailable: it cannot be read."""
    from backout.decoding import decode_values
    from backout.model.database.backups import LastProof
    from backout.runbook.backup.proof import PROOF_FAILED, PROVED

    found = LastProof()
    for event in journal.events(environment=environment, kind="database.backup.*"):
        if event.kind == PROVED:
            found = LastProof(decode_values(event.data["at"], float))
        elif event.kind == PROOF_FAILED:
            found = LastProof(found.at, str(event.data["why"]))
    return found
