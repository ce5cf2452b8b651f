"""The fence of an environment's database, and the psql line that opens it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.errors import Refused, UsageError
from backout.providers.postgres.fence.fence import PostgresFence
from backout.providers.postgres.server.identity import DatabaseIdentity
from backout.providers.postgres.tls.access import parse_dsn
from backout.providers.postgres.tls.dsn import make_libpq_url
from backout.rules import SafetyRule
from backout.wiring.db.backups import get_binaries
from backout.wiring.db.psql import name_connection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.config import Config


def make_fence(config: Config) -> PostgresFence:
    """Return the fence; a connection string is read when it is used.

    Raises:
        UsageError: the environment has no Postgres.
    """
    database = config.environment.database
    if database is None or database.provider != "postgres":
        raise UsageError("there is no Postgres to fence", where=f"environment {config.name}")
    secret = config.database_admin_url()
    url = secret.reveal()
    return PostgresFence(
        secret.reveal,
        lambda: find_application_roles(config),
        lambda: get_binaries(config),
        config.places.restore / "fence",
        connect=name_connection(database, is_plain=make_libpq_url(url)[0] == url),
        connect_timeout_s=float(database.connect_timeout),
    )


def check_pinned(config: Config) -> None:
    """Raise Refused when a database other than the pinned one answers (safety rule 1); the application cannot ask."""
    pinned = config.environment.pin.database_system_identifier
    found = DatabaseIdentity(config.database_admin_url().reveal).read() if pinned else None
    if found is not None and found != pinned:
        raise Refused(
            f"database {found} answers, and {pinned} is pinned",
            where=f"environment {config.name}",
            rule=SafetyRule.IDENTITY,
        )


def find_application_roles(config: Config) -> Sequence[str]:
    """Return the roles that the application logs in as. Raises AuthError: the connection string is not set."""
    database = config.environment.database
    if database is not None and database.fence_roles:
        return database.fence_roles
    name = parse_dsn(config.database_url().reveal()).get("user", "")
    return (name,) if name else ()
