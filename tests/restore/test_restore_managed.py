"""Restores where a vendor runs the database: its API as documented, each branch the real database at that moment."""

from __future__ import annotations

import copy
import random
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from branch_lab import PASSWORD, TOML, Typing, managed
from cli_shell import backout as typed
from kept import template
from recovery_lab import Load
from rescue_model import Rows, Writer, rescued

from backout.providers.postgres.rescue import rows as rescue_rows
from backout.report.times import format_time

from extent import by_extent
from polling import until
from vendor_lab import ORGANIZATION, PROJECT, TOKEN, Xata, served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.rotating("restores", 5)


PRISMA = """
CREATE TABLE _prisma_migrations (id text PRIMARY KEY, checksum text NOT NULL, finished_at timestamptz,
  migration_name text NOT NULL, logs text, rolled_back_at timestamptz, started_at timestamptz NOT NULL DEFAULT now(),
  applied_steps_count int NOT NULL DEFAULT 0)
"""
SCHEMA = """
CREATE TABLE orders (id int PRIMARY KEY, status text, note text);
INSERT INTO orders SELECT g, 'paid', 'n' || g FROM generate_series(1, 1000) g;
CREATE TABLE parcels (id int PRIMARY KEY, label text); CREATE TABLE untouched (id int PRIMARY KEY);
INSERT INTO parcels SELECT g, 'p' || g FROM generate_series(1, 50) g; INSERT INTO untouched VALUES (1);
"""
STATE = """
SELECT count(*), count(*) FILTER (WHERE status = 'bad'), count(*) FILTER (WHERE status = 'sent'),
  (SELECT status FROM orders WHERE id = 7), (SELECT status FROM orders WHERE id = 5000),
  count(*) FILTER (WHERE id > 980 AND id < 2000), count(*) FILTER (WHERE id IN (500, 2001))
FROM orders
"""
RIGHT = [(1000, 0, 99, "held", "new", 20, 0)]
"""980 rows that were never gone, less 500, and 5000, and 20 that came back; 7 was changed again since."""


def prepared(typing: Typing) -> Typing:
    with typing.lab.connect() as connection:
        connection.execute(f"{SCHEMA}{PRISMA}")  # type: ignore[arg-type] # ours
    typing.lab.base("base")
    return typing


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Typing]:
    with managed(tmp_path_factory.mktemp("a"), template(), commit_times=True) as typing:
        yield prepared(typing)


@pytest.fixture(scope="module")
def dateless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Typing]:
    """Without commit timestamps, as vendors have it unless one asks."""
    with managed(tmp_path_factory.mktemp("b"), template(), commit_times=False) as typing:
        yield prepared(typing)


def good_writes(connection: psycopg.Connection[Any]) -> None:
    connection.execute("INSERT INTO orders VALUES (5000, 'new'); UPDATE orders SET status = 'held' WHERE id = 7")
    connection.execute("DELETE FROM orders WHERE id = 500")


def damage(connection: psycopg.Connection[Any]) -> None:
    """Damage 300 rows, drop a column and a table, delete and insert, in savepoints of one transaction."""
    connection.execute("UPDATE orders SET status = 'bad' WHERE id <= 300")
    connection.execute("SAVEPOINT one; ALTER TABLE orders DROP COLUMN note; DELETE FROM orders WHERE id > 980")
    connection.execute("SAVEPOINT two; DROP TABLE parcels; INSERT INTO orders VALUES (2001, 'bad')")


@pytest.fixture(scope="module")
def xid(shop: Typing) -> str:
    with shop.lab.connect() as connection:
        connection.execute("UPDATE orders SET status = 'sent' WHERE id <= 100")
        with connection.transaction():
            row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
            damage(connection)
        good_writes(connection)
    assert row is not None
    return str(row[0])


def tables_of(answer: dict[str, object]) -> dict[str, dict[str, Any]]:
    rescue = answer["rescue"]
    assert isinstance(rescue, dict)
    return {each["table"]: each for each in rescue["tables"]}


def nothing_is_left(typing: Typing) -> bool:
    return typing.vendor.sides.list() == () and [each["name"] for each in typing.vendor.branches] == ["main"]


