"""`backout unfence` as it is typed, on a real Postgres: answers, refusals, exit codes, with and without a journal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cli_shell import backout
from fence_lab import DEADLINE, PASSWORD, Shop, running_server

from backout.model.database.fence import FenceOrder

from scripted_server import refused_url

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cli_shell import Answer

FILE = """
[app]
name = "shop"
[environments.production]
protected = {protected}
platform = {{ provider = "cloudflare", account_id = "0123456789abcdef0123456789abcdef", script = "shop" }}
[environments.production.database]
provider = "{provider}"
url_env = "DATABASE_URL"
admin_url_env = "DATABASE_ADMIN_URL"
[environments.production.pin]
{pin}
"""


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with running_server(tmp_path_factory.mktemp("unfence")) as port:
        yield port


@pytest.fixture
def shop(port: int, tmp_path: Path) -> Iterator[Shop]:
    write(tmp_path)
    made = Shop(port, tmp_path / "wal")
    yield made
    made.fence.close()
    made.administer(f"COMMENT ON ROLE {made.name} IS NULL")


def write(folder: Path, provider: str = "postgres", protected: str = "false", pin: str = "") -> None:
    text = FILE.format(provider=provider, protected=protected, pin=pin)
    (folder / "backout.toml").write_text(text, encoding="utf-8")


def unfence(shop: Shop, *arguments: str, url: str = "") -> Answer:
    variables = {"DATABASE_URL": shop.url(shop.name), "DATABASE_ADMIN_URL": url or shop.url("postgres")}
    return backout(shop.folder.parent, "unfence", "-e", "production", *arguments, variables=variables)


def raise_fence(shop: Shop) -> None:
    shop.fence.raise_fence(FenceOrder("r1a2b3", "ann@host", DEADLINE, (shop.name,)))


def test_it_opens_what_another_machine_fenced(shop: Shop) -> None:
    """No journal is there; the fence is shown first, and then it is gone."""
    before = shop.roles()
    none = unfence(shop, "--dry-run", "--json").json
    assert none["fence"] is None
    assert isinstance(none["possible"], dict)
    assert (none["possible"]["planned"], none["possible"]["refusals"]) == ([shop.name], [])
    shop.administer("GRANT INSERT ON orders TO PUBLIC", f"CREATE ROLE {shop.name}_x LOGIN IN ROLE {shop.name}")
    refused = unfence(shop, "--dry-run").out
    assert f"one would not hold: {shop.name}_x is not in the plan" in refused
    assert "fence_roles = [" in refused
    shop.administer("REVOKE INSERT ON orders FROM PUBLIC", f"DROP ROLE {shop.name}_x")
    raise_fence(shop)
    looked = unfence(shop, "--dry-run", "--json")
    assert looked.code == 0
    assert looked.json["schema"] == "backout.unfence/1"
    assert looked.json["opened"] is False
    fence = looked.json["fence"]
    assert isinstance(fence, dict)
    assert (fence["run"], fence["actor"], fence["database"]) == ("r1a2b3", "ann@host", shop.name)
    assert fence["roles"] == [{"name": shop.name, "login": True, "connection_limit": 17}]
    assert 'psql "$DATABASE_ADMIN_URL"' in fence["by_hand"]
    assert not shop.write()
    asked = unfence(shop, "--no-input")
    assert asked.code == 3
    assert not shop.write()
    done = unfence(shop, "--yes")
    assert done.code == 0, done.err
    assert f"{shop.name} can log in as before the fence; read back" in done.out
    assert shop.roles() == before
    assert shop.write()
    again = unfence(shop, "--yes")
    assert (again.code, again.out.strip()) == (0, "no fence stands around the database of production")
    assert PASSWORD not in f"{looked.out}{done.out}{done.err}{again.err}"


@pytest.mark.long
def test_a_broken_journal_stops_nothing(shop: Shop) -> None:
    """It is said, and the fence opens."""
    (shop.folder.parent / ".backout").mkdir(mode=0o700)
    (shop.folder.parent / ".backout" / "journal.sqlite").write_bytes(b"no database" * 100)
    raise_fence(shop)
    done = unfence(shop, "--yes")
    assert done.code == 0, done.err
    assert "is not known" in done.err
    assert shop.write()


@pytest.mark.long
def test_what_is_wrong_is_said(shop: Shop) -> None:
    """A server that is down, another database, a protected environment, a comment that is no fence any more, D1."""
    raise_fence(shop)
    assert unfence(shop, "--yes", url=refused_url().replace("http://", "postgresql://u@")).code == 7
    assert unfence(shop, "--yes", url=f"postgresql://nobody:x@127.0.0.1:{shop.port}/x").code == 4
    write(shop.folder.parent, pin='database_system_identifier = "1/other"')
    other = unfence(shop, "--yes")
    assert (other.code, "is pinned" in other.err) == (3, True)
    write(shop.folder.parent, protected="true")
    assert unfence(shop, "--yes").code == 3
    assert not shop.write()
    shop.administer(f"COMMENT ON ROLE {shop.name} IS 'fenced by backout: {{broken'")
    damaged = unfence(shop, "--yes", "-m", "why", "--confirm", "production")
    assert damaged.code == 1
    assert "cannot be read" in damaged.err
    assert "ALTER ROLE" in damaged.err
