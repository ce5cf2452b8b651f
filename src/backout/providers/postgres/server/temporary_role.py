"""A role for the duration of one job; should a kill leave it behind, it can log in for a day at most."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from backout.providers.postgres.tls.access import add_verification
from backout.providers.postgres.tls.dsn import make_libpq_url

if TYPE_CHECKING:
    import psycopg

LIFE: Final = timedelta(days=1)


class TemporaryRole(NamedTuple):
    """Its name and password; the password appears only in connection strings."""

    name: str
    password: str

    def login(self, url: str) -> str:
        """Return a connection string with this role in place of its user."""
        from psycopg import conninfo

        return str(
            conninfo.make_conninfo(make_libpq_url(add_verification(url))[0], user=self.name, password=self.password)
        )


def make_role(
    administrator: psycopg.Connection[object], job: str, attributes: str, *, member_of: str = ""
) -> TemporaryRole:
    """Create a role and return it; the caller drops it.

    Args:
        administrator: a session that may make roles.
        job: the word in its name, `backout_JOB_...`.
        attributes: as CREATE ROLE takes them.
        member_of: the role whose rights it has, "" for none.

    Raises:
        psycopg.Error: the session may not.
    """
    from psycopg import sql

    role = TemporaryRole(f"backout_{job}_{secrets.token_hex(6)}", secrets.token_urlsafe(24))
    # The client hashes, so that the password itself is in no log of the server.
    hashed = administrator.pgconn.encrypt_password(role.password.encode(), role.name.encode(), b"scram-sha-256")
    words = "CREATE ROLE {} " + attributes + (" IN ROLE {}" if member_of else "") + " PASSWORD {} VALID UNTIL {}"
    named = (role.name, *([member_of] if member_of else []))
    until = (datetime.now(UTC) + LIFE).isoformat()
    administrator.execute(
        sql.SQL(words).format(*map(sql.Identifier, named), sql.Literal(hashed.decode()), sql.Literal(until))
    )
    return role
