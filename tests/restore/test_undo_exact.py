"""The undo of a rescue takes back what the rescue wrote, and nothing else: whatever stopped it, and whenever."""

# ruff: noqa: S608 - the names are ours

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from kept import template
from recovery_lab import Lab, opened
from rescue_lab import damaged, rescue, undone

from backout.errors import PartlyDone, UsageError
from backout.journal.sqlite import SqliteJournal
from backout.journal.stop import StopRequest
from backout.providers.clock import SystemClock
from backout.runbook.recovery.restore import plan_rescue, plan_swap, plan_undo

from polling import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.rotating("restores", 5)

SCRIPT = Path(__file__).parents[1] / "support" / "database" / "restore_killed.py"
LEAVES = "SELECT id, branch, v FROM {} ORDER BY 1"
AT_COMMIT = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query = 'COMMIT'"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with opened(tmp_path_factory.mktemp("exact"), template()) as made:
        yield made


@pytest.fixture(autouse=True)
def _own_journal(lab: Lab, tmp_path: Path) -> None:
    lab.journal = SqliteJournal(tmp_path / "journal.sqlite", SystemClock(), stop=StopRequest())


def leaves(lab: Lab, name: str) -> str:
    """Damage a table whose foreign key is checked at COMMIT, which a lock on its parent stops."""
    return damaged(
        lab,
        name,
        f"CREATE TABLE {name}_branch (id int PRIMARY KEY); INSERT INTO {name}_branch VALUES (1), (2);"
        f"CREATE TABLE {name} (id int PRIMARY KEY, branch int REFERENCES {name}_branch DEFERRABLE INITIALLY DEFERRED, "
        f"v text); INSERT INTO {name} SELECT g, 1, 'a' FROM generate_series(1, 4) g",
        f"DELETE FROM {name} WHERE id > 2",
    )


def aborted(lab: Lab, run: str) -> None:
    lab.journal.ask(run, "abort", actor="test", reason="not now")


@pytest.mark.long
def test_what_was_rolled_back_is_nothing_to_take_back(lab: Lab) -> None:
    """Its rows were kept, and then the COMMIT failed; rows that somebody brought back by hand are his."""
    xid = leaves(lab, "failed")
    tools = lab.tools()
    with lab.connect() as holder, holder.transaction():
        holder.execute("SELECT FROM failed_branch WHERE id = 1 FOR UPDATE")
        with pytest.raises(PartlyDone, match="no lock was granted") as stopped:
            lab.run(plan_rescue(tools, xid, conflicts="live", skip=(), queues=False), tools)
    aborted(lab, str(stopped.value.where))
    assert lab.rows(LEAVES.format("failed")) == [(1, 1, "a"), (2, 1, "a")]
    with lab.connect() as connection:
        connection.execute("INSERT INTO failed VALUES (3, 1, 'a'), (4, 1, 'a')")
    undone(lab)
    assert lab.rows(LEAVES.format("failed")) == [(1, 1, "a"), (2, 1, "a"), (3, 1, "a"), (4, 1, "a")]


@pytest.mark.long
def test_a_row_that_somebody_made_anew_is_not_deleted(lab: Lab) -> None:
    """It looks like the one that the rescue had brought back, and another transaction wrote it."""
    xid = leaves(lab, "anew")
    assert rescue(lab, xid)["public.anew"]["inserted"] == 2
    with lab.connect() as connection:
        connection.execute("DELETE FROM anew WHERE id = 4; INSERT INTO anew VALUES (4, 1, 'a')")
    undone(lab)
    assert lab.rows(LEAVES.format("anew")) == [(1, 1, "a"), (2, 1, "a"), (4, 1, "a")]


@pytest.mark.long
def test_a_table_that_was_rewritten_since_is_taken_back_by_its_values(lab: Lab) -> None:
    """Every row of it was written by the ALTER TABLE, so that ids say nothing."""
    xid = leaves(lab, "rewritten")
    rescue(lab, xid)
    with lab.connect() as connection:
        connection.execute("ALTER TABLE rewritten ADD COLUMN at timestamptz DEFAULT clock_timestamp()")
    undone(lab)
    assert lab.rows(LEAVES.format("rewritten")) == [(1, 1, "a"), (2, 1, "a")]


