"""Port Schema: the World and the adapter on a real Postgres; then what a database can refuse."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Protocol

import psycopg
import pytest
from kept import template

from backout.errors import AuthError, BackoutError, ProviderUnavailable
from backout.model.database.schema import AppliedMigration
from backout.providers.memory import World, WorldClock
from backout.providers.postgres.schema.schema import PostgresHistory
from backout.providers.postgres.server.binaries import find_binaries
from backout.providers.postgres.server.launcher import PostgresServer
from backout.providers.postgres.tls.dsn import make_libpq_url

from scripted_server import hang, refused_url, scripted_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.ports import Schema

TABLE = """
CREATE TABLE {schema}_prisma_migrations (
  id varchar(36) PRIMARY KEY, checksum varchar(64) NOT NULL, finished_at timestamptz,
  migration_name varchar(255) NOT NULL, logs text, rolled_back_at timestamptz,
  started_at timestamptz NOT NULL DEFAULT now(), applied_steps_count integer NOT NULL DEFAULT 0
)
"""
INSERT = """
INSERT INTO _prisma_migrations (id, checksum, migration_name, started_at, finished_at, rolled_back_at)
VALUES (%s, 'x', %s, to_timestamp(%s), to_timestamp(%s), to_timestamp(%s))
"""


class Database(Protocol):
    """A database whose history a test writes."""

    schema: Schema

    def create(self) -> None:
        """Make the table of the history."""

    def apply(
        self, name: str, started_at: float, finished_at: float | None, rolled_back_at: float | None = None
    ) -> None:
        """Write one row."""


class MemoryDatabase:
    def __init__(self) -> None:
        self.world = World()
        self.schema: Schema = self.world.schema

    def create(self) -> None:
        pass

    def apply(
        self, name: str, started_at: float, finished_at: float | None, rolled_back_at: float | None = None
    ) -> None:
        self.world.migrations.append(AppliedMigration(name, started_at, finished_at, rolled_back_at))


class PostgresDatabase:
    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.schema: Schema = PostgresHistory(lambda: dsn, clock=WorldClock(1000.0))

    def run(self, sql: str, *values: object) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(sql.encode(), values or None)

    def create(self) -> None:
        self.run(TABLE.format(schema=""))

    def apply(
        self, name: str, started_at: float, finished_at: float | None, rolled_back_at: float | None = None
    ) -> None:
        self.run(INSERT, str(uuid.uuid4()), name, started_at, finished_at, rolled_back_at)


@pytest.fixture(scope="module")
def server_dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Postgres of this module's own."""
    directory = tmp_path_factory.mktemp("schema")
    server = PostgresServer(directory / "data", find_binaries())
    server.create(cache_directory=template())
    try:
        port = server.start(password="loopback-only").port
        yield f"postgresql://postgres:loopback-only@127.0.0.1:{port}"
    finally:
        server.stop(mode="immediate")


