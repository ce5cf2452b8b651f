"""The database ports of one environment; each is None where not set up, and else loads only what it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.wiring.hooks import HURRIED_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.config import Config
    from backout.model.database.backups import Protection
    from backout.ports import (
        Connections,
        Fence,
        MigrationFiles,
        Schema,
        Statements,
    )
    from backout.providers.cloudflare.client import ApiClient
    from backout.runbook.recovery.tools import RestoreTools
    from backout.wiring.hooks import Hooks


def make_database_identity(config: Config) -> Callable[[], str | None] | None:
    """Return the function that identifies the database, None where there is no Postgres."""
    settings = config.environment.database
    if settings is None or settings.provider != "postgres":
        return None
    from backout.providers.postgres.server.identity import DatabaseIdentity

    timeout_s = float(settings.connect_timeout)
    return DatabaseIdentity(lambda: config.database_url().reveal(), connect_timeout_s=timeout_s).read


def make_schema(config: Config, reads: Callable[[], ApiClient], *, hurried: bool) -> Schema | None:
    """Return the migration history, None where no tool is set up; `hurried`: it is waited for briefly."""
    settings = config.environment.database
    if settings is None or settings.migrations == "none":
        return None
    from backout.wiring.db.history import make_history

    return make_history(config, reads, within_s=HURRIED_S if hurried else None)


def make_statements(config: Config) -> Statements | None:
    """Return what the application sends, by the server's own statistics; None without a Postgres of its own."""
    settings = config.environment.database
    if settings is None or settings.provider != "postgres":
        return None
    from backout.providers.postgres.schema.statements import StatementStatistics

    return StatementStatistics(lambda: config.database_url().reveal(), timeout_s=HURRIED_S)


def make_restoring(config: Config, hooks: Hooks) -> Callable[[], RestoreTools] | None:
    """Return what makes the tools of a restore, None without a database."""
    if config.environment.database is None:
        return None

    def open_tools() -> RestoreTools:
        from backout.wiring.db.restore import make_restore_tools

        return make_restore_tools(config, hooks.stop, hooks.say)

    return open_tools


def make_fence_opener(config: Config) -> Callable[[], Fence] | None:
    """Return what makes the fence of the database, None where nobody but the application could raise one."""
    database = config.environment.database
    if database is None or database.provider != "postgres" or not (database.admin_url_env or database.admin_url_file):
        return None

    def open_fence() -> Fence:
        from backout.wiring.db.fence import make_fence

        return make_fence(config)

    return open_fence


def make_protection(config: Config) -> Callable[[], Protection] | None:
    """Return what says whether the database could be brought back now, None where no WAL is received."""
    settings = config.environment.database
    if settings is None or settings.provider != "postgres" or settings.backup.wal == "off":
        return None

    def ask_protection() -> Protection:
        from backout.wiring.db.backups import judge_protection

        return judge_protection(config)

    return ask_protection


def make_proof_alarm(config: Config) -> Callable[[], str]:
    """Return a function that says why the proofs of the backups need attention where no WAL is received."""
    settings = config.environment.database
    if settings is None or settings.provider != "postgres" or settings.backup.wal != "off":
        return str

    def ask_proof_alarm() -> str:
        from backout.wiring.db.backups import explain_proof_alarm

        return explain_proof_alarm(config)

    return ask_proof_alarm


def find_migrations(config: Config) -> MigrationFiles | None:
    """Return the migrations of the working copy, None where no tool is set up."""
    settings = config.environment.database
    if settings is None or settings.migrations == "none":
        return None
    from backout.wiring.db.history import TheFiles

    return TheFiles(config)


def make_connections(config: Config) -> Connections | None:
    """Return how many connections are in use, None where there is no Postgres."""
    settings = config.environment.database
    if settings is None or settings.provider != "postgres":
        return None
    from backout.providers.postgres.server.connections import Pool, PostgresConnections

    pool = None if settings.pool_limit is None else Pool(settings.pool_limit, settings.pool_application)
    timeout_s = float(settings.connect_timeout)
    return PostgresConnections(lambda: config.database_url().reveal(), pool, connect_timeout_s=timeout_s)
