"""Restores of the database: the archive, side instances and the live server, from a configuration."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from backout.errors import BackoutError, UsageError
from backout.model.database.recovery import find_place
from backout.providers.archive.repository import Repository
from backout.providers.clock import SystemClock
from backout.providers.postgres.comparison.comparer import PostgresComparer, PostgresCopies
from backout.providers.postgres.comparison.written_since import list_written_rows
from backout.providers.postgres.rescue.rescue import PostgresRescuer
from backout.providers.postgres.restore.live import PostgresLive
from backout.providers.postgres.restore.own_wal import make_reads_beside
from backout.providers.postgres.restore.sequences import PostgresSequences
from backout.providers.postgres.restore.side import PostgresSides
from backout.providers.postgres.restore.side_settings import read_needed_now
from backout.providers.postgres.restore.wal_search import WalSearch
from backout.providers.postgres.server.own_server import CommandedServer
from backout.providers.postgres.server.template import SUPERUSER
from backout.providers.postgres.tls.dsn import make_libpq_url
from backout.runbook.recovery.tools import NONE_ACCEPTED, Accepted, RestoreTools
from backout.wiring.db.backups import get_backup_settings, get_binaries, get_slot_name, make_repository
from backout.wiring.db.history import make_names
from backout.wiring.db.managed import make_stanza
from backout.wiring.records import find_actor, open_journal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from backout.config import Config
    from backout.journal.stop import StopRequest
    from backout.model.database.wal import WalGap
    from backout.ports import Backups


def make_sides(config: Config, kept: Backups | None = None) -> PostgresSides:
    """Return the side instances of the environment. Raises as `backups.make_repository` does."""
    live = _make_live(config)

    def superuser() -> str:
        try:
            return live.facts().superuser
        except BackoutError:  # it is down: the role that administers it is likely to be its own superuser
            return str(_parse_dsn(config).get("user") or SUPERUSER)

    def read_needed() -> dict[str, int]:
        database = config.environment.database
        timeout_s = float(database.connect_timeout) if database else 5.0
        return read_needed_now(config.database_admin_url().reveal(), connect_timeout_s=timeout_s)

    folder, server = config.places.restore, config.environment.database and config.environment.database.server
    replaced = str(server.data_directory.absolute()) if server else ""
    return PostgresSides(
        folder,
        get_binaries(config),
        kept or _make_backups(config)[0],
        superuser,
        needed=read_needed,
        places=lambda name: find_place(name, str(folder), replaced),
        trusted=config.places.check,
    )


def make_restore_tools(
    config: Config,
    stop: StopRequest | None = None,
    say: Callable[[str], None] = lambda _text: None,
    accepted: Accepted = NONE_ACCEPTED,
) -> RestoreTools:
    """Return the ports of the environment's restores; they need no token of the platform.

    Args:
        accepted: what a person takes although it is not signed.

    Raises:
        UsageError: no database, or no Postgres programs.
        AuthError: a connection string or key is not set.
        Refused: the journal is on that database's server.
    """
    if config.settings.journal.url_env is not None:
        from backout.wiring.journal_server import refuse_restored

        refuse_restored(config)
    kept, refused = _make_backups(config, accepted)
    useless: Callable[[Sequence[str]], Sequence[WalGap]] = (
        kept.useless if isinstance(kept, Repository) else _list_no_gaps
    )
    programs, folder, beside = get_binaries(config), config.places.restore, make_sides(config, kept)
    database = config.environment.database
    server = database.server if database else None
    url = config.database_admin_url().reveal
    book = open_journal(config, stop)
    name_of = str(_parse_dsn(config).get("dbname") or SUPERUSER)
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
        live=_make_live(config),
        rescuer=lambda name: PostgresRescuer(url, programs, name, folder / "kept"),
        comparer=lambda name: PostgresComparer(url, name),
        copies=PostgresCopies(url),
        kept=folder / "kept",
        tools_version=int(programs.version().split(".", maxsplit=1)[0]),
        free_bytes=lambda place: _measure_free(place or folder),
        database=name_of,
        written=lambda copy, within_s: list_written_rows(url(), copy, name_of, within_s=within_s),
        pinned=config.environment.pin.database_system_identifier,
        server=CommandedServer(server.data_directory, server.start, server.stop) if server else None,
        has_server_withheld=(config.name, "database.server.start") in config.withheld,
        receiver=get_slot_name(config),
        superuser=str(_parse_dsn(config).get("user") or SUPERUSER),
        carrier=PostgresSequences(programs, folder),
        wal_beside=make_reads_beside(programs, kept, server.data_directory, folder) if server else None,
        accepted=accepted,
        refused=refused,
        useless=useless,
        say=say,
    )


def _make_backups(
    config: Config, accepted: Accepted = NONE_ACCEPTED
) -> tuple[Backups, Callable[[], Sequence[tuple[str, BackoutError]]]]:
    """Return the backups, and what says which of them may not be used."""
    if get_backup_settings(config).pgbackrest:
        return make_stanza(config), tuple
    kept = make_repository(config, accepted.names, lays_out=accepted.to_side)
    return kept, kept.list_refused


def _list_no_gaps(_names: Sequence[str]) -> tuple[WalGap, ...]:
    """Return nothing: what pgBackRest's WAL says of wal_level is not read here."""
    return ()


def _make_live(config: Config) -> PostgresLive:
    database = config.environment.database
    timeout_s = float(database.connect_timeout) if database else 5.0
    return PostgresLive(config.database_admin_url().reveal, connect_timeout_s=timeout_s, names=make_names(config))


def _parse_dsn(config: Config) -> dict[str, Any]:
    """Return the parts of the administrator's connection string; the password stays in here."""
    from psycopg import ProgrammingError, conninfo

    dsn, _ = make_libpq_url(config.database_admin_url().reveal())
    try:
        return dict(conninfo.conninfo_to_dict(dsn))
    except ProgrammingError:
        raise UsageError("the database's connection string cannot be read", where="database") from None


def _measure_free(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
