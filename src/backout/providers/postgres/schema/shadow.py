"""Port SchemaCatalog: the schema that the migrations build on an empty, temporary database.

By default a fresh Postgres of the embedded installation, with the roles (names only) of the live one; or a database
created on a named server and dropped in the end: then both have the same version and the same extensions.
"""

from __future__ import annotations

import contextlib
import secrets
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

import psycopg
from msgspec.structs import replace
from psycopg import sql
from psycopg.conninfo import make_conninfo

from backout.errors import BackoutError, Refused
from backout.providers.postgres.backup.plain_role import Power, plain_login, read_power
from backout.providers.postgres.backup.script_extensions import make_extensions_of
from backout.providers.postgres.schema.catalog import PostgresCatalog
from backout.providers.postgres.schema.deploy import PrismaDeploy
from backout.providers.postgres.server.binaries import find_binaries
from backout.providers.postgres.server.scratch import RESTORER, scratch_server
from backout.providers.postgres.server.session import open_application, open_asking, open_working, reading
from backout.providers.postgres.server.template import give_away
from backout.providers.postgres.tls.access import add_verification, parse_dsn
from backout.providers.postgres.tls.dsn import make_connection_error, make_libpq_url

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from backout.model.database.catalog import Catalog
    from backout.ports import MigrationFiles

_ROLES_ARE_BOUNDED: Final = 160000
"""Since then CREATEROLE gives a role only what its holder has: before, it could give the server's programs."""
_ROLES = b"SELECT rolname FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.!~) '^pg_' ORDER BY 1"


class ShadowCatalog:
    """The schema that the migrations build.

    Args:
        build: files of Prisma, or one script of SQL as text.
        live: returns the live database's connection string.
        server: returns the connection string of a server that may be used instead of a fresh one.
        binaries: the folder of the programs of the fresh one, None: the embedded.
    """

    def __init__(
        self,
        build: MigrationFiles | str,
        live: Callable[[], str],
        *,
        server: Callable[[], str] | None = None,
        binaries: Path | None = None,
        ignore_schemas: Collection[str] = (),
    ) -> None:
        self._build = build
        self._live = live
        self._server = server
        self._binaries = binaries
        self._ignore_schemas = ignore_schemas

    def read(self) -> Catalog:
        """Build it, read it, and throw it away.

        Raises:
            BackoutError: a migration cannot be applied to an empty database; named.
            UsageError: unreadable files.
            AuthError, ProviderUnavailable: a database refuses, or does not answer.
        """
        with self._database() as (url, scripts):
            self._apply(url, scripts)
            return PostgresCatalog(lambda: url, ignore_schemas=self._ignore_schemas).read()

    def _apply(self, url: str, scripts: Sequence[str]) -> None:
        if not isinstance(self._build, str):
            within = _add_schema(url, self._schema())
            files = [replace(file, sql=text) for file, text in zip(self._build.read(), scripts, strict=True)]
            PrismaDeploy(lambda: within).apply(files)
            return
        try:
            with open_application(url) as connection:
                connection.execute("".join(scripts).encode())
        except psycopg.OperationalError as error:
            raise make_connection_error(error, url, "the shadow database") from None
        except psycopg.Error as error:
            raise BackoutError(f"the script cannot be applied to an empty database: {error}", where="--build") from None

    def _scripts(self) -> tuple[str, ...]:
        return (self._build,) if isinstance(self._build, str) else tuple(file.sql for file in self._build.read())

    def _schema(self) -> str | None:
        return make_libpq_url(self._live())[1]

    @contextlib.contextmanager
    def _database(self) -> Iterator[tuple[str, Sequence[str]]]:
        """Yield the connection string of an empty database, for a role without power, and what it is to run there."""
        if self._server is None:
            with self._fresh_server() as found:
                yield found
        else:
            with _database_on(self._server()) as url, self._without_power(url) as found:
                yield found

    @contextlib.contextmanager
    def _fresh_server(self) -> Iterator[tuple[str, Sequence[str]]]:
        roles, binaries = _list_roles(self._live()), find_binaries(self._binaries)
        with tempfile.TemporaryDirectory(prefix="backout-shadow-") as directory:
            give_away(Path(directory))
            with scratch_server(Path(directory), binaries, "UTF8") as scratch:
                _make_roles(scratch.server, roles)
                with open_working(scratch.administrator) as administrator:
                    administrator.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")  # who is given a table needs it
                    scripts = self._find_extensions(administrator, RESTORER)
                yield _format_url(scratch.restorer), scripts

    @contextlib.contextmanager
    def _without_power(self, url: str) -> Iterator[tuple[str, Sequence[str]]]:
        """Yield for a role made for it where the connection string is a superuser's."""
        with open_asking(url) as connection:
            power = read_power(connection)
            if power is Power.FILES:
                what = "the role may use the server's files and programs, and so could a migration"
                raise Refused(what, where="the shadow database", hint="a role that may only create databases is enough")
            if power is Power.NONE:
                yield url, self._scripts()
                return
            with plain_login(url, connection) as plain:
                yield _format_url(plain), self._find_extensions(connection, parse_dsn(plain)["user"])

    def _find_extensions(self, administrator: psycopg.Connection[Any], role: str) -> Sequence[str]:
        return make_extensions_of(self._scripts(), administrator, role, schema=self._schema() or "public")


def _add_schema(url: str, schema: str | None) -> str:
    return f"{url}{'&' if '?' in url else '?'}schema={quote(schema, safe='')}" if schema and "://" in url else url


def _format_url(dsn: str) -> str:
    """Return a connection string as a URL, to which Prisma's schema can be added."""
    given = parse_dsn(dsn)
    named = {name: quote(given.pop(name, ""), safe="") for name in ("user", "password", "host", "port", "dbname")}
    who = f"{named['user']}:{named['password']}" if named["password"] else named["user"]
    where = f"{named['host']}:{named['port']}" if named["port"] else named["host"]
    return f"postgresql://{who}@{where}/{named['dbname']}?{urlencode(given, quote_via=quote)}"


def _list_roles(url: str) -> tuple[str, ...]:
    try:
        with reading(url, statement_timeout_s=10.0) as connection:
            return tuple(str(name) for (name,) in connection.execute(_ROLES))
    except psycopg.Error as error:
        raise make_connection_error(error, url, "the schema") from None


def _make_roles(url: str, names: tuple[str, ...]) -> None:
    """Make the roles that policies, grants and owners in the migrations name; none can log in, and none has any power.

    Who builds may be each of them, and may make more where that gives him nothing (from Postgres 16 on).
    """
    builder = sql.Identifier(RESTORER)
    with open_working(url) as connection:
        more = "INHERIT CREATEROLE" if connection.info.server_version >= _ROLES_ARE_BOUNDED else "INHERIT"
        connection.execute(sql.SQL("ALTER ROLE {} " + more).format(builder))
        for name in names:
            role = sql.Identifier(name)
            with contextlib.suppress(psycopg.errors.DuplicateObject):
                connection.execute(sql.SQL("CREATE ROLE {}").format(role))
                connection.execute(sql.SQL("GRANT {} TO {}").format(role, builder))


@contextlib.contextmanager
def _database_on(server: str) -> Iterator[str]:
    dsn, name = make_libpq_url(add_verification(server))[0], f"backout_shadow_{secrets.token_hex(6)}"
    try:
        with open_working(server) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
            try:
                yield make_conninfo(dsn, dbname=name)
            finally:
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
    except psycopg.Error as error:
        raise make_connection_error(error, server, "the shadow database") from None
