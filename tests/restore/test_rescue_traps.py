"""What a naive comparison of rows would lose: changed keys, rows that refer to their own table, values taken since."""

# ruff: noqa: S608 - the names are ours

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from kept import template
from recovery_lab import Lab, opened
from rescue_lab import damaged, rescue, undone

from backout.errors import PartlyDone
from backout.journal.sqlite import SqliteJournal
from backout.journal.stop import StopRequest
from backout.providers.clock import SystemClock
from backout.runbook.recovery.restore import plan_rescue, plan_undo
from backout.runbook.recovery.restoring import foresee

from polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.rotating("restores", 5)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with opened(tmp_path_factory.mktemp("traps"), template()) as made:
        yield made


@pytest.fixture(autouse=True)
def _own_journal(lab: Lab, tmp_path: Path) -> None:
    lab.journal = SqliteJournal(tmp_path / "journal.sqlite", SystemClock(), stop=StopRequest())


@pytest.mark.long
def test_a_changed_key_is_changed_back(lab: Lab) -> None:
    """The update took the old key away: that row is one to put back, not one that was only locked."""
    xid = damaged(
        lab,
        "keys",
        "CREATE TABLE moved (id int PRIMARY KEY, v text); INSERT INTO moved VALUES (1, 'a'), (2, 'b'), (3, 'c')",
        "UPDATE moved SET id = id + 1000",
    )
    rescue(lab, xid)
    assert lab.rows("SELECT id, v FROM moved ORDER BY 1") == [(1, "a"), (2, "b"), (3, "c")]
    tools = lab.tools()
    lab.run(plan_undo(tools), tools)
    assert lab.rows("SELECT id, v FROM moved ORDER BY 1") == [(1001, "a"), (1002, "b"), (1003, "c")]


@pytest.mark.long
def test_a_newer_row_below_one_that_the_damage_made_stays(lab: Lab) -> None:
    """Removing its parent would take it along by ON DELETE CASCADE; what nothing newer hangs on goes, leaves first."""
    xid = damaged(
        lab,
        "tree",
        "CREATE TABLE tree (id int PRIMARY KEY, parent int REFERENCES tree ON DELETE CASCADE);"
        "INSERT INTO tree VALUES (1, NULL), (2, 1), (3, 2)",
        "INSERT INTO tree VALUES (10, 1), (11, 10), (30, 1), (31, 30), (32, 31); DELETE FROM tree WHERE id = 2",
        "INSERT INTO tree VALUES (20, 11)",
    )
    told = rescue(lab, xid)["public.tree"]
    assert lab.rows("SELECT id FROM tree ORDER BY 1") == [(1,), (2,), (3,), (10,), (11,), (20,)]
    assert (told["deleted"], told["inserted"], told["conflicts"]) == (3, 2, 2)
    tools = lab.tools()
    lab.run(plan_undo(tools), tools)
    assert lab.rows("SELECT id FROM tree ORDER BY 1") == [(1,), (10,), (11,), (20,), (30,), (31,), (32,)]


