"""A server of ours for trying a dump, as an unprivileged role that owns only that database."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from backout.model.value import Value
from backout.providers.postgres.backup.plain_role import PLAIN
from backout.providers.postgres.server.launcher import PostgresServer
from backout.providers.postgres.server.session import open_working
from backout.providers.postgres.server.template import SUPERUSER, give_away

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg import sql

    from backout.providers.postgres.server.binaries import Binaries

RESTORER: Final = "backout_restorer"
ADMINISTRATOR: Final = "backout_administrator"
"""The superuser: a role named postgres is one of the application's, if it has one."""
DATABASE: Final = "restored"
_SETTINGS: Final = {"fsync": "off", "full_page_writes": "off", "max_wal_size": "4GB", "listen_addresses": ""}
_DOORS: Final = f"""\
local "{DATABASE}" "{RESTORER}" trust
local all "{SUPERUSER}" trust
local all "{ADMINISTRATOR}" trust
"""
"""The socket's folder is this user's alone; nothing inside the server can use it: no extension that does is made."""


class Scratch(Value, frozen=True):
    """Connection strings.

    Args:
        server: the superuser's, in the database `postgres`.
        administrator: the same, in the one to restore into.
        restorer: of the role that owns that one.
    """

    server: str
    administrator: str
    restorer: str


@contextmanager
def scratch_server(parent: Path, binaries: Binaries, encoding: str) -> Iterator[Scratch]:
    """Run a server of its own in a folder of its own, with an empty database; both are gone at the end.

    Args:
        encoding: the database's.
    """
    folder = Path(tempfile.mkdtemp(prefix=".scratch-", dir=parent))
    try:
        (folder / "hba.conf").write_text(_DOORS, encoding="ascii")
        give_away(folder)
        server = PostgresServer(folder / "data", binaries, settings={**_SETTINGS, "hba_file": str(folder / "hba.conf")})
        server.create()
        try:
            first = server.start().socket_dsn
            with open_working(first) as superuser:
                superuser.execute(f"CREATE ROLE {ADMINISTRATOR} LOGIN SUPERUSER".encode())
            dsn = first.replace(f"user={SUPERUSER}", f"user={ADMINISTRATOR}")
            inside = dsn.replace("dbname=postgres", f"dbname={DATABASE}")
            with open_working(dsn) as superuser:
                superuser.execute(f"ALTER ROLE {SUPERUSER} RENAME TO backout_first".encode())
                superuser.execute(f"CREATE ROLE {RESTORER} {PLAIN}".encode())
                superuser.execute(_write_create_database(encoding))
            with open_working(inside) as superuser:
                superuser.execute(f"ALTER SCHEMA public OWNER TO {RESTORER}".encode())
            yield Scratch(dsn, inside, inside.replace(f"user={ADMINISTRATOR}", f"user={RESTORER}"))
        finally:
            server.stop(mode="immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write_create_database(encoding: str) -> sql.Composed:
    """Return the statement that makes the empty database; the locale C goes with every encoding."""
    from psycopg import sql

    locale = "" if encoding == "UTF8" else " LOCALE_PROVIDER libc LOCALE 'C'"
    words = sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING {}" + locale)
    return words.format(sql.Identifier(DATABASE), sql.Identifier(RESTORER), sql.Literal(encoding))
