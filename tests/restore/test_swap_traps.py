"""What could lose a whole database: the wrong folder, one that cannot be moved, an unseen server, a lost undo."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from kept import template
from recovery_lab import Lab, opened

from backout.errors import BackoutError, PartlyDone, Refused
from backout.model.database.wal import parse_lsn
from backout.providers.postgres.server.own_server import CommandedServer
from backout.runbook.recovery.restore import list_kept, plan_rescue, plan_swap, plan_undo
from backout.runbook.recovery.target import find

from polling import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

OTHER = "1"
ALSO, LOST = "goes back too: ", "is not kept: "


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with opened(tmp_path_factory.mktemp("swaps"), template(), templates=True) as made:
        yield made


def now(lab: Lab) -> str:
    """Return a position that can be gone back to."""
    return lab.reached()


def test_the_folder_of_another_cluster_is_not_moved_away(lab: Lab, tmp_path: Path) -> None:
    """A wrong data_directory is refused while both servers still run."""
    lab.base("one")
    (tmp_path / "global").mkdir()
    (tmp_path / "global" / "pg_control").write_bytes(bytes(512))
    tools = lab.tools(server=CommandedServer(tmp_path, "true", "true"))
    with pytest.raises(Refused, match="its system identifier is 0"):
        plan_swap(tools, now(lab))


def test_what_cannot_be_exchanged_is_said_before(tmp_path: Path) -> None:
    """A mount point cannot be renamed; a folder that is gone cannot come back."""
    with pytest.raises(Refused, match="mount point"):
        CommandedServer(Path("/proc"), "true", "true").check(OTHER)
    with pytest.raises(Refused, match="no longer exists"):
        CommandedServer(tmp_path, "true", "true").check(OTHER, tmp_path / "gone")
    with pytest.raises(Refused, match="it is not there"):
        CommandedServer(tmp_path / "lost", "true", "true").check(OTHER)
    CommandedServer(tmp_path, "true", "true").check(OTHER)  # empty, after the loss of a disk


def test_a_server_that_cannot_be_seen_is_not_taken_for_one_that_is_down(tmp_path: Path) -> None:
    """Its folder would be moved away from under it."""
    (tmp_path / "postmaster.pid").mkdir()  # unreadable as a file, for root too
    with pytest.raises(BackoutError, match="cannot be seen"):
        CommandedServer(tmp_path, "true", "true").running()


def test_what_is_not_removed_is_not_called_removed(tmp_path: Path) -> None:
    """A kept data directory behind a link: the link goes, and where the disk refuses, that is said."""
    real = tmp_path / "elsewhere"
    real.mkdir()
    (tmp_path / "data.backout-old-1").symlink_to(real)
    server = CommandedServer(tmp_path / "data", "true", "true")
    server.discard(str(tmp_path / "data.backout-old-1"))
    assert not os.path.lexists(tmp_path / "data.backout-old-1")


def test_a_swap_on_which_the_server_does_not_come_up_can_be_undone(lab: Lab) -> None:
    """What is kept is recorded as soon as it is moved; after the undo targets are on the live timeline again."""
    lab.base("two")
    with lab.connect() as connection:
        connection.execute("CREATE TABLE fact (id int PRIMARY KEY); INSERT INTO fact VALUES (1)")
    position = now(lab)
    others = set(list_kept(lab.tools()))  # of the tests before
    lab.rows("INSERT INTO fact VALUES (2) RETURNING 1")
    broken = lab.tools(server=CommandedServer(lab.data, "false", shlex.join(lab.commands[1])))
    with pytest.raises(PartlyDone, match="start the server"):
        lab.run(plan_swap(broken, position), broken)
    run = next(iter(lab.journal.runs("production")))
    lab.journal.ask(run.id, "abort", actor="test", reason="it does not start")
    tools = lab.tools()
    assert len(set(list_kept(tools)) - others) == 1
    lab.run(plan_undo(tools), tools)
    assert lab.receiver is not None
    lab.receiver.wait(timeout=PATIENCE_S)
    lab.receive()
    assert lab.rows("SELECT id FROM fact ORDER BY 1") == [(1,), (2,)]
    assert find(tools, now(lab)).target.timeline == 1
    kept_folder = Path(next(iter(set(list_kept(tools)) - others)))
    shutil.move(kept_folder, kept_folder.with_suffix(".away"))
    with pytest.raises(Refused, match="no longer exists"):
        plan_undo(tools)


def test_what_else_goes_back_is_said_before_a_swap(lab: Lab) -> None:
    """A data directory is a whole cluster: other databases with their rows, roles, slots, settings, unlogged rows."""
    with lab.connect() as connection:
        connection.execute("CREATE DATABASE neighbour")
        connection.execute("CREATE UNLOGGED TABLE scratch (id int); INSERT INTO scratch VALUES (1)")
        connection.execute("CREATE TABLE ours (id int)")
        connection.execute("ALTER SYSTEM SET work_mem = '5MB'")
        connection.execute("SELECT pg_create_physical_replication_slot('followed')")
    with psycopg.connect(lab.dsn.replace("dbname=postgres", "dbname=neighbour"), autocommit=True) as connection:
        connection.execute("CREATE TABLE theirs (id int)")
    lab.base("whole")
    position = now(lab)
    with psycopg.connect(lab.dsn.replace("dbname=postgres", "dbname=neighbour"), autocommit=True) as connection:
        connection.execute("INSERT INTO theirs SELECT generate_series(1, 500)")
    lab.rows("INSERT INTO ours SELECT generate_series(1, 40) RETURNING 1")
    now(lab)
    try:
        notes = plan_swap(lab.tools(), position).notes
        told = [note for note in notes if note.startswith((ALSO, LOST))]
        assert f"{ALSO}database neighbour, with 500 row versions written since by the WAL" in told
        assert any("work_mem" in note for note in told)
        assert any(note.startswith(f"{LOST}replication slots: followed") for note in told)
        assert f"{LOST}rows of unlogged tables: public.scratch" in told
        assert any("pg_hba.conf" in note for note in told)
        assert any(note.startswith("one database alone: ") for note in notes)
    finally:
        with lab.connect() as connection:
            connection.execute("SELECT pg_drop_replication_slot('followed')")
            connection.execute("DROP DATABASE neighbour")
            connection.execute("ALTER SYSTEM RESET work_mem")
            connection.execute("DROP TABLE scratch, ours")


@pytest.mark.long
def test_what_goes_live_waits_for_no_receiver(lab: Lab) -> None:
    """The base was taken in synchronous mode; nobody receives the new timeline, and every commit would hang."""
    lab.base("sync")
    with (lab.root / "archive" / "bases" / "sync" / "postgresql.auto.conf").open("a") as file:
        file.write("synchronous_standby_names = 'backout'\n")
    tools = lab.tools()
    lab.run(plan_swap(tools, now(lab)), tools)
    assert lab.rows("SHOW synchronous_standby_names") == [("",)]
    lab.run(plan_undo(tools), tools)
    assert lab.receiver is not None
    lab.receiver.wait(timeout=PATIENCE_S)
    lab.receive()


@pytest.mark.rotating("restores", 3)
@pytest.mark.long
def test_what_comes_back_waits_for_no_receiver_either(lab: Lab) -> None:
    """It left in synchronous mode, and `db wal stop` was typed since: the undo frees its commits, and says so."""
    lab.base("kept-in-sync")
    position = now(lab)
    with lab.connect() as connection:
        connection.execute("SET synchronous_commit = local")
        connection.execute("ALTER SYSTEM SET synchronous_standby_names = 'backout_lab'")
        connection.execute("SELECT pg_reload_conf()")
    tools = lab.tools(receiver="backout_lab")
    lab.run(plan_swap(tools, position), tools)
    assert lab.rows("SHOW synchronous_standby_names") == [("",)]
    lab.run(plan_undo(tools), tools)
    assert lab.rows("SHOW synchronous_standby_names") == [("",)]
    lab.rows("SELECT pg_logical_emit_message(true, 'lab', 'this commit waits for nobody')")
    (lost,) = lab.journal.events(environment="production", kind="wal.promise_lost")
    assert "the data directory was exchanged" in str(lost.data["why"])
    assert int(str(lost.data["lsn"])) >= parse_lsn(position)
    assert lab.receiver is not None
    lab.receiver.wait(timeout=PATIENCE_S)
    lab.receive()


def test_a_migration_among_other_commits_is_not_rescued_blindly(lab: Lab) -> None:
    """A commit of the application between the tool's own may be a good one: which it was has to be named."""
    lab.base("three")
    with lab.connect() as connection:
        connection.execute(
            "CREATE TABLE _prisma_migrations (id text PRIMARY KEY, migration_name text, started_at timestamptz DEFAULT "
            "now(), finished_at timestamptz, rolled_back_at timestamptz, applied_steps_count int DEFAULT 0)"
        )
        connection.execute("INSERT INTO _prisma_migrations (id, migration_name) VALUES ('1', 'fill')")
        connection.execute("CREATE TABLE IF NOT EXISTS good (id int PRIMARY KEY); INSERT INTO good VALUES (1)")
        connection.execute("UPDATE good SET id = 2")
        connection.execute("INSERT INTO good VALUES (3)")
        connection.execute("CREATE TEMP TABLE scratch (id int)")
        connection.execute("UPDATE _prisma_migrations SET finished_at = now() WHERE id = '1'")
    lab.archived()
    with pytest.raises(Refused, match="names 2 transactions") as refused:
        plan_rescue(lab.tools(), "before migration fill", conflicts="live", skip=(), queues=False)
    assert len(refused.value.options) == 2
