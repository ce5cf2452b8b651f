"""Port Connections: the World and the adapter on a real Postgres; then every limit that a Postgres can set."""

from __future__ import annotations

import contextlib
import threading
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import psycopg
import pytest
from kept import template

from backout.errors import AuthError, ProviderUnavailable
from backout.model.guard.connections import ConnectionUse
from backout.providers.memory import World, WorldClock
from backout.providers.postgres.server.binaries import find_binaries
from backout.providers.postgres.server.connections import Pool, PostgresConnections
from backout.providers.postgres.server.launcher import PostgresServer

from polling import PATIENCE_S, until
from scripted_server import refused_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.ports import Connections

MAX, RESERVED, FOR_SUPERUSERS = 14, 2, 2
LIMIT = MAX - RESERVED - FOR_SUPERUSERS
PASSWORD = "canary-of-connections"


class Database(Protocol):
    """A database whose connections a test uses up."""

    @property
    def connections(self) -> Connections:
        """The port."""
        ...

    def use(self, number: int) -> None:
        """Hold that many connections."""
        ...


class MemoryDatabase:
    def __init__(self) -> None:
        self.world = World()
        self.connections: Connections = self.world.connections

    def use(self, number: int) -> None:
        refused = "sorry, too many clients already" if number >= LIMIT else ""
        self.world.connection_rule = lambda at: ConnectionUse(at, number, LIMIT, 0, refused=refused)


@dataclass
class PostgresDatabase:
    """One database on a small server, and a role that may do nothing special in it."""

    address: str
    name: str
    role: str
    held: contextlib.ExitStack

    @property
    def dsn(self) -> str:
        return f"postgresql://{self.role}:{PASSWORD}@{self.address}/{self.name}"

    @property
    def superuser(self) -> str:
        return f"postgresql://postgres:{PASSWORD}@{self.address}/{self.name}"

    @property
    def connections(self) -> PostgresConnections:
        return self.asked_with()

    def asked_with(self, pool: Pool | None = None, dsn: str | None = None) -> PostgresConnections:
        return PostgresConnections(lambda: dsn or self.dsn, pool, clock=WorldClock(1000.0))

    def use(self, number: int, **options: str) -> None:
        for _ in range(number):
            connection = until(lambda: self._connected(options), 10, "a connection")
            self.held.enter_context(connection)

    def _connected(self, options: dict[str, str]) -> psycopg.Connection | None:
        """Return a connection, or None while one that was closed is still on its way out."""
        try:
            return psycopg.connect(self.dsn, **options)  # type: ignore[arg-type]
        except psycopg.OperationalError:
            return None

    def run(self, sql: str) -> None:
        with psycopg.connect(self.superuser, autocommit=True) as connection:
            connection.execute(sql.encode())


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Postgres of this module's own, with few connections."""
    directory = tmp_path_factory.mktemp("connections")
    settings = {
        "max_connections": str(MAX),
        "reserved_connections": str(RESERVED),
        "superuser_reserved_connections": str(FOR_SUPERUSERS),
    }
    server = PostgresServer(directory / "data", find_binaries(), settings=settings)
    server.create(cache_directory=template())
    try:
        yield f"127.0.0.1:{server.start(password=PASSWORD).port}"
    finally:
        server.stop(mode="immediate")