@pytest.mark.long
@pytest.mark.usefixtures("xid")
def test_a_whole_recovery_as_it_is_typed(shop: Typing) -> None:
    """Dry run, rescue, undo: found by the catalog's clue, counted exactly, newer good rows kept."""
    lab = shop.lab
    harmed = lab.rows(STATE)
    dry = shop("db", "restore", "before drop of orders.note", "--dry-run", "--json").json
    tables = tables_of(dry)
    assert set(tables) == {"public.orders", "public.parcels"}
    orders = tables["public.orders"]
    assert (orders["columns"], orders["inserted"], orders["deleted"]) == (["status", "note"], 20, 1)
    assert (orders["conflicts"], orders["examples"]) == (1, ["7"])
    assert tables["public.parcels"]["inserted"] == 50
    assert lab.rows(STATE) == harmed
    assert nothing_is_left(shop)

    answer = shop("db", "restore", "before drop of orders.note", "--yes", "--json").json
    done, checked = tables_of(answer), answer["comparison"]
    assert isinstance(checked, dict)
    assert checked["differs"] == checked["behind"] == []
    assert checked["equal"] >= 1000
    assert "with those just before the damage" in checked["sentence"]
    assert (done["public.orders"]["inserted"], done["public.orders"]["deleted"]) == (20, 1)
    assert lab.rows(STATE) == RIGHT
    assert lab.rows("SELECT count(note) FROM orders") == [(999,)]
    assert lab.rows("SELECT count(*), max(label) FROM parcels") == [(50, "p9")]
    assert nothing_is_left(shop)
    shop("db", "restore", "--undo", "--yes")
    assert lab.rows(STATE) == harmed
    # `db branch look`, in another test, writes a service file: that one is meant to hold it, mode 0600.
    kept = [path for path in shop.folder.rglob("*") if path.is_file() and not path.name.endswith("pg_service.conf")]
    assert kept
    assert not [path for path in kept if PASSWORD.encode() in path.read_bytes()]


