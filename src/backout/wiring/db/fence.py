"""The fence of an environment's database, and the psql line that opens it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from backout.errors import Refused, UsageError
from backout.providers.postgres.fence.fence import PostgresFence
from backout.providers.postgres.server.identity import DatabaseIdentity
from backout.providers.postgres.tls.access import parse_dsn
from backout.providers.postgres.tls.dsn import make_libpq_url
from backout.rules import SafetyRule
from backout.wiring.db.backups import get_binaries

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
    return PostgresFence(
        config.database_admin_url().reveal,
        lambda: find_application_roles(config),
        lambda: get_binaries(config),
        config.places.restore / "fence",
        connect=write_connect(config),
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


def write_connect(config: Config) -> str:
    """Return what a psql line begins with: the connection string is read where it is kept, never shown."""
    database = config.environment.database
    assert database is not None
    variable, path = database.admin_url_env, database.admin_url_file
    if not (variable or path):
        variable, path = database.url_env, database.url_file
    url = config.database_admin_url().reveal()
    is_plain = make_libpq_url(url)[0] == url
    if variable:
        return f'psql "${variable}"' if is_plain else f'psql "${{{variable}%%\\?*}}"'
    read = f"cat {shlex.quote(str(path))}"
    return f'psql "$({read})"' if is_plain else f'psql "$({read} | cut -d? -f1)"'