TAKEN: Final = {
    "inserted": ("DELETE FROM {}", "INSERT INTO {} VALUES (20, 'a')", [(2, "b"), (20, "a")], 1),
    "updated": (
        "UPDATE {} SET email = 'x' || id",
        "INSERT INTO {} VALUES (20, 'a')",
        [(1, "x1"), (2, "b"), (20, "a")],
        1,
    ),
    "exchanged": (
        "UPDATE {0} SET email = 'x' || id; UPDATE {0} SET email = chr(99 - id)",
        "",
        [(1, "b"), (2, "a")],
        2,
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("name", TAKEN)
def test_a_unique_value_that_is_taken_is_a_conflict(lab: Lab, name: str) -> None:
    """It stops no other row, and is counted."""
    damage, since, left, conflicts = TAKEN[name]
    made = "CREATE TABLE {0} (id int PRIMARY KEY, email text UNIQUE); INSERT INTO {0} VALUES (1, 'a'), (2, 'b')"
    xid = damaged(lab, name, made.format(name), damage.format(name), since.format(name))
    told = rescue(lab, xid)[f"public.{name}"]
    assert lab.rows(f"SELECT id, email FROM {name} ORDER BY 1") == left
    assert told["conflicts"] == conflicts
    assert told["updated"] + told["inserted"] == 2 - conflicts


@pytest.mark.long
def test_a_column_of_another_type_is_named(lab: Lab) -> None:
    """What it held is not brought back, and nobody must think that nothing was damaged."""
    xid = damaged(
        lab,
        "lossy",
        "CREATE TABLE lossy (id int PRIMARY KEY, amount numeric, v text); INSERT INTO lossy VALUES (1, 1.25, 'a')",
        "ALTER TABLE lossy ALTER amount TYPE int USING amount::int; UPDATE lossy SET v = 'bad'",
    )
    told = rescue(lab, xid)["public.lossy"]
    assert "amount" in told["left"]
    assert lab.rows("SELECT v FROM lossy") == [("a",)]


def test_a_rescue_that_stays_half_done_can_be_undone(lab: Lab) -> None:
    """What was committed until the lock was not to be had is taken back."""
    xid = damaged(
        lab,
        "half",
        "CREATE TABLE early (id int PRIMARY KEY, v text); CREATE TABLE late (id int PRIMARY KEY, v text);"
        "INSERT INTO early VALUES (1, 'a'); INSERT INTO late VALUES (1, 'a')",
        "UPDATE early SET v = 'bad'; UPDATE late SET v = 'bad'",
    )
    tools = lab.tools()
    with lab.connect() as holder, holder.transaction():
        holder.execute("LOCK TABLE late IN SHARE MODE")
        with pytest.raises(PartlyDone) as stopped:
            lab.run(plan_rescue(tools, xid, conflicts="live", skip=(), queues=False), tools)
    assert lab.rows("SELECT early.v, late.v FROM early, late") == [("a", "bad")]
    assert stopped.value.where is not None
    lab.journal.ask(stopped.value.where, "abort", actor="test", reason="not now")
    lab.run(plan_undo(tools), tools)
    assert lab.rows("SELECT early.v, late.v FROM early, late") == [("bad", "bad")]


@pytest.mark.long
@pytest.mark.parametrize("way", ["rescue", "undo"])
def test_a_writer_that_needs_a_damaged_row_is_not_blocked(lab: Lab, way: str) -> None:
    """Where triggers are kept still, the table is locked before any row: a writer goes on, and the rescue waits."""
    name = f"busy_{way}"
    xid = damaged(
        lab,
        name,
        f"CREATE TABLE {name} (id int PRIMARY KEY, v text);"
        f"INSERT INTO {name} SELECT g, 'a' FROM generate_series(1, 9) g;"
        f"CREATE FUNCTION still_{name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$;"
        f"CREATE TRIGGER told BEFORE UPDATE ON {name} FOR EACH ROW EXECUTE FUNCTION still_{name}()",
        f"UPDATE {name} SET v = 'bad' WHERE id < 5",
    )
    waits = (
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'ShareRowExclusiveLock' "
        f"AND relation = '{name}'::regclass"
    )
    if way == "undo":
        rescue(lab, xid)
    tools = lab.tools()
    with lab.connect() as writer, ThreadPoolExecutor(1) as beside:
        writer.execute("SET lock_timeout = '800ms'")
        with writer.transaction():
            writer.execute(f"UPDATE {name} SET v = 'new' WHERE id = 8")  # type: ignore[call-overload]
            done = (
                beside.submit(rescue, lab, xid) if way == "rescue" else beside.submit(lab.run, plan_undo(tools), tools)
            )
            until(lambda: lab.rows(waits) == [(1,)], timeout_s=60.0, what="it waits for the table")
            writer.execute(f"UPDATE {name} SET v = 'new' WHERE id = 1")  # type: ignore[call-overload]
        done.result(timeout=60)
    kept = "a" if way == "rescue" else "bad"
    assert lab.rows(f"SELECT id, v FROM {name} WHERE id IN (1, 2, 8) ORDER BY 1") == [
        (1, "new"),
        (2, kept),
        (8, "new"),
    ]


@pytest.mark.long
def test_an_undo_that_was_killed_behind_its_last_effect_is_done_again(lab: Lab) -> None:
    """The column that it took away is gone, and the values that stood in it are nothing to put back."""
    xid = damaged(
        lab,
        "again",
        "CREATE TABLE noted (id int PRIMARY KEY, note text, n int DEFAULT 0);"
        "INSERT INTO noted SELECT g, 'kept' FROM generate_series(1, 50) g",
        "UPDATE noted SET n = 1 WHERE id < 9; DELETE FROM noted WHERE id = 9; ALTER TABLE noted DROP COLUMN note",
    )
    rescue(lab, xid)
    assert lab.rows("SELECT count(*), count(note), sum(n) FROM noted") == [(50, 50, 0)]
    tools = lab.tools()
    run = lab.run(plan_undo(tools), tools)
    after = lab.rows("SELECT * FROM noted ORDER BY id")
    assert (len(after), len(after[0]), sum(n for _, n in after)) == (49, 2, 8)
    mark = str(run.plan.step("db_undo_rescue").args["mark"])
    tools.rescuer("postgres").undo(tools.kept / mark, lambda _what, _done, _of: None)
    assert lab.rows("SELECT * FROM noted ORDER BY id") == after


@pytest.mark.long
def test_a_materialized_view_comes_and_goes(lab: Lab) -> None:
    """It is dropped by a statement of its own."""
    xid = damaged(
        lab,
        "seen",
        "CREATE TABLE seen (id int PRIMARY KEY); INSERT INTO seen VALUES (1);"
        "CREATE MATERIALIZED VIEW sight AS SELECT * FROM seen",
        "DROP MATERIALIZED VIEW sight",
    )
    rescue(lab, xid)
    assert lab.rows("SELECT * FROM sight") == [(1,)]
    tools = lab.tools()
    lab.run(plan_undo(tools), tools)
    assert lab.rows("SELECT to_regclass('sight')") == [(None,)]


@pytest.mark.long
def test_a_row_goes_back_to_its_partition(lab: Lab) -> None:
    """It was deleted from the one and inserted into the other."""
    xid = damaged(
        lab,
        "parts",
        "CREATE TABLE parts (id int, r text, v text, PRIMARY KEY (id, r)) PARTITION BY LIST (r);"
        "CREATE TABLE parts_a PARTITION OF parts FOR VALUES IN ('a');"
        "CREATE TABLE parts_b PARTITION OF parts FOR VALUES IN ('b');"
        "INSERT INTO parts VALUES (1, 'a', 'x'), (2, 'a', 'y'), (3, 'b', 'z')",
        "UPDATE parts SET r = 'b' WHERE id = 1; UPDATE parts SET v = 'bad' WHERE id = 3",
    )
    rescue(lab, xid)
    assert lab.rows("SELECT * FROM parts ORDER BY 1") == [(1, "a", "x"), (2, "a", "y"), (3, "b", "z")]


@pytest.mark.long
def test_tables_of_an_owner_who_may_not_log_in_come_back(lab: Lab) -> None:
    """Whose enum runs as nobody but him: the copies let him in, and the live server gets a role for the time being."""
    xid = damaged(
        lab,
        "nologin",
        "CREATE ROLE quiet NOLOGIN; CREATE SCHEMA hers AUTHORIZATION quiet; SET ROLE quiet;"
        "CREATE TYPE hers.mood AS ENUM ('sad', 'glad'); CREATE TABLE hers.days (id int PRIMARY KEY, mood hers.mood);"
        "INSERT INTO hers.days SELECT g, 'glad' FROM generate_series(1, 9) g; RESET ROLE",
        "DELETE FROM hers.days WHERE id > 3; UPDATE hers.days SET mood = 'sad'",
    )
    told = rescue(lab, xid)["hers.days"]
    assert (told["left"], told["inserted"], told["updated"]) == ("", 6, 3)
    assert lab.rows("SELECT count(*) FROM hers.days WHERE mood = 'glad'") == [(9,)]
    assert lab.rows("SELECT rolcanlogin FROM pg_roles WHERE rolname = 'quiet'") == [(False,)]


@pytest.mark.long
def test_an_undo_takes_no_partition_and_no_view_of_others_along(lab: Lab) -> None:
    """Tables that came back go again but where somebody has hung something on them since; others go all the same."""
    xid = damaged(
        lab,
        "hung",
        "CREATE TABLE hung (id int PRIMARY KEY) PARTITION BY RANGE (id);"
        "CREATE TABLE hung_1 PARTITION OF hung FOR VALUES FROM (0) TO (50); INSERT INTO hung VALUES (1);"
        "CREATE TABLE hung_viewed (id int PRIMARY KEY); CREATE TABLE hung_alone (id int PRIMARY KEY)",
        "DROP TABLE hung; DROP TABLE hung_viewed; DROP TABLE hung_alone",
    )
    rescue(lab, xid)
    with lab.connect() as connection:
        connection.execute("CREATE TABLE hung_2 PARTITION OF hung FOR VALUES FROM (50) TO (99)")
        connection.execute("INSERT INTO hung VALUES (77)")
        connection.execute("CREATE VIEW hung_view AS SELECT id FROM hung_viewed")
    told = undone(lab)
    assert lab.rows("SELECT id FROM hung_2") == lab.rows("SELECT id FROM hung") == [(77,)]
    assert lab.rows("SELECT id FROM hung_view") == []
    there = "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relname LIKE 'hung%' ORDER BY 1"
    assert lab.rows(there) == [("hung",), ("hung_2",), ("hung_viewed",)]
    assert {"public.hung", "public.hung_viewed"} <= told.keys()


@pytest.mark.long
def test_a_table_that_stays_in_an_undo_stays_whole(lab: Lab) -> None:
    """Without its key, its default, its privileges and its policy it would be nobody's, or everybody's."""
    xid = damaged(
        lab,
        "whole",
        "CREATE ROLE bob_of_whole; CREATE TABLE whole (id serial PRIMARY KEY, v text DEFAULT 'x');"
        "CREATE INDEX whole_v ON whole (v); ALTER TABLE whole ENABLE ROW LEVEL SECURITY;"
        "CREATE POLICY mine ON whole USING (v = 'x'); GRANT SELECT ON whole TO bob_of_whole;"
        "CREATE TABLE whole_child (id int PRIMARY KEY, parent int REFERENCES whole);"
        "INSERT INTO whole DEFAULT VALUES; INSERT INTO whole_child VALUES (1, 1)",
        "DROP TABLE whole CASCADE; DROP TABLE whole_child",
        "",
    )
    rescue(lab, xid)
    described = (
        "SELECT relrowsecurity, relacl::text, (SELECT count(*) FROM pg_policy WHERE polrelid = c.oid), "
        "(SELECT string_agg(indexrelid::regclass::text, ',' ORDER BY 1) FROM pg_index WHERE indrelid = c.oid), "
        "(SELECT count(*) FROM pg_attrdef WHERE adrelid = c.oid) FROM pg_class c WHERE oid = 'whole'::regclass"
    )
    wanted = lab.rows(described)
    assert wanted[0][2:4] == (1, "whole_pkey,whole_v")
    with lab.connect() as connection:
        connection.execute("INSERT INTO whole DEFAULT VALUES")
    told = undone(lab)
    assert lab.rows(described) == wanted
    assert lab.rows("SELECT to_regclass('whole_child')") == [(None,)]
    assert "rows were written since" in told["public.whole"]
    assert "does" in told["index public.whole_v"]


@pytest.mark.long
def test_rows_below_a_partitioned_table_come_back(lab: Lab) -> None:
    """Their parent lies in one partition, and in no other; one whose parent is gone since is foreseen."""
    xid = damaged(
        lab,
        "below",
        "CREATE TABLE above (id int PRIMARY KEY) PARTITION BY RANGE (id);"
        "CREATE TABLE above_1 PARTITION OF above FOR VALUES FROM (0) TO (50);"
        "CREATE TABLE above_2 PARTITION OF above FOR VALUES FROM (50) TO (99); "
        "INSERT INTO above VALUES (1), (60), (61);"
        "CREATE TABLE below (id int PRIMARY KEY, above int REFERENCES above);"
        "INSERT INTO below VALUES (1, 1), (2, 60), (3, 61)",
        "DELETE FROM below",
        "DELETE FROM above WHERE id = 61",
    )
    tools = lab.tools()
    report = foresee(tools, plan_rescue(tools, xid, conflicts="live", skip=(), queues=False))
    (foreseen,) = (each for each in report.tables if each.table == "public.below")
    assert (foreseen.inserted, foreseen.unwritten) == (2, 1)
    assert [each.what for each in report.left_out] == ["1 rows of table public.below"]
    told = rescue(lab, xid)["public.below"]
    assert (told["inserted"], told["unwritten"]) == (2, 1)
    assert lab.rows("SELECT id, above FROM below ORDER BY 1") == [(1, 1), (2, 60)]


@pytest.mark.long
def test_what_was_written_in_a_column_that_was_added_by_hand_stays(lab: Lab) -> None:
    """Somebody gave it back with its default, which is a value like any other in a row that was written since."""
    xid = damaged(
        lab,
        "byhand",
        "CREATE TABLE byhand (id int PRIMARY KEY, note text DEFAULT 'x'); "
        "INSERT INTO byhand SELECT g, 'a' || g FROM generate_series(1, 4) g",
        "ALTER TABLE byhand DROP COLUMN note",
        "ALTER TABLE byhand ADD COLUMN note text DEFAULT 'x'; UPDATE byhand SET note = 'x' WHERE id = 2;"
        "UPDATE byhand SET note = 'y' WHERE id = 3",
    )
    told = rescue(lab, xid)["public.byhand"]
    assert lab.rows("SELECT * FROM byhand ORDER BY 1") == [(1, "a1"), (2, "x"), (3, "y"), (4, "a4")]
    assert (told["updated"], told["conflicts"]) == (2, 2)


@pytest.mark.long
def test_rows_that_a_constraint_refuses_by_now_are_foreseen(lab: Lab) -> None:
    """A CHECK and an exclusion that somebody added since: the dry run counts what the rescue cannot write."""
    xid = damaged(
        lab,
        "checked",
        "CREATE TABLE checked (id int PRIMARY KEY, n int, v text); INSERT INTO checked SELECT g, g, '{}' FROM "
        "generate_series(1, 12) g; CREATE TABLE booked (id int PRIMARY KEY, during int4range);"
        "INSERT INTO booked VALUES (1, '[1,5)'), (2, '[10,20)')",
        "DELETE FROM checked WHERE id > 9; UPDATE checked SET n = 0 WHERE id IN (8, 9); DELETE FROM booked",
        "ALTER TABLE checked ADD CONSTRAINT small CHECK (n < 9 AND v <> '{x}') NOT VALID;"
        "ALTER TABLE booked ADD EXCLUDE USING gist (during WITH &&); INSERT INTO booked VALUES (3, '[3,4)')",
    )
    tools = lab.tools()
    report = foresee(tools, plan_rescue(tools, xid, conflicts="live", skip=(), queues=False))
    foreseen = {each.table: each.unwritten for each in report.tables}
    assert foreseen == {"public.checked": 4, "public.booked": 1}
    told = rescue(lab, xid)
    assert {name: each["unwritten"] for name, each in told.items()} == foreseen
    assert lab.rows("SELECT id, n FROM checked WHERE id > 7 ORDER BY 1") == [(8, 8), (9, 0)]
    assert lab.rows("SELECT id FROM booked ORDER BY 1") == [(2,), (3,)]


@pytest.mark.long
def test_rows_that_were_written_since_in_another_column_are_all_listed(lab: Lab) -> None:
    """The note counts them, shows some keys and names a file with every one."""
    xid = damaged(
        lab,
        "listed",
        "CREATE TABLE listed (id int PRIMARY KEY, v text, w text);"
        "INSERT INTO listed SELECT g, 'a', 'a' FROM generate_series(1, 20) g",
        "UPDATE listed SET v = 'bad'",
        "UPDATE listed SET w = 'new' WHERE id <= 8",
    )
    tools = lab.tools()
    run = lab.run(plan_rescue(tools, xid, conflicts="live", skip=(), queues=False), tools)
    told: Any = lab.journal.result(run.id, "db_rescue")
    (note,) = (each for each in told["notes"] if "public.listed" in each)
    said, _, file = note.partition("; all of them by key: ")
    assert "8 damaged rows" in said
    assert Path(file).read_text(encoding="ascii").split() == [str(number) for number in range(1, 9)]
    assert lab.rows("SELECT count(*) FROM listed WHERE v = 'a'") == [(20,)]
