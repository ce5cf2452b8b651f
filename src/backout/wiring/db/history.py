"""From `database.migrations` to the tool's history in the database, its files, and what uses both."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from backout.errors import AuthError, UsageError
from backout.model.setting import describe_setting

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from backout.config import Config, Secret
    from backout.model.database.compatibility import MigrationFile
    from backout.model.database.migrations import KnownMigration, StoredNames
    from backout.ports import MigrationFiles, Schema, SchemaCatalog
    from backout.providers.cloudflare.client import ApiClient
    from backout.runbook.rollback.migrations import Deploying, Side

_STATEMENT_TIMEOUT_S: Final = 5.0
FOLDERS: Final = {
    "prisma": ("prisma/migrations",),
    "alembic": ("alembic/versions", "migrations/versions"),
    "django": (".",),  # its applications, with a folder `migrations` each
    "drizzle": ("drizzle",),
    "d1": ("migrations",),
}
"""Where each tool keeps its files, below backout.toml, unless `database.migrations_path` names another folder."""


def make_history(config: Config, api: Callable[[], ApiClient], *, within_s: float | None = None) -> Schema:
    """Return the history that the chosen environment's tool keeps; `api` is asked where it lies at the platform.

    Raises:
        UsageError: no tool is set up.
        AuthError: the connection string is missing.
    """
    settings, tool = config.environment.database, get_tool(config)
    assert settings is not None
    if tool == "d1":
        from backout.providers.cloudflare.d1 import D1History

        return D1History(api(), config.account_id, settings.database_id or "")
    return make_postgres_history(config, config.database_url().reveal, within_s=within_s)


def make_postgres_history(config: Config, url: Callable[[], str], *, within_s: float | None = None) -> Schema:
    """Return the history that the chosen environment's tool keeps in a Postgres database, of whichever side."""
    from backout.providers.postgres.schema.history import ALEMBIC, DJANGO, DRIZZLE, PRISMA
    from backout.providers.postgres.schema.schema import PostgresHistory

    settings, tool = config.environment.database, get_tool(config)
    assert settings is not None
    tables = {"prisma": PRISMA, "alembic": ALEMBIC, "django": DJANGO, "drizzle": DRIZZLE}
    connect_timeout_s, statement_timeout_s = float(settings.connect_timeout), _STATEMENT_TIMEOUT_S
    if within_s is not None:
        connect_timeout_s, statement_timeout_s = min(connect_timeout_s, within_s), within_s
    return PostgresHistory(
        url,
        tables[tool],
        connect_timeout_s=connect_timeout_s,
        statement_timeout_s=statement_timeout_s,
        names=make_names(config),
    )


def make_names(config: Config) -> Callable[[], StoredNames]:
    """Return what names the rows of a history that holds no names; they stay as they are without their files."""
    settings = config.environment.database

    def read_names() -> StoredNames:
        from backout.model.database.migrations import StoredNames as Names
        from backout.providers.files.drizzle import DrizzleMigrations

        if settings is None or settings.migrations != "drizzle":
            return Names()
        try:
            return DrizzleMigrations(find_folder(config)).read_names()
        except UsageError:
            return Names()

    return read_names


def get_tool(config: Config) -> str:
    """Return the migration tool of the chosen environment. Raises UsageError: none is set up."""
    settings = config.environment.database
    if settings is None or settings.migrations == "none":
        raise UsageError(
            "no migrations are set up",
            where=f"{config.path.name}: environments.{config.name}.database.migrations",
            hint=describe_setting("environments", config.name, "database", provider="postgres", migrations="prisma")
            + " (or alembic, django, drizzle, d1)",
        )
    return settings.migrations


def find_folder(config: Config) -> Path:
    """Return the folder of the tool's files: `migrations_path`, or where the tool itself keeps them.

    Raises:
        UsageError: no tool is set up, or none of its folders is there.
    """
    tool, settings = get_tool(config), config.environment.database
    if settings is not None and settings.migrations_path is not None:
        return settings.migrations_path
    folders = [config.path.parent / folder for folder in FOLDERS[tool]]
    found = next((folder for folder in folders if folder.is_dir()), None)
    if found is None:
        raise UsageError(
            f"no folder of {tool}'s migrations: {' or '.join(FOLDERS[tool])}",
            where=str(config.path.parent),
            hint=describe_setting("environments", config.name, "database", migrations_path="path/to/migrations"),
        )
    return found


def find_files(config: Config) -> MigrationFiles:
    """Return the migrations that are SQL. Raises UsageError: those of Alembic and Django are Python."""
    from backout.providers.files.drizzle import DrizzleMigrations
    from backout.providers.files.migrations import D1Migrations, PrismaMigrations

    tool = get_tool(config)
    if tool in {"alembic", "django"}:
        raise UsageError(f"the migrations of {tool} are Python, which backout does not run", where=config.name)
    folder = find_folder(config)
    if tool == "drizzle":
        return DrizzleMigrations(folder)
    return D1Migrations(folder) if tool == "d1" else PrismaMigrations(folder)


