"""Port SchemaCatalog: the schema that the migrations build on an empty database, which is thrown away again.

By default a fresh Postgres of the embedded installation, with the roles (names only) of the live one; or a database
made, and dropped in the end, on a server that somebody names: then both are of one version, with the same extensions.
"""

from __future__ import annotations

import contextlib
import secrets
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from backout.errors import BackoutError
from backout.providers.postgres.access import verified
from backout.providers.postgres.binaries import find_binaries
from backout.providers.postgres.catalog import PostgresCatalog
from backout.providers.postgres.deploy import PrismaDeploy
from backout.providers.postgres.launcher import PostgresServer
from backout.providers.postgres.schema import libpq_url, meant
from backout.providers.postgres.session import application, reading, working

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from backout.model.catalog import Catalog
    from backout.ports import MigrationFiles

_ROLES = b"SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY 1"


class ShadowCatalog:
    """What the migrations build.

    Args:
        build: files of Prisma, or one script of SQL as text. live: returns the live database's connection string.
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
            BackoutError: a migration cannot be applied to an empty database; named. UsageError: unreadable files.
            AuthError, ProviderUnavailable: a database refuses, or does not answer.
        """
        with self._database() as url:
            self._apply(url)
            return PostgresCatalog(lambda: url, ignore_schemas=self._ignore_schemas).read()

    def _apply(self, url: str) -> None:
        if not isinstance(self._build, str):
            _, schema = libpq_url(self._live())
            within = f"{url}?schema={schema}" if schema and "://" in url else url
            PrismaDeploy(lambda: within).apply(self._build.read())
            return
        try:
            with application(url) as connection:
                connection.execute(self._build.encode())
        except psycopg.OperationalError as error:
            raise meant(error, url, "the shadow database") from None
        except psycopg.Error as error:
            raise BackoutError(f"the script cannot be applied to an empty database: {error}", where="--build") from None

    @contextlib.contextmanager
    def _database(self) -> Iterator[str]:
        if self._server is None:
            with self._fresh_server() as url:
                yield url
        else:
            with _database_on(self._server()) as url:
                yield url

    @contextlib.contextmanager
    def _fresh_server(self) -> Iterator[str]:
        roles = _roles_of(self._live())
        with tempfile.TemporaryDirectory(prefix="backout-shadow-") as directory:
            binaries = find_binaries(self._binaries)
            server = PostgresServer(Path(directory) / "data", binaries, settings={"fsync": "off"})
            server.create()
            try:
                password = secrets.token_hex(16)
                port = server.start(password=password).port
                url = f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"
                _make_roles(url, roles)
                yield url
            finally:
                server.stop(mode="immediate")


def _roles_of(url: str) -> tuple[str, ...]:
    try:
        with reading(url, statement_timeout_s=10.0) as connection:
            return tuple(str(name) for (name,) in connection.execute(_ROLES))
    except psycopg.Error as error:
        raise meant(error, url, "the schema") from None


def _make_roles(url: str, names: tuple[str, ...]) -> None:
    """Make the roles that policies and grants in the migrations name; none can log in."""
    with working(url) as connection:
        for name in names:
            with contextlib.suppress(psycopg.errors.DuplicateObject):
                connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(name)))


@contextlib.contextmanager
def _database_on(server: str) -> Iterator[str]:
    dsn, name = libpq_url(verified(server))[0], f"backout_shadow_{secrets.token_hex(6)}"
    try:
        with working(server) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
            try:
                yield make_conninfo(dsn, dbname=name)
            finally:
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
    except psycopg.Error as error:
        raise meant(error, server, "the shadow database") from None