@pytest.fixture
def postgres(server_dsn: str) -> Iterator[PostgresDatabase]:
    """A database of its own."""
    name = f"contract_{uuid.uuid4().hex}"
    with psycopg.connect(f"{server_dsn}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    yield PostgresDatabase(f"{server_dsn}/{name}")
    with psycopg.connect(f"{server_dsn}/postgres", autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture(params=["memory", "postgres"])
def database(request: pytest.FixtureRequest) -> Database:
    """Without any history yet."""
    if request.param == "memory":
        return MemoryDatabase()
    found: PostgresDatabase = request.getfixturevalue("postgres")
    return found


# --- the contract ---------------------------------------------------------------------------------------------------


def test_without_a_table_the_history_is_empty(database: Database) -> None:
    """That is a fact, not an error."""
    state = database.schema.read()
    assert (state.applied, state.head, state.failed) == ((), "", ())


def test_without_rows_the_history_is_empty(database: Database) -> None:
    """The same."""
    database.create()
    assert database.schema.read().applied == ()


def test_the_history_is_oldest_first_with_times_in_seconds(database: Database) -> None:
    """Whatever a row says, it comes back."""
    database.create()
    database.apply("1_init", 1000.25, 1001.5)
    database.apply("2_note", 2000.0, 2001.0)
    state = database.schema.read()
    assert [(m.name, m.started_at, m.finished_at, m.rolled_back_at) for m in state.applied] == [
        ("1_init", 1000.25, 1001.5, None),
        ("2_note", 2000.0, 2001.0, None),
    ]
    assert state.head == "2_note"
    assert state.read_at > 0


def test_failed_and_rolled_back_migrations_are_told_apart(database: Database) -> None:
    """A failed one is not the head; one that was resolved as rolled back is neither."""
    database.create()
    database.apply("1_init", 1000, 1001)
    database.apply("2_bad", 2000, None, 2500)
    database.apply("3_stuck", 3000, None)
    state = database.schema.read()
    assert (state.head, state.failed) == ("1_init", ("3_stuck",))
    assert state.applied[1].rolled_back_at == 2500


# --- the real thing -------------------------------------------------------------------------------------------------


def told(error: BackoutError) -> str:
    return f"{error} {error.hint} {vars(error)}"


def test_prismas_parameters_are_understood(postgres: PostgresDatabase) -> None:
    """`?schema=` leads to the table there; what libpq does not know is left out."""
    postgres.run("CREATE SCHEMA shop")
    postgres.run(TABLE.format(schema="shop."))
    postgres.run(INSERT.replace("_prisma", "shop._prisma"), "1", "1_shop", 1, 2, None)
    url = f"{postgres.dsn}?schema=shop&connection_limit=1&pool_timeout=10&pgbouncer=true&connect_timeout=7"
    assert PostgresHistory(lambda: url).read().head == "1_shop"
    assert PostgresHistory(lambda: postgres.dsn + "?schema=public").read().head == ""
    assert PostgresHistory(lambda: postgres.dsn + '?schema=no"such').read().head == ""


def test_it_only_reads(postgres: PostgresDatabase) -> None:
    """A view in the place of the table is told, and not one function of it is called."""
    postgres.run("CREATE TABLE touched (n int)")
    postgres.run(
        "CREATE FUNCTION touch() RETURNS timestamptz LANGUAGE sql AS 'INSERT INTO touched VALUES (1); SELECT now()'"
    )
    postgres.run(
        "CREATE VIEW _prisma_migrations AS SELECT 'x' AS migration_name, touch() AS started_at, "
        "now() AS finished_at, NULL::timestamptz AS rolled_back_at, '' AS checksum, '' AS logs, "
        "0 AS applied_steps_count"
    )
    with pytest.raises(ProviderUnavailable, match="_prisma_migrations is a view, which cannot be a history"):
        postgres.schema.read()


def test_a_locked_table_does_not_hold_it_for_ever(postgres: PostgresDatabase) -> None:
    """A migration that is running holds the lock; the reading gives up."""
    postgres.create()
    with psycopg.connect(postgres.dsn) as locker:
        locker.execute("LOCK TABLE _prisma_migrations IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(ProviderUnavailable, match="statement timeout"):
            PostgresHistory(lambda: postgres.dsn, statement_timeout_s=0.3).read()


def test_a_user_without_the_right_is_an_auth_error(postgres: PostgresDatabase) -> None:
    """It says that permission is missing."""
    postgres.create()
    role = f"r{uuid.uuid4().hex}"
    postgres.run(f"CREATE ROLE {role} LOGIN PASSWORD 'canary-pw'")
    try:
        scheme, _, rest = postgres.dsn.partition("://")
        dsn = f"{scheme}://{role}:canary-pw@{rest.rpartition('@')[2]}"
        with pytest.raises(AuthError, match="permission denied") as caught:
            PostgresHistory(lambda: dsn).read()
        assert "canary" not in told(caught.value)
    finally:
        postgres.run(f"DROP ROLE {role}")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:canary-pw@127.0.0.1:{port}/app",
        "postgresql://u:canary%2Dpw@127.0.0.1:{port}/app?sslmode=nonsense",
        "postgresql://u:canary-pw@[::1/app",
        "postgresql://u:canary-pw@127.0.0.1:port/app",
        "host=127.0.0.1 port={port} password=canary-pw nonsense=1",
        "canary-pw",
        "mysql://u:canary-pw@127.0.0.1/app",
    ],
)
def test_a_database_that_is_not_there_is_unavailable(url: str) -> None:
    """And no part of the connection string's password is told, however wrong the string is."""
    port = refused_url().rpartition(":")[2]
    with pytest.raises(ProviderUnavailable) as caught:
        PostgresHistory(lambda: url.format(port=port)).read()
    assert "canary" not in told(caught.value)
    assert caught.value.hint


def test_a_server_that_says_nothing_is_left_in_time() -> None:
    """The time limit to connect holds during the greeting as well."""
    with scripted_server() as server:
        server.will(hang())
        port = server.url.rpartition(":")[2]
        with pytest.raises(ProviderUnavailable):
            PostgresHistory(
                lambda: f"postgresql://u:p@127.0.0.1:{port}/app?sslmode=disable", connect_timeout_s=2
            ).read()


def test_a_key_value_string_is_left_alone() -> None:
    """Only URLs can hold Prisma's parameters."""
    assert make_libpq_url("host=db dbname=app") == ("host=db dbname=app", None)
