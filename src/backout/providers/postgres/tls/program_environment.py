"""The environment in which Postgres' own programs reach a database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.providers.child_environment import make_bare_environment
from backout.providers.postgres.tls.access import parse_dsn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.providers.child_environment import ChildEnvironment

_OPTIONS: Final[Mapping[str, str]] = {
    "host": "PGHOST", "hostaddr": "PGHOSTADDR", "port": "PGPORT", "dbname": "PGDATABASE", "user": "PGUSER",
    "password": "PGPASSWORD", "passfile": "PGPASSFILE", "options": "PGOPTIONS", "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT", "sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY", "sslcrl": "PGSSLCRL",
    "sslnegotiation": "PGSSLNEGOTIATION", "channel_binding": "PGCHANNELBINDING", "gssencmode": "PGGSSENCMODE",
    "require_auth": "PGREQUIREAUTH", "target_session_attrs": "PGTARGETSESSIONATTRS", "service": "PGSERVICE",
    "connect_timeout": "PGCONNECT_TIMEOUT",
}  # fmt: skip
"""libpq's environment variables: values passed there do not appear in a list of processes."""


def make_program_environment(dsn: str, application_name: str = "backout") -> ChildEnvironment:
    """Return the environment in which a Postgres program reaches the database that a connection string names.

    Raises:
        AuthError: it is no connection string; the text does not quote it.
    """
    given = {_OPTIONS[name]: value for name, value in parse_dsn(dsn).items() if name in _OPTIONS}
    own = {"LC_ALL": "C", "TZ": "UTC", "PGCONNECT_TIMEOUT": "10", **given, "PGAPPNAME": application_name}
    return make_bare_environment(own)