@pytest.fixture
def postgres(address: str) -> Iterator[PostgresDatabase]:
    """A database and a role of its own."""
    name = f"c{uuid.uuid4().hex}"
    with contextlib.ExitStack() as held:
        database = PostgresDatabase(address, "postgres", name, held)
        database.run(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
        database.run(f"CREATE DATABASE {name} OWNER {name}")
        database.name = name
        yield database
    database.name = "postgres"
    database.run(f"DROP DATABASE {name} WITH (FORCE)")
    database.run(f"DROP ROLE {name}")


@pytest.fixture(params=["memory", "postgres"])
def database(request: pytest.FixtureRequest) -> Database:
    if request.param == "memory":
        return MemoryDatabase()
    found: PostgresDatabase = request.getfixturevalue("postgres")
    return found


def reading(port: Connections, used: int, limit: int, scope: str = "server") -> ConnectionUse:
    """Return the first reading of that use; sessions that were closed take a moment to go."""

    def found() -> ConnectionUse | None:
        use = port.read()
        return use if (use.used, use.limit, use.scope) == (used, limit, scope) else None

    return until(found, 10, f"{used} of {limit} of the {scope}")


def refusal(port: Connections) -> ConnectionUse:
    """Return the first reading that was refused."""
    return until(lambda: use if (use := port.read()).refused else None, 10, "a refusal")


# --- the contract ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 1, LIMIT - 1])
def test_connections_in_use_are_counted_without_the_one_that_asks(database: Database, number: int) -> None:
    """Against what ordinary roles may have."""
    database.use(number)
    use = reading(database.connections, number, LIMIT)
    assert not use.exhausted
    assert use.share == number / LIMIT
    assert use.waiting == 0
    assert use.at > 0


def test_none_left_is_a_reading(database: Database) -> None:
    """The next one is refused, and that is what is told."""
    port = database.connections
    database.use(LIMIT)
    use = refusal(port)
    assert use.exhausted
    assert use.share == 1.0


# --- the real thing -------------------------------------------------------------------------------------------------


def test_a_full_server_keeps_the_limit_that_was_read_before(postgres: PostgresDatabase) -> None:
    """The refusal itself does not tell it; nothing of the connection string is in what it says."""
    port = postgres.connections
    reading(port, 0, LIMIT)
    postgres.use(LIMIT)
    use = refusal(port)
    assert (use.used, use.limit, use.waiting) == (LIMIT, LIMIT, None)
    assert "remaining connection slots" in use.refused
    assert PASSWORD not in use.refused
    assert postgres.connections.read().limit == 0  # nobody read it yet: still a reading


def test_the_tightest_limit_is_told(postgres: PostgresDatabase) -> None:
    """Of the server, the database and the role."""
    postgres.use(2)
    postgres.run(f"ALTER DATABASE {postgres.name} CONNECTION LIMIT 5")
    reading(postgres.connections, 2, 5, "database")
    postgres.run(f"ALTER ROLE {postgres.role} CONNECTION LIMIT 4")
    reading(postgres.connections, 2, 4, "role")
    postgres.use(2)
    use = refusal(postgres.connections)
    assert "too many connections for role" in use.refused
    assert use.exhausted


def test_a_poolers_connections_are_counted_by_their_name(postgres: PostgresDatabase) -> None:
    """Against the limit that only the pooler knows; the name is no SQL."""
    postgres.use(1)
    postgres.use(3, application_name="Cloudflare Hyperdrive")
    reading(postgres.asked_with(Pool(4)), 3, 4, "pool")
    reading(postgres.asked_with(Pool(4, "it's' another")), 4, LIMIT)
    postgres.use(1, application_name="Cloudflare Hyperdrive")
    assert reading(postgres.asked_with(Pool(4)), 4, 4, "pool").exhausted


def test_sessions_that_wait_for_a_lock_are_told(postgres: PostgresDatabase) -> None:
    """They are how a pool runs full."""
    with psycopg.connect(postgres.dsn) as holder, psycopg.connect(postgres.dsn) as waiter:
        holder.execute("CREATE TABLE shared (n int)")
        holder.commit()
        holder.execute("LOCK TABLE shared")
        thread = threading.Thread(target=waiter.execute, args=("SELECT * FROM shared",))
        thread.start()
        try:
            until(lambda: postgres.connections.read().waiting == 1, 10, "the one that waits")
        finally:
            holder.rollback()
            thread.join(PATIENCE_S)
        assert postgres.connections.read().waiting == 0


def test_foreign_sessions_count_though_little_is_seen_of_them(postgres: PostgresDatabase) -> None:
    """Without pg_read_all_stats nobody knows who waits, and whose pool it is; with it everything is there."""
    with psycopg.connect(postgres.superuser, application_name="Cloudflare Hyperdrive"):
        assert reading(postgres.asked_with(Pool(2)), 1, LIMIT).waiting is None
        postgres.run(f"GRANT pg_read_all_stats TO {postgres.role}")
        assert reading(postgres.asked_with(Pool(2)), 1, 2, "pool").waiting == 0


def test_what_is_no_reading_is_an_error_without_secrets(postgres: PostgresDatabase) -> None:
    """A wrong password, and nobody there."""
    wrong = postgres.dsn.replace(PASSWORD, "canary-wrong")
    with pytest.raises(AuthError) as refused:
        postgres.asked_with(dsn=wrong).read()
    gone = f"postgresql://u:canary-wrong@{refused_url().removeprefix('http://')}/x"
    with pytest.raises(ProviderUnavailable, match="the use of connections cannot be read") as unreachable:
        postgres.asked_with(dsn=gone).read()
    assert "canary" not in f"{refused.value} {unreachable.value}"
