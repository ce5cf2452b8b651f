"""Preparations for restoring a dump as a role without privileges, made by a superuser in the still empty database.

Restoring runs code from the dump: checks of tables and domains, expressions of indexes, generated columns, refreshed
views, triggers and casts call the application's functions. As a superuser they could run any program. So they run
as a role that may only log in, and from its first statement on no superuser queries that database.

Source: PostgreSQL 18, "Role Attributes", CREATE EXTENSION ("trusted"), "Predefined Roles".
"""

from __future__ import annotations

from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from backout.errors import BackoutError
from backout.providers.postgres.server.temporary_role import make_role

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    import psycopg

PLAIN: Final = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS NOINHERIT"
HARMLESS: Final = frozenset(
    {
        *("address_standardizer", "address_standardizer_data_us", "amcheck", "autoinc", "bloom", "dict_xsyn"),
        *("earthdistance", "insert_username", "intagg", "moddatetime", "pg_buffercache", "pg_freespacemap"),
        *("pg_prewarm", "pg_stat_statements", "pg_trgm", "pg_visibility", "pgcrypto", "pgrowlocks", "pgstattuple"),
        *("postgis", "postgis_topology", "refint", "sslinfo", "unaccent", "uuid-ossp", "vector"),
    }
)
"""Extensions whose functions give a role without power none, beside those that their own control file calls trusted.

dblink, postgres_fdw, file_fdw, adminpack and the untrusted languages are none of them: they reach out of the database.
"""
_TRUSTED: Final = """
SELECT a.name, EXISTS (
  SELECT FROM pg_catalog.pg_available_extension_versions AS v WHERE v.name = a.name AND v.version = a.default_version
  AND v.trusted
) FROM pg_catalog.pg_available_extensions AS a
"""
_MEMBERS: Final = """
SELECT c.oid::pg_catalog.regclass::pg_catalog.text FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_depend AS d ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
WHERE d.deptype = 'e' AND c.relkind IN ('r', 'S')
"""
_HEIR: Final = """
SELECT CASE WHEN r.rolsuper THEN session_user ELSE r.rolname END::pg_catalog.text
FROM pg_catalog.pg_database AS d JOIN pg_catalog.pg_roles AS r ON r.oid = d.datdba
WHERE d.datname = pg_catalog.current_database()
"""
_POWER: Final = """
SELECT r.rolsuper, EXISTS (
  SELECT FROM pg_catalog.pg_roles AS p
  WHERE p.rolname IN ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files')
  AND pg_catalog.pg_has_role(r.oid, p.oid, 'MEMBER')
) FROM pg_catalog.pg_roles AS r WHERE r.rolname = session_user
"""
_QUIET: Final = "SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL client_min_messages = error"


class Power(Enum):
    """A role's rights beyond its databases."""

    SUPERUSER = "everything"
    FILES = "files and programs of the server"
    NONE = "nothing"


@contextmanager
def quietly(connection: psycopg.Connection[Any], *, writing: bool = False) -> Iterator[None]:
    """Begin a transaction in which names are Postgres' own, whatever the database sets for its sessions.

    Args:
        writing: also where sessions only read unless they say otherwise.
    """
    with connection.transaction():
        if writing:
            connection.execute("SET TRANSACTION READ WRITE")
        connection.execute(_QUIET)
        yield


def check_extensions(administrator: psycopg.Connection[Any], names: Collection[str], *, where: str) -> None:
    """Look whether a dump's extensions are there, and none that a role without power must not be given.

    Raises:
        BackoutError: one is missing, or reaches out of the database.
    """
    known = _read_trusted(administrator)
    if missing := sorted(set(names) - known.keys()):
        what = f"it cannot be made here: the programs do not include the extension {', '.join(missing)}"
        raise BackoutError(what, where=where, hint="set database.binaries to an installation that has them")
    if unknown := sorted(name for name in names if name not in HARMLESS and not known[name]):
        what = f"it cannot be made here: what the extension {', '.join(unknown)} can do reaches beyond the database"
        hint = "do it by hand, as a superuser, on a machine that holds nothing else"
        raise BackoutError(what, where=where, hint=hint)


def find_untrusted(administrator: psycopg.Connection[Any], names: Collection[str]) -> frozenset[str]:
    """Return those that are there and that only a superuser may make."""
    known = _read_trusted(administrator)
    return frozenset(name for name in names if known.get(name) is False)


def _read_trusted(administrator: psycopg.Connection[Any]) -> dict[str, bool]:
    """Return for each extension that is there whether its control file calls it trusted."""
    with quietly(administrator):
        return dict(administrator.execute(_TRUSTED).fetchall())


def make_extensions(
    administrator: psycopg.Connection[Any], wanted: Collection[tuple[str, str]], role: str
) -> frozenset[str]:
    """Make extensions in an empty database, and return the schemas that were made for them.

    Args:
        administrator: a superuser's connection to the database.
        wanted: (name, schema).
        role: who restores.
    """
    from psycopg import sql

    made: set[str] = set()
    with quietly(administrator):
        there = {str(row[0]) for row in administrator.execute("SELECT nspname FROM pg_catalog.pg_namespace").fetchall()}
        for name, schema in wanted:
            if schema not in there | made:
                words = sql.SQL("CREATE SCHEMA {} AUTHORIZATION {}")
                administrator.execute(words.format(sql.Identifier(schema), sql.Identifier(role)))
                made.add(schema)
            words = sql.SQL("CREATE EXTENSION IF NOT EXISTS {} WITH SCHEMA {}")
            administrator.execute(words.format(sql.Identifier(name), sql.Identifier(schema)))
        # What an extension keeps of the application's in tables of its own is in the dump.
        for (member,) in administrator.execute(_MEMBERS).fetchall():
            words = sql.SQL("GRANT ALL ON {} TO {}")
            administrator.execute(words.format(sql.SQL(member), sql.Identifier(role)))
    return frozenset(made)


@contextmanager
def plain_login(url: str, administrator: psycopg.Connection[Any]) -> Iterator[str]:
    """Yield a connection string to a superuser's empty database for a role made for it; what it makes is handed over.

    The owner of the database gets it, or the superuser where that is one as well. The role is gone in the end.

    Args:
        url: the superuser's.
        administrator: the connection of it.
    """
    from psycopg import sql

    database = sql.Identifier(administrator.info.dbname)
    with quietly(administrator):
        role = make_role(administrator, "restore", PLAIN)
        named = sql.Identifier(role.name)
        administrator.execute(sql.SQL("GRANT ALL ON DATABASE {} TO {}").format(database, named))
        administrator.execute(sql.SQL("GRANT ALL ON SCHEMA public TO {}").format(named))
        (heir,) = administrator.execute(_HEIR).fetchone() or ("",)
    try:
        yield role.login(url)
    finally:
        with quietly(administrator):
            administrator.execute(sql.SQL("REASSIGN OWNED BY {} TO {}").format(named, sql.Identifier(str(heir))))
            administrator.execute(sql.SQL("DROP OWNED BY {}").format(named))
            administrator.execute(sql.SQL("DROP ROLE {}").format(named))


def read_power(connection: psycopg.Connection[Any]) -> Power:
    """Return what code running as this session's role could do to the server."""
    with quietly(connection):
        (superuser, files) = connection.execute(_POWER).fetchone() or (False, False)
    return Power.SUPERUSER if superuser else Power.FILES if files else Power.NONE
