"""The receiver of WAL and its watchdog: in the foreground, in the background, and their state."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Final

from backout.analysis.recovery.backups import explain_slot_alarm
from backout.config.secret_names import list_secret_variables
from backout.config.trust import TRUST_ENV
from backout.errors import BackoutError, Refused, UsageError
from backout.model.incident.notice import Notice, NoticeKind
from backout.model.setting import describe_setting
from backout.model.value import Value
from backout.private import make_private_folder, open_unlinked
from backout.providers.archive.holding import Holding
from backout.providers.archive.receiver_options import ReceiverOptions
from backout.providers.archive.receiver_status import read_status
from backout.providers.archive.receiving import WalReceiver
from backout.providers.child_environment import make_bare_environment, make_module_command
from backout.providers.clock import SystemClock
from backout.providers.postgres.server.replication import Replication, check_receivable
from backout.providers.postgres.server.sync_watch import SyncWatch
from backout.report.incident.notice import describe_protection as protection_words
from backout.runbook.recovery.tools import PROMISE_LOST
from backout.wiring.db import backups
from backout.wiring.records import find_actor, open_journal

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.config import Config
    from backout.model.database.backups import Cluster, Protection
    from backout.model.plan import Json
    from backout.providers.archive.receiver_status import ReceiverStatus
    from backout.providers.postgres.server.sync_watch import Promise

_UP_S: Final = 20.0
_DOWN_S: Final = 20.0
_POLL_S: Final = 0.05
_LOG: Final = "receiver.log"
_LONGEST_LOG_BYTES: Final = 1024 * 1024
_ALL: Final = 1 << 62
_PARTIAL_EVERY_S: Final = 10.0
"""How often a bucket gets what was received of the newest segment: what the loss of this machine may cost."""


class WalState(Value, frozen=True):
    """The state of the receiver. `alarm`: what needs attention, "" for nothing."""

    pid: int | None
    watchdog: int | None
    status: ReceiverStatus | None
    cluster: Cluster
    protection: Protection
    alarm: str


def get_mode(config: Config) -> str:
    """Return `stream` or `sync`. Raises Refused when backup.wal is off."""
    wanted = backups.get_backup_settings(config).wal
    if wanted == "off":
        raise Refused(
            'backup.wal is "off"',
            where=str(config.path),
            options=(describe_setting("environments", config.name, "database", "backup", wal="stream"),),
        )
    return wanted


def check(config: Config) -> Cluster:
    """Look whether WAL may be received, before anything is changed.

    Raises:
        AuthError, ProviderUnavailable, UsageError, Refused: why not.
    """
    sync = get_mode(config) == "sync"
    backups.get_binaries(config).path("pg_receivewal")
    cluster = backups.make_cluster(config).read()
    check_receivable(cluster, sync=sync, slot=backups.get_slot_name(config))
    return cluster


def run(config: Config, say: Callable[[str], None], stop: threading.Event) -> None:
    """Receive in the foreground until asked to stop; in synchronous mode the watchdog runs beside it.

    Raises:
        Busy: another process receives already. Otherwise as `check` and `WalReceiver.run`.
    """
    cluster, directory = check(config), config.places.backups
    sync, url = get_mode(config) == "sync", config.database_admin_url().reveal
    known = backups.make_repository(config, whose=lambda: cluster.system_identifier)
    with Holding(directory, "receiver").held():
        how = ReceiverOptions(
            directory,
            backups.get_slot_name(config),
            sync=sync,
            partial_every_s=None if backups.get_backup_settings(config).store is None else _PARTIAL_EVERY_S,
            say=say,
            judge=lambda: backups.judge_protection(config, most_bytes=_ALL, known=known),
            told=_make_teller(config, say),
            alarmed=lambda alarm: backups.tell_unproved(config, alarm),
        )
        archive = backups.make_repository(config).archive(cluster.system_identifier)
        receiver = WalReceiver(archive, backups.make_origin(config), Replication(url, how.slot), how, SystemClock())
        if sync:
            threading.Thread(target=_keep_watchdog, args=(config, stop), daemon=True).start()
        try:
            receiver.run(stop)
        finally:
            if sync:
                Holding(directory, "watchdog").end(_DOWN_S)


def _make_teller(config: Config, say: Callable[[str], None]) -> Callable[[Protection, float, int], None]:
    """Return the function that reports a change of the protection: a note in the journal, and a notice."""
    from backout.wiring.telling import make_notifier

    book, dispatcher = open_journal(config, hurried=True), make_notifier(config)

    def tell(found: Protection, since: float, lsn: int) -> None:
        kind = NoticeKind.PROTECTED if found.protected else NoticeKind.UNPROTECTED
        words = protection_words(config.name, found, since, lsn)
        say(f"{words.title}: {words.text}")
        now = SystemClock().now()
        try:
            note: dict[str, Json] = {"why": found.why, "since": since, "lsn": lsn}
            book.note(config.name, f"wal.{kind.value}", f"wal.{kind.value}:{now}", note, actor=find_actor())
        except BackoutError as error:
            say(f"nothing was recorded: {error}")
        if dispatcher is not None:
            key = f"{config.name}:{kind}:{now:.0f}"
            dispatcher.tell(
                Notice(kind, config.name, now, words.title, words.text, key=key, next=words.next, facts=words.facts)
            )

    return tell


def _keep_watchdog(config: Config, stop: threading.Event) -> None:
    """Start the watchdog again whenever it is not there."""
    holding = Holding(config.places.backups, "watchdog")
    process: subprocess.Popen[bytes] | None = None
    while not stop.is_set():
        if holding.holder() is None and (process is None or process.poll() is not None):
            process = _spawn(config, "watch")
        stop.wait(1.0)


def watch(config: Config, stop: threading.Event) -> None:
    """Run the watchdog of synchronous mode; each change of the promise is a note in the journal.

    Raises:
        Busy: another process watches already.
        AuthError: the role may not change what commits wait for.
    """
    check(config)
    book, name = open_journal(config, hurried=True), backups.get_slot_name(config)

    def tell(promise: Promise) -> None:
        kind = "wal.promise_kept" if promise.kept else PROMISE_LOST
        data: dict[str, Json] = {"lsn": promise.lsn, "why": promise.why, "at": SystemClock().now()}
        book.note(config.name, kind, f"{kind}:{data['at']}", data, actor=find_actor())

    replication = Replication(config.database_admin_url().reveal, name)
    timeout_s = float(backups.get_backup_settings(config).sync_timeout)
    with Holding(config.places.backups, "watchdog").held():
        SyncWatch(replication, name, timeout_s, tell).run(stop)


def start(config: Config) -> int:
    """Start the receiver in the background and return its pid when it receives; a running one is returned.

    Raises:
        As `check`.
        BackoutError: it does not come up, its last words are quoted.
    """
    check(config)
    directory = config.places.backups
    holding = Holding(directory, "receiver")
    known = holding.holder()
    if known is not None:
        return known
    process = _spawn(config, "run")
    deadline = time.monotonic() + _UP_S
    while time.monotonic() < deadline:
        status = read_status(directory)
        if status is not None and status.pid == process.pid and status.receiving:
            process.returncode = 0  # it lives on without us: no warning about a child that was not waited for
            return process.pid
        if process.poll() is not None:
            raise BackoutError(f"the receiver did not come up: {_read_last_words(config)}", where=str(directory / _LOG))
        time.sleep(_POLL_S)
    status = read_status(directory)
    holding.end(_DOWN_S)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_DOWN_S)  # it was ours, and has ended
    why = status.trouble if status is not None and status.trouble else "it was not ready in time"
    raise BackoutError(f"the receiver did not come up: {why}", where=str(directory / _LOG))


def stop(config: Config) -> tuple[bool, bool]:
    """End the watchdog (so that no commit waits), then the receiver, then drop the slot; (was running, had a slot)."""
    directory = config.places.backups
    Holding(directory, "watchdog").end(_DOWN_S)
    running = Holding(directory, "receiver").end(_DOWN_S)
    replication = Replication(config.database_admin_url().reveal, backups.get_slot_name(config))
    try:
        if replication.view().names == backups.get_slot_name(config):
            replication.wait_for_receiver(wait=False)
        return running, replication.drop_slot()
    finally:
        replication.close()


def read_state(config: Config) -> WalState:
    """Return how the receiver is, and whether the cluster is protected. Raises ProviderUnavailable, AuthError."""
    directory, cluster = config.places.backups, backups.make_cluster(config).read()
    shield = backups.judge_protection(config, cluster)
    return WalState(
        pid=Holding(directory, "receiver").holder(),
        watchdog=Holding(directory, "watchdog").holder(),
        status=read_status(directory),
        cluster=cluster,
        protection=shield,
        alarm=explain_slot_alarm(cluster),
    )


def _spawn(config: Config, command: str) -> subprocess.Popen[bytes]:
    """Start one of our own commands that outlives this process."""
    directory = config.places.backups
    make_private_folder(directory)
    flags = ("--no-commands",) if config.no_commands else ()
    argv = make_module_command("backout", "db", "wal", command, "-e", config.name, "--config", str(config.path), *flags)
    with contextlib.suppress(FileNotFoundError):
        if (directory / _LOG).stat().st_size > _LONGEST_LOG_BYTES:
            (directory / _LOG).replace(directory / f"{_LOG}.1")
    with open(directory / _LOG, "ab", opener=open_unlinked) as log:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=config.path.parent,
            env=make_bare_environment(
                passed=_list_needed_variables(config), variables=config.variables.variables or None
            ),
            start_new_session=True,
        )


def _list_needed_variables(config: Config) -> frozenset[str]:
    """Return the variables that the receiver reads: the database's and the backups', and what set its settings."""
    database = config.environment.database
    assert database is not None
    read = {database.url_env, database.admin_url_env, *list_secret_variables(database.backup)}
    read = {*read, *list_secret_variables(config.settings.notify)}
    named = {name for name in read if name is not None}
    return frozenset(
        {*named, *(f"{name}_FILE" for name in named), *config.set_by.values(), "CREDENTIALS_DIRECTORY", TRUST_ENV}
    )


def _read_last_words(config: Config) -> str:
    try:
        lines = (config.places.backups / _LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError as error:
        raise UsageError(f"no log: {error.strerror}", where=str(config.places.backups)) from error
    return lines[-1] if lines else "it said nothing"
