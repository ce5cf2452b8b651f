"""The database's ports of one environment; each is None where it is not set up, and loads what it needs when it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.config import Config
    from backout.model.backups import Protection
    from backout.ports import (
        Connections,
        MigrationFiles,
        PointMarker,
        Schema,
    )
    from backout.providers.cloudflare.client import ApiClient
    from backout.runbook.restore import RestoreTools
    from backout.wiring import Hooks

HURRIED_S = 2.0
"""How long a command in a hurry waits for the journal, and for the database."""


def database_identity(config: Config) -> Callable[[], str | None] | None:
    """Return what tells which database answers, None where there is no Postgres."""
    settings = config.environment.database
    if settings is None or settings.provider != "postgres":
        return None
    from backout.providers.postgres.identity import DatabaseIdentity  # noqa: PLC0415 only where it is set up

    timeout_s = float(settings.connect_timeout)
    return DatabaseIdentity(lambda: config.database_url().reveal(), connect_timeout_s=timeout_s).read


def schema(config: Config, reads: Callable[[], ApiClient], *, hurried: bool) -> Schema | None:
    """Return the migration history, None where no tool is set up; `hurried`: it is waited for briefly."""
    settings = config.environment.database
    if settings is None or settings.migrations == "none":
        return None
    from backout.wiring.history import history_of  # noqa: PLC0415 only where it is set up

    return history_of(config, reads, within_s=HURRIED_S if hurried else None)


def restoring(config: Config, hooks: Hooks) -> Callable[[], RestoreTools] | None:
    """Return what makes the tools of a restore, None without a database."""
    if config.environment.database is None:
        return None

    def opened() -> RestoreTools:
        from backout.wiring.restore import restore_tools  # noqa: PLC0415 only where a restore is thought of

        return restore_tools(config, hooks.stop, hooks.say)

    return opened


def point_marker(config: Config) -> PointMarker | None:
    """Return what records restore points, None where nobody could return to one."""
    settings = config.environment.database
    if settings is None or settings.provider != "postgres":
        return None
    if settings.backup.wal == "off" and settings.managed is None:
        return None
    from backout.providers.postgres.live import PostgresLive  # noqa: PLC0415 only where it is set up

    return PostgresLive(lambda: config.database_admin_url().reveal(), connect_timeout_s=HURRIED_S)


def protection(config: Config) -> Callable[[], Protection] | None:
    """Return what says whether the database could be brought back now, None where no WAL is received."""
    settings = config.environment.database
    if settings is None or settings.provider != "postgres" or settings.backup.wal == "off":
        return None

    def asked() -> Protection:
        from backout.wiring.backups import protection  # noqa: PLC0415 only where it is set up

        return protection(config)

    return asked


def proof_alarm(config: Config) -> Callable[[], str]:
    """Return what says why somebody has to look after the proofs of the backups where no WAL is received."""
    settings = config.environment.database
    if settings is None or settings.provider != "postgres" or settings.backup.wal != "off":
        return str

    def asked() -> str:
        from backout.wiring.backups import proof_alarm  # noqa: PLC0415 only where there is a database

        return proof_alarm(config)

    return asked


def migrations(config: Config) -> MigrationFiles | None:
    """Return the migrations of the working copy, None where no tool is set up."""
    settings = config.environment.database
    if settings is None or settings.migrations == "none":
        return None
    from backout.wiring.history import TheFiles  # noqa: PLC0415 only where it is set up

    return TheFiles(config)


def connections(config: Config) -> Connections | None:
    """Return how many connections are in use, None where there is no Postgres."""
    settings = config.environment.database
    if settings is None or settings.provider != "postgres":
        return None
    from backout.providers.postgres.connections import Pool, PostgresConnections  # noqa: PLC0415 only where it is set up

    pool = None if settings.pool_limit is None else Pool(settings.pool_limit, settings.pool_application)
    timeout_s = float(settings.connect_timeout)
    return PostgresConnections(lambda: config.database_url().reveal(), pool, connect_timeout_s=timeout_s)
