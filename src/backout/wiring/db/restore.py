"""Restores of the database: the archive, side instances and the live server, from a configuration."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from backout.errors import BackoutError, UsageError
from backout.providers.archive.repository import Repository
from backout.providers.clock import SystemClock
from backout.providers.postgres.comparison.comparer import PostgresComparer, PostgresCopies
from backout.providers.postgres.rescue.rescue import PostgresRescuer
from backout.providers.postgres.restore.live import PostgresLive
from backout.providers.postgres.restore.own_wal import reading_beside
from backout.providers.postgres.restore.sequences import PostgresSequences
from backout.providers.postgres.restore.side import PostgresSides
from backout.providers.postgres.restore.side_settings import read_needed_now
from backout.providers.postgres.restore.wal_search import WalSearch
from backout.providers.postgres.server.own_server import CommandedServer
from backout.providers.postgres.server.template import SUPERUSER
from backout.providers.postgres.tls.dsn import libpq_url
from backout.runbook.recovery.tools import NONE_ACCEPTED, Accepted, RestoreTools
from backout.wiring.db.backups import backup_settings, binaries, repository, slot_name
from backout.wiring.db.managed import stanza
from backout.wiring.records import find_actor, open_journal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from backout.config import Config
    from backout.journal.stop import StopRequest
    from backout.model.database.wal import WalGap
    from backout.ports import Backups


def restore_directory(config: Config) -> Path:
    """Return where side instances lie, beside the journal."""
    return config.settings.journal.path.parent / "restore" / config.name


def sides(config: Config, kept: Backups | None = None) -> PostgresSides:
    """Return the side instances of the environment. Raises as `backups.repository` does."""
    live = _live(config)

    def superuser() -> str:
        try:
            return live.facts().superuser
        except BackoutError:  # it is down: the role that administers it is likely to be its own superuser
            return str(_dsn(config).get("user") or SUPERUSER)

    def read_needed() -> dict[str, int]:
        database = config.environment.database
        timeout_s = float(database.connect_timeout) if database else 5.0
        return read_needed_now(config.database_admin_url().reveal(), connect_timeout_s=timeout_s)

    return PostgresSides(
        restore_directory(config), binaries(config), kept or _backups(config)[0], superuser, needed=read_needed
    )


def restore_tools(
    config: Config,
    stop: StopRequest | None = None,
    say: Callable[[str], None] = lambda _text: None,
    accepted: Accepted = NONE_ACCEPTED,
) -> RestoreTools:
    """Return the ports of the environment's restores; they need no token of the platform.

    Args:
        accepted: what a person takes although it is not signed.

    Raises:
        UsageError: no database, or no Postgres programs. AuthError: a connection string or key is not set.
    """
    kept, refused = _backups(config, accepted)
    useless: Callable[[Sequence[str]], Sequence[WalGap]] = kept.useless if isinstance(kept, Repository) else _none
    programs, folder, beside = binaries(config), restore_directory(config), sides(config, kept)
    database = config.environment.database
    server = database.server if database else None
    url = config.database_admin_url().reveal
    book = open_journal(config, stop)
    return RestoreTools(
        environment=config.name,
        actor=find_actor(),
        clock=SystemClock(),
        journal=book,
        runs=book,
        backups=kept,
        wal=WalSearch(programs, kept, folder / "wal"),
        sides=beside,
        beside=beside,
        walker=beside,
        bases=beside,
        live=_live(config),
        rescuer=lambda name: PostgresRescuer(url, programs, name, folder / "kept"),
        comparer=lambda name: PostgresComparer(url, name),
        copies=PostgresCopies(url),
        kept=folder / "kept",
        tools_version=int(programs.version().split(".", maxsplit=1)[0]),
        free_bytes=lambda place: _free(place or folder),
        database=str(_dsn(config).get("dbname") or SUPERUSER),
        pinned=config.environment.pin.database_system_identifier,
        server=CommandedServer(server.data_directory, server.start, server.stop) if server else None,
        has_server_withheld=(config.name, "database.server.start") in config.withheld,
        receiver=slot_name(config),
        superuser=str(_dsn(config).get("user") or SUPERUSER),
        carrier=PostgresSequences(programs, folder),
        wal_beside=reading_beside(programs, kept, server.data_directory, folder) if server else None,
        accepted=accepted,
        refused=refused,
        useless=useless,
        say=say,
    )


def _backups(
    config: Config, accepted: Accepted = NONE_ACCEPTED
) -> tuple[Backups, Callable[[], Sequence[tuple[str, BackoutError]]]]:
    """Return the backups, and what says which of them may not be used."""
    if backup_settings(config).pgbackrest:
        return stanza(config), tuple
    kept = repository(config, accepted.names, lays_out=accepted.to_side)
    return kept, kept.list_refused


def _none(_names: Sequence[str]) -> tuple[WalGap, ...]:
    """Return nothing: what pgBackRest's WAL says of wal_level is not read here."""
    return ()


def _live(config: Config) -> PostgresLive:
    database = config.environment.database
    timeout_s = float(database.connect_timeout) if database else 5.0
    return PostgresLive(config.database_admin_url().reveal, connect_timeout_s=timeout_s)


def _dsn(config: Config) -> dict[str, Any]:
    """Return the parts of the administrator's connection string; the password stays in here."""
    from psycopg import ProgrammingError, conninfo

    dsn, _ = libpq_url(config.database_admin_url().reveal())
    try:
        return dict(conninfo.conninfo_to_dict(dsn))
    except ProgrammingError:
        raise UsageError("the database's connection string cannot be read", where="database") from None


def _free(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
