"""Port ServerCheck on a real Postgres, as a superuser, as a role that may see little, and through a real pooler."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psycopg
import pytest
from kept import template
from pooler import pgbouncer

from backout.errors import AuthError, ProviderUnavailable
from backout.providers.postgres.server.binaries import find_binaries
from backout.providers.postgres.server.check import PostgresCheck
from backout.providers.postgres.server.launcher import PostgresServer

from polling import until
from scripted_server import refused_url

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backout.model.database.capability import ServerFacts

PASSWORD = "canary-of-the-check"


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A server with a role `app` that may do nothing special, and a role `blind` from which catalogs are hidden."""
    folder = tmp_path_factory.mktemp("server-check")
    server = PostgresServer(folder / "data", find_binaries(), settings={"fsync": "off"})
    server.create(cache_directory=template())
    status = server.start(password=PASSWORD)
    with psycopg.connect(status.socket_dsn, autocommit=True) as connection:
        for role in ("app", "blind"):
            connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
        connection.execute("CREATE DATABASE hidden")
        connection.execute("SELECT pg_create_physical_replication_slot('forgotten', true)")
    with psycopg.connect(status.socket_dsn.replace("dbname=postgres", "dbname=hidden"), autocommit=True) as connection:
        for catalog in ("pg_stat_archiver", "pg_replication_slots", "pg_settings", "pg_roles", "pg_stat_activity"):
            connection.execute(f"REVOKE ALL ON pg_catalog.{catalog} FROM PUBLIC")
        connection.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
    yield status.port
    server.stop(mode="immediate")


def facts(port: int, user: str, database: str = "postgres") -> ServerFacts:
    return PostgresCheck(lambda: f"postgresql://{user}:{PASSWORD}@127.0.0.1:{port}/{database}").read()


def test_a_superuser_sees_it_all(port: int) -> None:
    """Rights, settings, extensions, slots, and a replication connection that was really made."""
    found = facts(port, "postgres")
    assert found.unreadable == ()
    assert found.replication.granted is True
    assert found.privileges["superuser"]
    assert found.privileges["create restore point"]
    assert (found.settings["wal_level"], found.settings["summarize_wal"]) == ("replica", "on")
    assert found.server_version // 10_000 == 18
    assert found.extensions is not None
    assert found.extensions.keys() >= {"pg_walinspect", "postgres_fdw", "vector"}
    assert found.archiver is not None
    assert found.archiver.failed == 0
    (slot,) = found.slots or ()
    assert (slot.name, slot.active) == ("forgotten", False)
    assert found.pooler.name == ""
    assert found.tls == ""
    assert (found.size_bytes or 0) > 1_000_000
    assert found.system_identifier


def test_an_ordinary_role_is_told_what_it_may_not(port: int) -> None:
    """REPLICATION is refused in the server's words; the rest goes on."""
    found = facts(port, "app")
    assert found.replication.granted is False
    assert found.replication.why.startswith("permission denied to start WAL sender")
    assert not any(found.privileges[name] for name in ("superuser", "replication", "pg_read_all_data"))
    assert not found.privileges["create restore point"]
    assert found.settings["wal_level"] == "replica"


def test_refused_catalogs_are_not_readable_and_stop_nothing(port: int) -> None:
    """Each with the reason; what is readable is there."""
    found = facts(port, "blind", "hidden")
    refused = dict(found.unreadable)
    assert refused.keys() >= {"archiver", "replication slots", "settings", "role", "system identifier"}
    assert "permission denied" in refused["archiver"]
    assert (found.archiver, found.slots, found.settings, found.system_identifier) == (None, None, {}, None)
    assert found.size_bytes
    assert found.user == "blind"


def test_a_wrong_password_is_an_auth_error(port: int) -> None:
    check = PostgresCheck(lambda: f"postgresql://app:wrong-canary@127.0.0.1:{port}/postgres")
    with pytest.raises(AuthError, match="refuses the connection") as caught:
        check.read()
    assert "wrong-canary" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["postgresql://a:canary@[/x", "host=a dbname", "no string"], ids=["url", "word", "words"]
)
def test_what_is_no_connection_string_is_not_quoted(url: str) -> None:
    with pytest.raises(AuthError, match="cannot be read") as caught:
        PostgresCheck(lambda: url).read()
    assert "canary" not in str(caught.value)


def test_a_server_that_is_not_there() -> None:
    port = refused_url().rpartition(":")[2]
    with pytest.raises(ProviderUnavailable, match="cannot be read"):
        PostgresCheck(lambda: f"postgresql://a:canary@127.0.0.1:{port}/x").read()


@pytest.mark.skipif(shutil.which("pgbouncer") is None, reason="no pgbouncer: apt-get install pgbouncer")
def test_a_pooler_that_says_nothing_is_noticed(port: int, tmp_path: Path) -> None:
    """The process that the login named is not the one that answers; through it nothing is claimed about replication."""
    with pgbouncer(port, PASSWORD, tmp_path) as through:
        found = until(lambda: _through(int(urlsplit(through).port or 0)), what="pgbouncer answers")
    assert found.pooler.name == "a pooler"
    assert "the login named process" in found.pooler.why
    assert found.settings["wal_level"] == "replica"


def _through(port: int) -> ServerFacts | None:
    try:
        return facts(port, "postgres")
    except ProviderUnavailable:
        return None