@pytest.mark.long
def test_a_value_that_could_not_be_written_is_nothing_to_take_back(lab: Lab) -> None:
    """Somebody had its unique value; when he gave it up, and somebody set it as before, that is his."""
    xid = damaged(
        lab,
        "refused",
        "CREATE TABLE refused (id int PRIMARY KEY, email text UNIQUE); INSERT INTO refused VALUES (1, 'a'), (2, 'b')",
        "UPDATE refused SET email = 'x' || id",
        "INSERT INTO refused VALUES (20, 'a')",
    )
    told = rescue(lab, xid)["public.refused"]
    assert (told["updated"], told["conflicts"]) == (1, 1)
    with lab.connect() as connection:
        connection.execute("DELETE FROM refused WHERE id = 20; UPDATE refused SET email = 'a' WHERE id = 1")
    undone(lab)
    assert lab.rows("SELECT * FROM refused ORDER BY 1") == [(1, "a"), (2, "x2")]


@pytest.mark.long
@pytest.mark.parametrize("end", ["committed", "rolled back"])
def test_a_kill_at_the_commit_is_undone_as_it_ended(lab: Lab, end: str) -> None:
    """Kill -9 while the server commits: it ends that alone, and what counts is how."""
    name = end.replace(" ", "_")
    lab.journal = SqliteJournal(lab.root / "journal.sqlite", SystemClock(), stop=StopRequest())  # the process's own
    xid = leaves(lab, name)
    tools = lab.tools()
    run = lab.journal.submit(
        plan_rescue(tools, xid, conflicts="live", skip=(), queues=False), actor="test", reason="a kill"
    )
    with lab.connect() as holder, holder.transaction():
        holder.execute(f"SELECT FROM {name}_branch WHERE id = 1 FOR UPDATE")
        argv = (sys.executable, str(SCRIPT), str(lab.root), str(lab.sockets), str(lab.port), run, "10000000")
        paths = os.pathsep.join((str(SCRIPT.parent), *sys.path))
        process: Any = subprocess.Popen(argv, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": paths})
        try:
            until(lambda: lab.rows(AT_COMMIT) == [(1,)], timeout_s=PATIENCE_S, what="it commits")
        finally:
            process.kill()
            process.wait(timeout=PATIENCE_S)
        if end == "rolled back":
            until(lambda: lab.rows(AT_COMMIT) == [(0,)], timeout_s=PATIENCE_S, what="the server gives it up")
    aborted(lab, run)
    both = [(1, 1, "a"), (2, 1, "a"), (3, 1, "a"), (4, 1, "a")]
    if end == "committed":
        until(lambda: lab.rows(LEAVES.format(name)) == both, timeout_s=PATIENCE_S, what="the server commits it")
    else:
        with lab.connect() as connection:
            connection.execute(f"INSERT INTO {name} VALUES (3, 1, 'a'), (4, 1, 'a')")
    undone(lab)
    assert lab.rows(LEAVES.format(name)) == (both[:2] if end == "committed" else both)


@pytest.mark.long
def test_a_default_that_somebody_changed_since_stays(lab: Lab) -> None:
    """What of a column the rescue had set back is somebody's when he has set it anew, or taken it away."""
    xid = damaged(
        lab,
        "preset",
        "CREATE TABLE preset (id int PRIMARY KEY, a text DEFAULT 'a', b text DEFAULT 'b', c text DEFAULT 'c')",
        "ALTER TABLE preset ALTER a SET DEFAULT 'bad', ALTER b SET DEFAULT 'bad', ALTER c SET DEFAULT 'bad'",
    )
    presets = "SELECT string_agg(pg_get_expr(adbin, adrelid), ',' ORDER BY adnum) FROM pg_attrdef WHERE adrelid = %s"
    presets = presets.replace("%s", "'preset'::regclass")
    rescue(lab, xid)
    assert lab.rows(presets) == [("'a'::text,'b'::text,'c'::text",)]
    with lab.connect() as connection:
        connection.execute("ALTER TABLE preset ALTER a SET DEFAULT 'new', ALTER b DROP DEFAULT")
    told = undone(lab)
    assert lab.rows(presets) == [("'new'::text,'bad'::text",)]
    assert set(told) == {"default public.preset a", "default public.preset b"}


@pytest.mark.long
def test_a_generated_column_goes_again(lab: Lab) -> None:
    """Nobody can write it, so that its values are none that were written since."""
    made = (
        "CREATE TABLE worked (id int PRIMARY KEY, n int, twice int GENERATED ALWAYS AS (n * 2) STORED);"
        "INSERT INTO worked VALUES (1, 4)"
    )
    rescue(lab, damaged(lab, "worked", made, "ALTER TABLE worked DROP twice"))
    with lab.connect() as connection:
        connection.execute("UPDATE worked SET n = 5")
    assert undone(lab) == {}
    assert lab.rows("SELECT to_jsonb(worked)::text FROM worked") == [('{"n": 5, "id": 1}',)]


@pytest.mark.long
def test_an_undo_that_left_something_can_be_done_again(lab: Lab) -> None:
    """When what was in its way is gone."""
    xid = damaged(
        lab,
        "again",
        "CREATE TABLE again_dropped (id int PRIMARY KEY); INSERT INTO again_dropped VALUES (1);"
        "CREATE TABLE again (id int PRIMARY KEY, v text); INSERT INTO again VALUES (1, 'a'), (2, 'a')",
        "DROP TABLE again_dropped; UPDATE again SET v = 'bad'",
    )
    rescue(lab, xid)
    with lab.connect() as connection:
        connection.execute("INSERT INTO again_dropped VALUES (2); UPDATE again SET v = 'new' WHERE id = 2")
    tools = lab.tools()
    run = lab.run(plan_undo(tools), tools)
    told: Any = lab.journal.result(run.id, "db_undo_rescue")
    (rows,) = (each for each in told["tables"] if each["table"] == "public.again")
    assert (rows["updated"], rows["conflicts"]) == (1, 1)
    assert lab.rows("SELECT id, v FROM again ORDER BY 1") == [(1, "bad"), (2, "new")]
    with lab.connect() as connection:
        connection.execute("DELETE FROM again_dropped WHERE id = 2")
    assert undone(lab) == {}
    assert lab.rows("SELECT to_regclass('again_dropped')") == [(None,)]
    with lab.connect() as connection:
        connection.execute("UPDATE again SET v = 'a' WHERE id = 2")  # as the rescue left it
    undone(lab)
    assert lab.rows("SELECT id, v FROM again ORDER BY 1") == [(1, "bad"), (2, "bad")]
    with pytest.raises(UsageError, match="no restore of this database is recorded"):
        plan_undo(tools)


PUBLISH = "ALTER TABLE {0} REPLICA IDENTITY NOTHING; CREATE PUBLICATION of_{0} FOR TABLE {0}"
UNPUBLISH = "DROP PUBLICATION of_{0}"


def run_as_admin(lab: Lab, statements: str) -> None:
    with lab.connect() as connection:
        connection.execute(statements)


@pytest.mark.long
def test_a_table_that_was_published_since_stops_no_other(lab: Lab) -> None:
    """Without a replica identity Postgres refuses to update it (55000): it is left alone, and once it is not, done."""
    names = ("published", "private")
    xid = damaged(
        lab,
        "published",
        ";".join(f"CREATE TABLE {n} (id int PRIMARY KEY, v text); INSERT INTO {n} VALUES (1, 'a')" for n in names),
        ";".join(f"UPDATE {n} SET v = 'bad'" for n in names),
    )
    refused = 'Postgres refused it: cannot update table "published" because it does not have a replica identity'
    run_as_admin(lab, PUBLISH.format("published"))
    told = rescue(lab, xid)
    assert (told["public.private"]["updated"], told["public.published"]["updated"]) == (1, 0)
    assert told["public.published"]["left"].startswith(refused)
    run_as_admin(lab, UNPUBLISH.format("published"))
    assert rescue(lab, xid)["public.published"]["updated"] == 1
    run_as_admin(lab, "CREATE PUBLICATION of_published FOR TABLE published")
    left = undone(lab)
    assert [why.startswith(f"rows stay: {refused}") for why in left.values()] == [True]
    run_as_admin(lab, UNPUBLISH.format("published"))
    assert lab.rows("SELECT a.v, b.v FROM published a, private b") == [("a", "a")]
    for _ in names:  # it took nothing back, so that it is the next one again; then the first rescue
        undone(lab)
    assert lab.rows("SELECT a.v, b.v FROM published a, private b") == [("bad", "bad")]


@pytest.mark.long
def test_an_undo_that_took_nothing_back_is_not_followed_by_that_of_another_rescue(lab: Lab) -> None:
    """Everything that the second rescue wrote was written to since; the first one is undone by its run."""
    runs = []
    for name in ("before", "blocked"):
        made = f"CREATE TABLE {name} (id int PRIMARY KEY, v text); INSERT INTO {name} VALUES (1, 'a')"
        xid = damaged(lab, name, made, f"UPDATE {name} SET v = 'bad'")
        tools = lab.tools()
        runs.append(lab.run(plan_rescue(tools, xid, conflicts="live", skip=(), queues=False), tools).id)
    with lab.connect() as connection:
        connection.execute("UPDATE blocked SET v = 'new'")
    for _ in range(2):
        undone(lab)
    assert lab.rows("SELECT b.v, c.v FROM before b, blocked c") == [("a", "new")]
    tools = lab.tools()
    lab.run(plan_undo(tools, runs[0]), tools)
    assert lab.rows("SELECT b.v, c.v FROM before b, blocked c") == [("bad", "new")]


@pytest.mark.long
def test_ids_that_come_again_after_a_swap_are_not_the_rescues(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The whole went back to a moment before the rescue: what is written under its ids since is newer."""
    with opened(tmp_path, template()) as lab:
        xid = damaged(
            lab,
            "ids",
            "CREATE TABLE ids (id int PRIMARY KEY, v text, n int);"
            "INSERT INTO ids SELECT g, 'a', 0 FROM generate_series(1, 9) g",
            "DELETE FROM ids WHERE id > 5",
        )
        rescue(lab, xid)
        (written,) = lab.rows("SELECT xmin::text::bigint FROM ids WHERE id = 9")[0]
        tools = lab.tools()
        lab.run(plan_swap(tools, xid), tools)
        assert lab.rows("SELECT count(*) FROM ids") == [(9,)]
        assert lab.receiver is not None
        lab.receiver.wait(timeout=PATIENCE_S)
        lab.receiver = None
        lab.receive()
        with lab.connect() as connection:
            lab.base("ids_again")
            with connection.transaction():
                row: Any = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
                connection.execute("UPDATE ids SET v = 'bad' WHERE id < 5")
            while connection.execute("SELECT pg_current_xact_id()::text::bigint").fetchone() != (written - 1,):
                pass
            connection.execute("UPDATE ids SET v = 'bad' WHERE id = 2")  # really so
            assert connection.execute("SELECT xmin::text::bigint FROM ids WHERE id = 2").fetchone() == (written,)
        lab.archived()
        rescue(lab, row[0])
        assert lab.rows("SELECT id, v, n FROM ids WHERE id < 4 ORDER BY 1") == [(1, "a", 0), (2, "bad", 0), (3, "a", 0)]


class Between:
    """Does something once, just before a statement is executed whose beginning is given."""

    def __init__(self, begins: str, does: Callable[[], None]) -> None:
        self._begins, self._does, self.is_done = begins, does, False

    def __call__(self, statement: str) -> None:
        if not self.is_done and statement.startswith(self._begins):
            self.is_done = True
            self._does()


@pytest.mark.long
def test_a_table_that_is_written_to_between_the_look_and_the_lock_stays_whole(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client's row, its key and what others may do with it: nothing of it goes when the table is locked."""
    xid = damaged(
        lab,
        "between",
        "CREATE TABLE between_rows (id int PRIMARY KEY, v text DEFAULT 'x'); INSERT INTO between_rows VALUES (1, 'a');"
        "CREATE INDEX between_index ON between_rows (v); GRANT SELECT ON between_rows TO PUBLIC",
        "DROP TABLE between_rows",
    )
    rescue(lab, xid)

    def write() -> None:
        with lab.connect() as client:
            client.execute("INSERT INTO between_rows VALUES (2, 'somebody''s')")

    between = Between('LOCK TABLE "public"."between_rows"', write)
    execute = psycopg.Connection.execute

    def executed(self: psycopg.Connection[Any], query: Any, *more: Any, **options: Any) -> Any:
        between(query.decode() if isinstance(query, bytes) else str(query))
        return execute(self, query, *more, **options)

    monkeypatch.setattr(psycopg.Connection, "execute", executed)
    left = undone(lab)
    assert between.is_done
    assert "rows were written since" in left["public.between_rows"]
    assert lab.rows("SELECT id FROM between_rows ORDER BY 1") == [(1,), (2,)]
    query = "SELECT count(*) FROM pg_index WHERE indrelid = 'between_rows'::regclass"
    assert lab.rows(query) == [(2,)]
    assert lab.rows("SELECT relacl IS NOT NULL FROM pg_class WHERE oid = 'between_rows'::regclass") == [(True,)]


@pytest.mark.long
def test_a_row_that_comes_to_refer_to_one_between_the_look_and_the_lock_stays(lab: Lab) -> None:
    """It is committed while the undo waits for the row: the cascade would have taken it along."""
    xid = damaged(
        lab,
        "referred",
        "CREATE TABLE referred (id int PRIMARY KEY); INSERT INTO referred VALUES (1), (2);"
        "CREATE TABLE referring (id int PRIMARY KEY, referred int REFERENCES referred ON DELETE CASCADE)",
        "DELETE FROM referred WHERE id = 2",
    )
    assert rescue(lab, xid)["public.referred"]["inserted"] == 1
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with lab.connect() as client, ThreadPoolExecutor(1) as beside:
        client.execute("BEGIN")
        client.execute("INSERT INTO referring VALUES (1, 2)")
        undoing = beside.submit(undone, lab)
        until(lambda: undoing.done() or lab.rows(waits)[0][0] > 0, what="the undo waits for the row")
        client.execute("COMMIT")
        with contextlib.suppress(PartlyDone):  # on a busy machine it has waited its two seconds by then
            undoing.result()
    assert lab.rows("SELECT id, referred FROM referring") == [(1, 2)]
    assert lab.rows("SELECT id FROM referred ORDER BY 1") == [(1,), (2,)]


@pytest.mark.long
@pytest.mark.parametrize("since", ["", "ALTER TABLE {} ALTER COLUMN n TYPE numeric(9,2)"])
def test_values_that_a_change_of_type_and_back_lost_come_back(lab: Lab, since: str) -> None:
    """Changed back by the damage itself, or by somebody since, who has written a row behind that, too."""
    name = "typed_since" if since else "typed_at_once"
    back = f"ALTER TABLE {name} ALTER COLUMN n TYPE numeric(9,2)"
    xid = damaged(
        lab,
        name,
        f"CREATE TABLE {name} (id int PRIMARY KEY, n numeric(9,2), v text);"
        f"INSERT INTO {name} SELECT g, g + 0.25, 'a' FROM generate_series(1, 4) g",
        f"ALTER TABLE {name} ALTER COLUMN n TYPE int; {'' if since else back}",
        f"{since.format(name)}; UPDATE {name} SET n = 7.77 WHERE id = 2; UPDATE {name} SET v = 'b' WHERE id = 3",
    )
    told = rescue(lab, xid)[f"public.{name}"]
    rows = [(1, "1.25", "a"), (2, "7.77", "a"), (3, "3.25", "b"), (4, "4.25", "a")]
    assert lab.rows(f"SELECT id, n::text, v FROM {name} ORDER BY 1") == rows
    assert (told["updated"], told["conflicts"], told["left"]) == (3, 1, "")
    undone(lab)
    assert lab.rows(f"SELECT id, n::text FROM {name} ORDER BY 1") == [
        (1, "1.00"),
        (2, "7.77"),
        (3, "3.00"),
        (4, "4.00"),
    ]


def test_settings_of_roles_and_databases_are_part_of_the_result(lab: Lab) -> None:
    """What the damage changed is left out, with the statement that gives it back; what may be a secret is not shown."""
    made = "CREATE ROLE setting_role; ALTER ROLE setting_role SET search_path = 'Odd, one', public;"
    made += "ALTER DATABASE postgres SET app.token = 'first-secret'; CREATE TABLE settings (id int PRIMARY KEY)"
    damage = "ALTER ROLE setting_role SET search_path = public; ALTER ROLE setting_role SET work_mem = '64kB';"
    damage += "ALTER DATABASE postgres SET app.token = 'second-secret'; INSERT INTO settings VALUES (1)"
    try:
        xid = damaged(lab, "settings", made, damage, "ALTER ROLE setting_role SET lock_timeout = '3s'")
        tools = lab.tools()
        run = lab.run(plan_rescue(tools, xid, conflicts="live", skip=(), queues=False), tools)
        told: Any = lab.journal.result(run.id, "db_rescue")
        left = {each["what"]: each["sql"] for each in told["left_out"]}
        assert set(left) == {
            "setting search_path of role setting_role",
            "setting work_mem of role setting_role",
            "setting app.token of database postgres",
        }
        found = {each["what"]: (each["before"], each["live"]) for each in told["differences"]}
        assert found["settings of role setting_role"] == (
            'search_path = "Odd, one", public',
            "lock_timeout = 3s\nsearch_path = public\nwork_mem = 64kB",
        )
        assert "secret" not in str(told)
        assert "app.token" in found["settings of database postgres"][0]
        with lab.connect() as connection:
            for what in ("search_path", "work_mem"):
                connection.execute(left[f"setting {what} of role setting_role"].encode())
        query = "SELECT setconfig FROM pg_db_role_setting WHERE setrole = 'setting_role'::regrole"
        assert sorted(lab.rows(query)[0][0]) == ["lock_timeout=3s", 'search_path="Odd, one", public']
    finally:
        with lab.connect() as connection:
            connection.execute("ALTER DATABASE postgres RESET app.token")
            connection.execute("DROP ROLE IF EXISTS setting_role")