class TheFiles:
    """Port MigrationFiles on the chosen environment's tool; its errors are raised on reading."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def read(self) -> tuple[MigrationFile, ...]:
        """Return them in their order. Raises UsageError: no such folder, or they are not SQL."""
        return find_files(self._config).read()


def list_known_migrations(config: Config) -> tuple[KnownMigration, ...]:
    """Return the migrations of the working copy, what others come after first. Raises UsageError."""
    from backout.analysis.recovery.migrations import put_in_line
    from backout.providers.files.revisions import AlembicRevisions, DjangoMigrations

    tool = get_tool(config)
    if tool == "alembic":
        return AlembicRevisions(find_folder(config)).read()
    if tool == "django":
        return DjangoMigrations(find_folder(config)).read()
    return put_in_line(find_files(config).read())


def make_side(config: Config) -> Side:
    """Return the chosen environment's history, to be compared. Raises UsageError, AuthError as `make_history`."""
    from backout.providers.cloudflare.client import ApiClient
    from backout.runbook.rollback.migrations import Side as Made

    token = config.read_token() or (config.token() if get_tool(config) == "d1" else None)
    url = str(config.environment.platform.api_base_url)

    def client() -> ApiClient:
        return ApiClient(url, token.reveal, token_place=token.place) if token else ApiClient(url, str)

    schema = make_history(config, client)
    return Made(config.name, schema, config.protected)


def make_other_sides(config: Config, against: str | None) -> tuple[list[Side], list[str]]:
    """Return the environments to compare with, and a sentence for each that is left out.

    Those with the same tool, or `against` alone, which must be there.

    Raises:
        UsageError: there is no such environment, or it has no migrations.
        AuthError: its connection string is missing.
    """
    if against is not None:
        if against not in config.settings.environments or against == config.name:
            names = ", ".join(name for name in config.settings.environments if name != config.name)
            raise UsageError(f"no other environment {against!r}", where=str(config.path), hint=f"one of: {names}")
        return [make_side(replace(config, chosen=against))], []
    tool = get_tool(config)
    sides: list[Side] = []
    left_out: list[str] = []
    for name, environment in config.settings.environments.items():
        if name == config.name or environment.database is None or environment.database.migrations != tool:
            continue
        try:
            sides.append(make_side(replace(config, chosen=name)))
        except AuthError as error:
            left_out.append(f"not compared with {name}: {error.what}")
    return sides, left_out


def make_deploying(
    config: Config, files: Sequence[MigrationFile], lock_timeout_s: float, say: Callable[[str], None]
) -> Deploying:
    """Return what applies these migrations in the chosen environment, and keeps who did it and why."""
    from backout.providers.clock import SystemClock
    from backout.providers.postgres.schema.deploy import PrismaDeploy
    from backout.runbook.rollback.migrations import Deploying as Made
    from backout.wiring.db.points import add_branches, make_point_marker
    from backout.wiring.records import find_actor, open_journal

    settings = config.environment.database
    timeout_s = float(settings.connect_timeout) if settings else 5.0
    marker = make_point_marker(config)
    prisma = PrismaDeploy(config.database_url().reveal, lock_timeout_s=lock_timeout_s, connect_timeout_s=timeout_s)
    return Made(
        environment=config.name,
        actor=find_actor(),
        clock=SystemClock(),
        journal=open_journal(config),
        deploy=lambda applied: prisma.apply(files, applied=applied),
        points=None if marker is None else add_branches(config, marker, say),
        say=say,
    )


def list_appliable(config: Config) -> tuple[MigrationFile, ...]:
    """Return the migrations that backout can apply. Raises UsageError: the tool is not Prisma, or has no files."""
    tool = get_tool(config)
    if tool != "prisma":
        commands = {
            "alembic": "alembic upgrade head",
            "django": "python manage.py migrate",
            "drizzle": "npx drizzle-kit migrate",
        }
        raise UsageError(
            f"backout applies Prisma's migrations only, and this is {tool}",
            where=f"environments.{config.name}",
            hint=commands.get(tool, "npx wrangler d1 migrations apply DATABASE --remote"),
        )
    return find_files(config).read()


def find_database_identity(config: Config) -> tuple[str | None, Callable[[], str | None]]:
    """Return the pinned database of the chosen environment, and how it is asked who it is."""
    from backout.providers.postgres.server.identity import DatabaseIdentity

    return config.environment.pin.database_system_identifier, DatabaseIdentity(config.database_url().reveal).read


def make_catalogs(
    config: Config, *, build: str | None, shadow: Secret | None, ignore_schemas: Collection[str]
) -> tuple[SchemaCatalog, SchemaCatalog]:
    """Return the live schema, and the one that the migrations build.

    Args:
        build: a script of SQL in place of the files.
        shadow: a server to build on in place of a fresh one.

    Raises:
        UsageError: the tool's migrations are not SQL, and there is no script.
    """
    from backout.providers.postgres.schema.catalog import PostgresCatalog
    from backout.providers.postgres.schema.shadow import ShadowCatalog

    settings, url = config.environment.database, config.database_url().reveal
    live = PostgresCatalog(
        url, ignore_schemas=ignore_schemas, connect_timeout_s=float(settings.connect_timeout) if settings else 5.0
    )
    built = ShadowCatalog(
        build if build is not None else _find_buildable(config),
        url,
        server=shadow.reveal if shadow else None,
        binaries=settings.binaries if settings else None,
        ignore_schemas=ignore_schemas,
    )
    return live, built


def _find_buildable(config: Config) -> MigrationFiles:
    tool = get_tool(config)
    if tool in {"alembic", "django"}:
        how = {"alembic": "alembic upgrade head --sql > build.sql", "django": "python manage.py sqlmigrate APP NAME"}
        raise UsageError(
            f"the migrations of {tool} are Python, which backout does not run",
            where=f"environments.{config.name}",
            hint=f"give it their SQL: {how[tool]}, then `backout db migrations drift --build build.sql`",
        )
    return find_files(config)
