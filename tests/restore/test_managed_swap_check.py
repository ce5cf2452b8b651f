"""The second check of a swap at a vendor: what it puts in place is compared with what the branch held."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from branch_lab import TOML, Typing, managed
from cli_shell import make_shell
from kept import template
from recovery_lab import Load
from values import replace

from backout.errors import BackoutError
from backout.model.database.wal import parse_lsn
from backout.providers.postgres.comparison.cluster import compare_cluster, note_cluster
from backout.providers.postgres.server.template import run_tool
from backout.runbook.recovery.managed import plan_swap
from backout.wiring.db.branches import make_branch_tools
from backout.wiring.db.restore import make_restore_tools

from vendor_lab import PROJECT, Neon, served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.rotating("restores", 5)

SCHEMA = """
CREATE TABLE orders (id int PRIMARY KEY, status text);
INSERT INTO orders SELECT g, 'paid' FROM generate_series(1, 900) g;
CREATE TABLE labels (id int PRIMARY KEY, body text);
INSERT INTO labels SELECT g, 'x' || g FROM generate_series(1, 90) g;
CREATE SEQUENCE numbers; SELECT setval('numbers', 50);
"""
DAMAGE = """
UPDATE orders SET status = 'bad' WHERE id <= 40; INSERT INTO labels SELECT g, 'bad' FROM generate_series(1001, 1007) g
"""


@pytest.fixture
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Typing]:
    """Lend a database and its vendor; a swap leaves another cluster behind, so each test has its own."""
    with managed(tmp_path_factory.mktemp("c"), template(), commit_times=True) as typing:
        with typing.lab.connect() as connection:
            connection.execute(SCHEMA)  # type: ignore[arg-type] # ours
        typing.lab.base("base")
        yield typing


@pytest.fixture
def earlier(shop: Typing) -> int:
    """Write good rows before the damage; return the position before them."""
    ((lsn,),) = shop.lab.rows("SELECT pg_current_wal_insert_lsn()::text")
    with shop.lab.connect() as connection:
        connection.execute("INSERT INTO labels SELECT g, 'good' FROM generate_series(91, 95) g")
    return parse_lsn(lsn)


@pytest.fixture
def xid(shop: Typing, earlier: int) -> str:
    assert earlier
    with shop.lab.connect() as connection, connection.transaction():
        row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
        connection.execute(DAMAGE)  # type: ignore[arg-type] # ours
    assert row is not None
    return str(row[0])


def restored(shop: Typing, *words: str, code: int = 0) -> dict[str, Any]:
    """Restore as it is typed; return the JSON."""
    return shop("db", "restore", *words, "--yes", "--json", code=code).json


def cleared(shop: Typing) -> None:
    """Delete what swaps leave at the vendor."""
    for name in [each["name"] for each in shop.vendor.branches if each["name"] != "main"]:
        shop("db", "branch", "delete", name, "--yes")


def nobody_writes(shop: Typing) -> None:
    shop.vendor.before_stop = shop.vendor.after_start = lambda: None


def clients_write(shop: Typing) -> None:
    """Write as clients do that are back at once, or not stopped yet."""
    with shop.lab.connect() as connection:
        connection.execute("UPDATE orders SET status = 'sent' WHERE id IN (100, 101); SELECT nextval('numbers')")
        connection.execute("DELETE FROM orders WHERE id = 102; DELETE FROM labels WHERE id BETWEEN 81 AND 90")
        new = "INSERT INTO labels SELECT g, 'new' FROM generate_series(500, 520) g ON CONFLICT DO NOTHING"
        connection.execute(new)
        connection.execute("CREATE TABLE IF NOT EXISTS more (id int); INSERT INTO more VALUES (1)")


@pytest.mark.long
def test_an_honest_swap_passes_under_load_and_so_does_its_undo(shop: Typing, xid: str) -> None:
    """What clients write between the note and the switch, right behind it and from then on is no difference."""
    shop.vendor.before_stop = lambda: clients_write(shop)
    with contextlib.ExitStack() as stack:
        shop.vendor.after_start = lambda: (clients_write(shop), stack.enter_context(Load(shop.lab)))[0]
        done = restored(shop, xid, "--swap")
    before, after = done["comparison_before"], done["comparison"]
    assert (before["of"], after["of"]) == ("before the swap at the vendor", "swap at the vendor")
    assert before["differs"] == before["behind"] == after["differs"] == after["behind"] == []
    assert before["newer"] >= 40
    assert after["newer"] >= 34
    assert after["equal"] >= 970
    assert f"{after['rows']:,} rows of {after['tables']} tables and catalogs of the live branch" in after["sentence"]
    assert shop.lab.rows("SELECT count(*) FROM orders WHERE status = 'bad'") == [(0,)]

    nobody_writes(shop)
    undone = restored(shop, "--undo")
    assert undone["comparison_before"] is None
    assert undone["comparison"]["of"] == "undo of a swap at the vendor"
    assert undone["comparison"]["differs"] == undone["comparison"]["behind"] == []
    assert undone["comparison"]["newer"] >= 13
    assert "it is not known whether clients removed them" in undone["comparison"]["sentence"]
    assert shop.lab.rows("SELECT count(*) FROM orders WHERE status = 'bad'") == [(40,)]
    cleared(shop)


@pytest.mark.long
def test_a_row_that_changes_behind_the_switch_is_found(shop: Typing, xid: str) -> None:
    """Of what the branch held, and of what was kept, as a disk changes it; the vendor says that all went well."""
    ((path,),) = shop.lab.rows("SELECT pg_relation_filepath('labels')")

    def flip(incoming: Path) -> None:
        run_tool(shop.lab.binaries, "pg_checksums", "--disable", "-D", str(incoming))
        file = incoming / path
        file.write_bytes(file.read_bytes().replace(b"x77", b"y77"))

    shop.vendor.stopped = flip
    shop.vendor.after_start = lambda: clients_write(shop)
    done = restored(shop, xid, "--swap", code=1)
    (labels,) = done["comparison"]["differs"]
    assert (labels["table"], labels["missing"], labels["wrong"]) == ("public.labels", 0, 1)
    assert labels["examples"] == ["77"]
    assert done["comparison_before"]["differs"] == []
    nobody_writes(shop)
    told = shop("db", "restore", "--undo", "--yes", code=1).out
    assert "NOT AS BEFORE: public.labels: 1 rows not as they were, though they were not written since: 77" in told, told
    with shop.lab.connect() as connection:
        connection.execute("UPDATE labels SET body = 'x77' WHERE id = 77")
    cleared(shop)


@pytest.mark.long
def test_a_moment_behind_the_branchs_is_found(shop: Typing, xid: str) -> None:
    """One behind the damage: the new server holds versions of rows that it did not write, beside those that it did."""
    ((now,),) = shop.lab.rows("SELECT pg_current_wal_insert_lsn()::text")
    shop.vendor.strays_to = parse_lsn(now)
    shop.vendor.after_start = lambda: clients_write(shop)
    done = restored(shop, xid, "--swap", code=1)["comparison"]
    assert {each["table"]: each["missing"] for each in done["differs"]}["public.orders"] >= 40
    assert any("public.labels holds " in each and "nobody wrote since" in each for each in done["behind"])
    nobody_writes(shop)
    restored(shop, "--undo")
    cleared(shop)


@pytest.mark.long
def test_a_moment_before_the_branchs_is_found(shop: Typing, earlier: int, xid: str) -> None:
    """Good rows are not there, and transactions that were over have not begun."""
    shop.vendor.strays_to = earlier
    done = restored(shop, xid, "--swap", code=1)["comparison"]
    assert {each["table"]: each["missing"] for each in done["differs"]}["public.labels"] == 5
    assert any("next transaction is" in each for each in done["behind"])
    restored(shop, "--undo")
    cleared(shop)


@pytest.mark.long
def test_a_role_as_vendors_give_it_compares_what_it_may_read(shop: Typing) -> None:
    """The vendor's own tables and databases are named; in the application's database that would be a failure."""
    lab = shop.lab
    with lab.connect() as connection:
        for text in ("CREATE ROLE app LOGIN", "CREATE DATABASE sold OWNER app", "CREATE DATABASE shut"):
            connection.execute(text.encode())
        connection.execute("REVOKE CONNECT ON DATABASE shut FROM PUBLIC")
    role = psycopg.conninfo.make_conninfo(lab.dsn, user="app", dbname="sold")
    with psycopg.connect(role, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA mine; CREATE TABLE mine.rows (id int PRIMARY KEY)")
        connection.execute("INSERT INTO mine.rows SELECT generate_series(1, 9)")
    with pytest.raises(BackoutError, match="shut"):
        note_cluster(role, lambda *_: None)
    noted = note_cluster(role, lambda *_: None, own="sold")
    with psycopg.connect(role, autocommit=True) as client:
        client.execute("DELETE FROM mine.rows WHERE id > 5")
    found = compare_cluster(noted, role, goes_on=True, progress=lambda *_: None)
    assert found.behind == ()
    assert [each for each in found.tables if each.failed or each.differing] == []
    assert {"database shut", "postgres: public.orders"} <= {each.table for each in found.tables if each.reason}
    (mine,) = [each for each in found.tables if each.table == "sold: mine.rows"]
    assert (mine.equal, mine.newer) == (5, 4)
    ours = {**noted, "own": ""}
    found = compare_cluster(ours, role, goes_on=True, progress=lambda *_: None)
    assert "postgres: public.orders" in [each.table for each in found.tables if each.failed]


@pytest.mark.long
def test_a_swap_that_an_earlier_version_planned_is_resumed(shop: Typing, xid: str) -> None:
    """It goes on as it was planned, without the check; so does its undo, which then finds no note."""
    config = make_shell(shop.folder, shop.variables).config()
    tools = make_branch_tools(config, make_restore_tools(config))
    plan = plan_swap(tools, xid)
    steps = tuple(step for step in plan.steps if step.action in ("db_branch", "db_branch_look", "db_branch_finalize"))
    assert len(steps) == 3
    run = tools.own.journal.submit(replace(plan, steps=steps), actor="test", reason="planned by an earlier version")
    done = shop("runs", "resume", run, "--json").json
    assert (done["comparison"], done["comparison_before"]) == (None, None)
    assert shop.lab.rows("SELECT count(*) FROM orders WHERE status = 'bad'") == [(0,)]
    undone = restored(shop, "--undo", code=7)
    assert "was not noted before" in undone["comparison"]["failed"]
    assert shop.lab.rows("SELECT count(*) FROM orders WHERE status = 'bad'") == [(40,)]
    cleared(shop)


def test_behind_a_pooler_the_vendors_direct_address_is_compared(shop: Typing, tmp_path: Path) -> None:
    """What a session holds is the application's there; the other ports stay as they are."""
    vendor = Neon(host="ep-live.example.test")
    with served(vendor):
        text = TOML.format(project=PROJECT, branch="main", url=vendor.url)
        (tmp_path / "backout.toml").write_text(text, encoding="utf-8")
        for host, is_ours in (("ep-live", True), ("ep-live-pooler", False)):
            variables = {**shop.variables, "DATABASE_URL": f"postgresql://app@{host}.example.test/app"}
            config = make_shell(tmp_path, variables).config()
            own = make_restore_tools(config)
            tools = make_branch_tools(config, own)
            assert (tools.copies is own.copies) is is_ours
            assert tools.pooled is not is_ours
        with pytest.raises(BackoutError, match="the second check"):
            tools.copies.note("", tmp_path / "note", lambda *_: None)
    assert vendor.asked[-1][1].endswith("/connection_uri")