@pytest.mark.long
def test_what_a_rescue_from_branches_gets_wrong_is_found(shop: Typing, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its SQL is broken on purpose: its own check, with the same SQL, finds nothing; the exit code is 1."""
    with shop.lab.connect() as connection:
        connection.execute("CREATE TABLE labels (id int PRIMARY KEY, label text)")
        connection.execute("INSERT INTO labels SELECT g, 'p' || g FROM generate_series(1, 90) g")
        with connection.transaction():
            row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
            connection.execute("UPDATE labels SET label = 'bad' WHERE id <= 80")
    assert row is not None
    real = rescue_rows.copy_rows

    def pipe(source: Any, read: str, target: Any, write: str, values: Any = None) -> None:
        if '."labels"' in read:
            read = read.replace('"label"', "CASE WHEN id = 70 THEN 'odd' ELSE label END")
        real(source, read, target, write, values)

    monkeypatch.setattr(rescue_rows, "copy_rows", pipe)
    checked = shop("db", "restore", str(row[0]), "--yes", "--json", code=1).json["comparison"]
    assert isinstance(checked, dict)
    (labels,) = checked["differs"]
    assert (labels["table"], labels["left"] + labels["wrong"], labels["examples"]) == ("public.labels", 1, ["70"])


@pytest.mark.long
def test_a_branch_that_ends_before_the_damage_is_made_again_later(
    shop: Typing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit with a later time may stand before it in the WAL, and a recovery to its moment ends there."""
    with shop.lab.connect() as connection:
        connection.execute("CREATE TABLE hasty (id int PRIMARY KEY, label text)")
        connection.execute("INSERT INTO hasty SELECT g, 'p' || g FROM generate_series(1, 90) g")
        with connection.transaction():
            row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
            connection.execute("UPDATE hasty SET label = 'bad' WHERE id <= 80")
    assert row is not None
    apart = "max(pg_xact_commit_timestamp(xmin)) - min(pg_xact_commit_timestamp(xmin))"
    ((apart_s,),) = shop.lab.rows(f"SELECT extract(epoch FROM {apart})::float8 FROM hasty")  # noqa: S608 ours
    monkeypatch.setattr(shop.vendor, "ends_early_s", min(apart_s / 2, 0.005))  # the branch before has the rows
    dry = tables_of(shop("db", "restore", str(row[0]), "--dry-run", "--json").json)
    assert dry["public.hasty"]["columns"] == ["label"]
    shop("db", "restore", str(row[0]), "--yes")
    assert shop.lab.rows("SELECT count(*) FROM hasty WHERE label = 'bad'") == [(0,)]
    shop("db", "restore", "--undo", "--yes")
    assert nothing_is_left(shop)


def test_a_side_branch_is_made_once_and_shows_the_moment_before(shop: Typing, xid: str) -> None:
    """By the transaction; the same command again makes none; a restore point goes by its LSN."""
    first = shop("db", "restore", xid, "--side", "--json").json["side"]
    again = shop("db", "restore", xid, "--side", "--json").json["side"]
    assert isinstance(first, dict)
    assert isinstance(again, dict)
    assert first["id"] == again["id"]
    look = shop("db", "branch", "look", first["name"])
    assert "PGSERVICEFILE" in look.out
    side = shop.vendor.sides.find(first["name"])
    assert side is not None
    with psycopg.connect(side.dsn) as connection:
        assert connection.execute("SELECT count(*), count(note) FROM orders").fetchone() == (1000, 1000)
        assert connection.execute("SELECT count(*) FROM orders WHERE status = 'sent'").fetchone() == (100,)
    shop("db", "branch", "delete", first["name"], "--yes")

    shop("db", "points", "add", "here")
    then = shop.lab.rows("SELECT count(*) FROM untouched")[0]
    shop.lab.rows("INSERT INTO untouched VALUES (2) RETURNING 1")
    plan = shop("db", "restore", "here", "--side", "--dry-run").out
    assert "exactness at this vendor: LSN" in plan
    made = shop("db", "restore", "here", "--side", "--json").json["side"]
    assert isinstance(made, dict)
    side = shop.vendor.sides.find(str(made["name"]))
    assert side is not None
    with psycopg.connect(side.dsn) as connection:
        assert connection.execute("SELECT count(*) FROM untouched").fetchone() == then
    shop("db", "branch", "delete", str(made["name"]), "--yes")
    assert nothing_is_left(shop)


@pytest.mark.long
def test_a_lost_answer_makes_no_second_branch_and_loses_none(shop: Typing, xid: str) -> None:
    """The client looks for the branch instead of asking again."""
    before = len(shop.vendor.changes())
    shop.vendor.lose_next_change = True
    assert "public.orders" in tables_of(shop("db", "restore", xid, "--dry-run", "--json").json)
    made = [path for method, path, _ in shop.vendor.changes()[before:] if method == "POST" and "branches" in path]
    assert len(made) == 2
    assert nothing_is_left(shop)


def test_what_cannot_be_is_refused_before_anything_is_made(shop: Typing, xid: str) -> None:
    """Outside the window, in the future, a moment alone, no such column, the side instances' own options."""
    before = len(shop.vendor.changes())
    now = format_time(time.time())
    told = shop("db", "restore", "2020-01-01T00:00:00Z", "--side", code=3).err
    assert "out of the vendor's window" in told
    assert "in the future" in shop("db", "restore", "2099-01-01T00:00:00Z", "--side", code=3).err
    assert "does not say which transaction" in shop("db", "restore", now, code=3).err
    assert "nothing in the catalog tells" in shop("db", "restore", "before drop of parcels", code=3).err
    assert "has lost no column" in shop("db", "restore", "before drop of untouched.x", code=2).err
    assert "no migration" in shop("db", "restore", "before migration nope", code=2).err
    assert "backout db branch list" in shop("db", "restore", "--list", code=2).err
    assert len(shop.vendor.changes()) == before
    assert xid


def migrate(typing: Typing, name: str, script: str, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Apply a script between the two entries that a migration tool makes."""
    with typing.lab.connect() as connection:
        values = "(id, checksum, migration_name) VALUES (%s, 'x', %s)"
        connection.execute(f"INSERT INTO _prisma_migrations {values}", (name, name))  # type: ignore[arg-type] # ours
        meanwhile()
        with connection.transaction():
            connection.execute(script)  # type: ignore[arg-type] # ours
        done = "UPDATE _prisma_migrations SET finished_at = now(), applied_steps_count = 1 WHERE id = %s"
        connection.execute(done, (name,))


WRONG = """
UPDATE orders SET status = 'bad' WHERE id <= 300; DELETE FROM orders WHERE id > 980;
INSERT INTO orders VALUES (2001, 'bad');
ALTER TABLE orders DROP COLUMN note; DROP TABLE parcels
"""


@pytest.mark.long
def test_without_commit_timestamps_a_migration_is_rescued_by_its_own_row(dateless: Typing) -> None:
    """Its row says when it began, the commit log what lies between, the catalog which of it is the script's."""
    lab = dateless.lab
    lab.rows("UPDATE orders SET status = 'sent' WHERE id <= 100 RETURNING 1")
    migrate(dateless, "1_split", WRONG)
    began = time.time()
    with lab.connect() as connection:
        good_writes(connection)
        row = connection.execute("SELECT xmin::text FROM orders WHERE id = 8").fetchone()
    assert row is not None
    harmed = lab.rows(STATE)
    refused = dateless("db", "restore", row[0], code=3).err
    assert "track_commit_timestamp is off" in refused
    assert "before migration NAME" in refused
    assert "track_commit_timestamp is off" in dateless("db", "restore", "before drop of orders.note", code=3).err
    until(lambda: time.time() > began + 1, what="the second behind the migration's end is over")
    done = tables_of(dateless("db", "restore", "before migration 1_split", "--yes", "--json", code=1).json)
    # Good rows were written within the second behind the migration's end: what is gone then may be theirs.
    assert (
        done["public.orders"]["left"]
        == "21 rows are gone since, and others wrote at that time: they are left as they are"
    )
    assert lab.rows(STATE) == [(980, 0, 99, "held", "new", 0, 0)]
    assert lab.rows("SELECT count(note) FROM orders") == [(979,)]
    assert lab.rows("SELECT count(*) FROM parcels") == [(50,)]
    assert nothing_is_left(dateless)
    dateless("db", "restore", "--undo", "--yes")
    assert lab.rows(STATE) == harmed


@pytest.mark.long
def test_with_commit_timestamps_a_migration_is_cut_out_exactly(shop: Typing, xid: str) -> None:
    """The branches lie around the script itself, so that rows which are gone are its own, whoever wrote right after."""
    lab = shop.lab
    lab.rows("INSERT INTO untouched SELECT g FROM generate_series(100, 199) g RETURNING 1")
    script = (
        "DELETE FROM untouched WHERE id < 120; ALTER TABLE untouched ADD COLUMN more int; UPDATE untouched SET more = 1"
    )
    with lab.connect() as other:  # a temporary table is no change of the schema, while it is there
        temporary = "CREATE TEMP TABLE scratch (id int PRIMARY KEY); DELETE FROM untouched WHERE id = 160"
        migrate(shop, "2_more", script, lambda: other.execute(temporary))
        lab.rows("DELETE FROM untouched WHERE id = 150 RETURNING 1")
        harmed = lab.rows("SELECT id FROM untouched ORDER BY id")
        # The column that the migration made stays, and is named.
        done = tables_of(shop("db", "restore", "before migration 2_more", "--yes", "--json", code=1).json)
    assert done["public.untouched"]["left"] == ""
    assert done["public.untouched"]["inserted"] >= 20
    expected = sorted({*range(100, 200)} - {150, 160})
    assert [row for (row,) in lab.rows("SELECT id FROM untouched WHERE id >= 100 ORDER BY id")] == expected
    shop("db", "restore", "--undo", "--yes")
    assert lab.rows("SELECT id FROM untouched ORDER BY id") == harmed
    assert xid


SEEDS = range(by_extent(1, 1, proof=40))


@pytest.mark.proof
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.usefixtures("xid")
def test_among_other_commits_the_damage_goes_and_newer_good_rows_stay(
    shop: Typing, seed: int, proof: Callable[..., None]
) -> None:
    """Against a model of the rows, in a database under load; undone they are as they were."""
    lab, random_ = shop.lab, random.Random(seed)  # noqa: S311 seeded, to be repeated
    model: Rows = {}
    with lab.connect() as connection, Load(lab) as load:
        connection.execute("DROP TABLE IF EXISTS items")
        connection.execute("CREATE TABLE items (id int PRIMARY KEY, a text, b text, c text)")
        Writer(connection, model, random_, "old").write(260)
        before = copy.deepcopy(model)
        with connection.transaction():
            row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
            load.await_ticks(50)
            Writer(connection, model, random_, "bad").write(random_.randrange(1, 90), savepoints=True)
            load.await_ticks(50)
        after = copy.deepcopy(model)
        Writer(connection, model, random_, "new").write(60)
        load.await_ticks(20)
    assert row is not None

    def rows() -> Rows:
        return {key: list(values) for key, *values in lab.rows("SELECT id, a, b, c FROM items")}

    expected = rescued(before, after, model)
    told = typed(shop.folder, "db", "restore", row[0], "--yes", variables=shop.variables)
    assert told.code == int("left out: " in told.out), told.err + told.out  # a finding, where something stays
    found = rows()
    proof(
        "a rescue at a vendor loses no newer good row and leaves no damage", trials=1, failures=int(found != expected)
    )
    assert found == expected
    shop("db", "restore", "--undo", "--yes")
    assert rows() == model
    assert nothing_is_left(shop)


class Hostless(Xata):
    """Xata, with a live branch whose address it does not tell."""

    def _detail(self, branch: dict[str, Any]) -> dict[str, Any]:
        return {**super()._detail(branch), "connectionString": None}


def test_a_vendor_of_snapshots_is_refused_with_the_way_that_is_open(shop: Typing, tmp_path: Path) -> None:
    """Xata takes no moment and has no finalize: a branch that keeps a restore point, and the binding by hand."""
    vendor = Hostless()
    with served(vendor):
        text = TOML.format(project=PROJECT, branch="main", url=vendor.url).replace("/api/v2", "")
        text = text.replace('"neon"', f'"xata"\norganization = "{ORGANIZATION}"')
        (tmp_path / "backout.toml").write_text(text, encoding="utf-8")
        variables = {**shop.variables, "XATA_API_KEY": TOKEN}
        for mode in ("--side", "--rescue"):
            told = typed(tmp_path, "db", "restore", "2026-11-25T10:00:00Z", mode, variables=variables)
            assert told.code == 3
            assert "goes back to no moment, and no branch keeps a restore point of that one" in told.err
            assert "backout db points add NAME -e lab" in told.err
        told = typed(tmp_path, "db", "restore", "2026-11-25T10:00:00Z", "--swap", variables=variables)
        assert told.code == 3
        assert "has no call that puts a branch" in told.err
        assert "Hyperdrive" in told.err
        assert vendor.changes() == []
        added = typed(tmp_path, "db", "points", "add", "before-split", variables=variables)
        assert (added.code, "kept by branch backout-point-before-split" in added.out) == (0, True), added.err
        assert len(vendor.changes()) == 1
        listed = typed(tmp_path, "db", "points", "list", "--json", variables=variables)
        assert [(each["name"], each["branch"], each["kept"]) for each in listed.json["points"]] == [
            ("before-split", "backout-point-before-split", True)
        ]
        dry = typed(tmp_path, "db", "restore", "before-split", "--side", "--dry-run", variables=variables)
        assert (dry.code, "as branch xb1 kept it" in dry.out) == (0, True), dry.err
        pruned = typed(tmp_path, "db", "points", "prune", "--older-than", "0s", "--yes", variables=variables)
        assert (pruned.code, "nothing to delete" in pruned.out) == (0, True)  # the newest stays
        made = typed(tmp_path, "db", "points", "add", "again", variables=variables)
        vendor.branches["xb1"]["createdAt"] = "2026-11-01T12:00:00Z"
        pruned = typed(tmp_path, "db", "points", "prune", "--yes", variables=variables)
        assert (made.code, pruned.code, "they are gone" in pruned.out) == (0, 0, True), pruned.err
        assert sorted(vendor.branches) == ["xb0", "xb2"]
        gone = typed(tmp_path, "db", "restore", "before-split", "--side", "--dry-run", variables=variables)
        assert (gone.code, "Name one of the restore points: again" in gone.err) == (3, True), gone.err


@pytest.mark.long
def test_the_whole_is_put_in_place_and_back_by_the_vendor(shop: Typing, xid: str) -> None:
    """The old state stays as a branch; undo puts it back."""
    lab = shop.lab
    harmed = lab.rows(STATE)
    done = shop("db", "restore", xid, "--swap", "--yes", "--json").json
    kept = done["kept"]
    assert isinstance(kept, list)
    assert kept[0] in [each["name"] for each in shop.vendor.branches]
    assert lab.rows("SELECT count(*), count(note) FROM orders") == [(1000, 1000)]
    shop("db", "restore", "--undo", "--yes")
    assert lab.rows(STATE) == harmed
    for name in [each["name"] for each in shop.vendor.branches if each["name"] != "main"]:
        shop("db", "branch", "delete", name, "--yes")
    assert nothing_is_left(shop)
