"""The role that sends the application's statements on a side database: never an administrator.

A statement runs functions, triggers and views of the application, and in a superuser's session they could run any
program: SET ROLE is no boundary, because they may reset it. So a superuser's connection creates a role that
is only a member of the application's own one, and the statements come from a login of that role.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from backout.errors import Refused
from backout.model.value import Value
from backout.providers.postgres.backup.plain_role import PLAIN, Power, quietly, read_power
from backout.providers.postgres.server.session import open_asking
from backout.providers.postgres.server.temporary_role import make_role

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

_APPLICATION: Final = """
SELECT r.rolname::pg_catalog.text, (
  SELECT pg_catalog.split_part(c, '=', 2) FROM pg_catalog.pg_db_role_setting AS s, pg_catalog.unnest(s.setconfig) AS c
  WHERE s.setrole = r.oid AND pg_catalog.starts_with(c, 'search_path=') AND s.setdatabase IN (0,
    (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database()))
  ORDER BY s.setdatabase DESC LIMIT 1
) FROM pg_catalog.pg_roles AS r WHERE r.rolname = %s AND NOT r.rolsuper AND NOT EXISTS (
  SELECT FROM pg_catalog.pg_roles AS p
  WHERE p.rolname IN ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files')
  AND pg_catalog.pg_has_role(r.oid, p.oid, 'MEMBER')
)
"""


class Sender(Value, frozen=True):
    """The sender of the statements.

    Args:
        url: the connection string.
        role: to set in the session, "" for none.
        search_path: that of the application's role, None for the usual one.
        complete: whether it may do what the application may.
    """

    url: str
    role: str = ""
    search_path: str | None = None
    complete: bool = True


@contextmanager
def sender(url: str, application: str) -> Iterator[Sender]:
    """Yield the sender of the application's statements; a role made for it is dropped in the end.

    Args:
        application: the name of the application's own role, "" where it is not known.

    Raises:
        Refused: the role may use the server's files or programs.
        psycopg.Error: the database cannot be reached.
    """
    with open_asking(url) as administrator:
        power = read_power(administrator)
        if power is Power.SUPERUSER:
            with _make_sender(url, administrator, application) as found:
                yield found
            return
    if power is Power.FILES:
        what = "the role of the side database may use its server's files and programs, and so could a statement"
        raise Refused(what, where="the side database", hint="give the connection string of the application's own role")
    yield Sender(url)


@contextmanager
def _make_sender(url: str, administrator: psycopg.Connection[Any], application: str) -> Iterator[Sender]:
    from psycopg import DatabaseError, sql

    with quietly(administrator, writing=True):
        found = administrator.execute(_APPLICATION, (application,)).fetchone()
        made = make_role(administrator, "trial", PLAIN.replace("NOINHERIT", "INHERIT"))
        role = sql.Identifier(made.name)
        rights = sql.Identifier(str(found[0])) if found else sql.SQL("pg_read_all_data, pg_write_all_data")
        administrator.execute(sql.SQL("GRANT {} TO {}").format(rights, role))
    login = made.login(url)
    try:
        yield Sender(login, *found) if found else Sender(login, complete=False)
    finally:
        # Nothing of a trial stays, so that it owns nothing; else it ends by itself.
        with suppress(DatabaseError), quietly(administrator, writing=True):
            administrator.execute(sql.SQL("DROP ROLE {}").format(role))
