"""Port Identities on the twin's API and a real Postgres: what is read, what is not, and what is None."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from kept import template

from backout.errors import AuthError, ProviderUnavailable
from backout.model.identity import Identity
from backout.providers.cloudflare.client import ApiClient
from backout.providers.cloudflare.identity import Beside, CloudflareIdentities
from backout.providers.memory import WorldClock
from backout.providers.postgres.server.binaries import find_binaries
from backout.providers.postgres.server.identity import DatabaseIdentity
from backout.providers.postgres.server.launcher import PostgresServer
from backout.providers.retry import Retry

from scripted_server import answer, refused_url, scripted_server
from twin_harness import ACCOUNT, TOKEN, Api, running_api

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BESIDE = Beside(lambda: "12/app", "files", bucket_is_ours=True, health_host="app.example.com")


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with running_api(tmp_path) as running:
        running.upload("fm5")
        yield running


def identities(api: Api, script: str = "fm5", parts: list[str] | None = None) -> CloudflareIdentities:
    client = ApiClient(f"{api.url}/client/v4", lambda: TOKEN)
    return CloudflareIdentities(client, ACCOUNT, script, BESIDE, parts=parts)


def test_everything_is_read_and_a_bucket_counts_when_the_account_has_it(api: Api) -> None:
    """The tag is the Worker's own: the same name made again has another one."""
    first = identities(api).read()
    assert first.script_tag
    assert first == Identity(ACCOUNT, first.script_tag, "12/app", None, "app.example.com")
    api.call("POST", f"/client/v4/accounts/{ACCOUNT}/r2/buckets", {"name": "files"})
    assert identities(api).read().bucket == "files"
    api.call("DELETE", f"/client/v4/accounts/{ACCOUNT}/workers/services/fm5?force=true")
    assert identities(api).read().script_tag is None
    api.upload("fm5")
    assert identities(api).read().script_tag not in (None, first.script_tag)


def test_only_what_is_pinned_is_asked_for() -> None:
    """Parts that the file tells cost no call; a bucket is compared by its name then."""
    with scripted_server() as server:
        server.will(
            answer({"success": True, "errors": [], "result": {"default_environment": {"script": {"tag": "t"}}}})
        )
        client = ApiClient(f"{server.url}/client/v4", lambda: TOKEN)
        asked = CloudflareIdentities(client, "a", "s", BESIDE, parts=["account_id", "bucket", "health_host"]).read()
        assert asked == Identity("a", None, None, "files", "app.example.com")
        assert server.asked == []
        assert CloudflareIdentities(client, "a", "s", BESIDE, parts=["script_tag"]).read() == Identity(script_tag="t")
        assert [call.target for call in server.asked] == ["/client/v4/accounts/a/workers/services/s"]


def test_an_api_that_does_not_tell_the_tag_is_an_error(api: Api) -> None:
    """Without it nothing that follows could be done either."""
    refused = ApiClient(f"{api.url}/client/v4", lambda: "another-token")
    with pytest.raises(AuthError):
        CloudflareIdentities(refused, ACCOUNT, "fm5", BESIDE, parts=["script_tag"]).read()
    gone = ApiClient(refused_url(), lambda: TOKEN, retry=Retry(attempts=1))
    with pytest.raises(ProviderUnavailable):
        CloudflareIdentities(gone, ACCOUNT, "fm5", BESIDE, parts=["script_tag"]).read()


@pytest.fixture(scope="module")
def dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("identity")
    server = PostgresServer(directory / "data", find_binaries())
    server.create(cache_directory=template())
    try:
        port = server.start(password="loopback-only").port
        yield f"postgresql://postgres:loopback-only@127.0.0.1:{port}/postgres"
    finally:
        server.stop(mode="immediate")


def test_a_database_tells_its_cluster_and_its_name_to_every_role(dsn: str) -> None:
    """An ordinary role without any right is told; where somebody revoked it, nothing is."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE ROLE plain LOGIN PASSWORD 'loopback-only'")
        connection.execute("CREATE DATABASE other")
        row = connection.execute("SELECT system_identifier FROM pg_control_system()").fetchone()
    assert row is not None
    parts = psycopg.conninfo.conninfo_to_dict(dsn)
    plain = psycopg.conninfo.make_conninfo(**{**parts, "user": "plain"})
    other = psycopg.conninfo.make_conninfo(**{**parts, "dbname": "other"})
    mine = DatabaseIdentity(lambda: dsn).read()
    assert mine == f"{row[0]}/{parts['dbname']}"
    assert DatabaseIdentity(lambda: plain).read() == mine
    assert DatabaseIdentity(lambda: other).read() == f"{row[0]}/other"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM public")
    assert DatabaseIdentity(lambda: plain).read() is None


def test_a_database_that_is_down_is_asked_once_in_a_while() -> None:
    """Neither its outage nor a missing secret is an error, and no mutation waits twice for it."""
    clock, asked = WorldClock(1000.0), []

    def url() -> str:
        asked.append(clock.now())
        raise AuthError("the variable is not set")

    identity = DatabaseIdentity(url, clock=clock)
    assert [identity.read(), identity.read()] == [None, None]
    clock.sleep(31)
    assert identity.read() is None
    assert asked == [1000.0, 1031.0]
    port = refused_url().rpartition(":")[2].strip("/")
    assert DatabaseIdentity(lambda: f"postgresql://u@127.0.0.1:{port}/app").read() is None
