"""From `database.migrations` to the tool's history in the database and its files in the working copy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.config import Config
    from backout.ports import Schema
    from backout.providers.cloudflare.client import ApiClient

_STATEMENT_TIMEOUT_S = 5.0


def history_of(config: Config, api: Callable[[], ApiClient], *, within_s: float | None = None) -> Schema:
    """Return the history that the chosen environment's tool keeps; `api` is asked where it lies at the platform.

    Raises:
        UsageError: no tool is set up. AuthError: the connection string is missing.
    """
    settings = config.environment.database
    if settings is None or settings.migrations == "none":
        raise not_set_up(config)
    if settings.migrations == "d1":
        from backout.providers.cloudflare.d1 import D1History  # noqa: PLC0415 only where it is set up

        return D1History(api(), config.account_id, settings.database_id or "")
    from backout.providers.postgres import schema  # noqa: PLC0415 same

    tables = {"prisma": schema.PRISMA, "alembic": schema.ALEMBIC, "django": schema.DJANGO}
    connect_timeout_s, statement_timeout_s = float(settings.connect_timeout), _STATEMENT_TIMEOUT_S
    if within_s is not None:
        connect_timeout_s, statement_timeout_s = min(connect_timeout_s, within_s), within_s
    return schema.PostgresHistory(
        config.database_url().reveal,
        tables[settings.migrations],
        connect_timeout_s=connect_timeout_s,
        statement_timeout_s=statement_timeout_s,
    )


def not_set_up(config: Config) -> UsageError:
    """Return the error of a command that needs a migration tool where none is set up."""
    return UsageError(
        "no migrations are set up",
        where=f"{config.path.name}: environments.{config.name}.database.migrations",
        hint='migrations = "prisma"  # or alembic, django, d1',
    )
