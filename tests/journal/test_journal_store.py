"""The journal's file: who may read it, what is created when, and what is said when it cannot be used."""

from __future__ import annotations

import gc
import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import TYPE_CHECKING

import pytest
from journal import toy

from backout.errors import BackoutError, PartlyDone
from backout.journal import schema
from backout.journal.lease import Holder, Lease, make_own_holder
from backout.journal.lock import FileLock, make_lock_path
from backout.model.guard.answers import AnswerClass
from backout.model.guard.signals import Counts, RouteCounts, TriggerCounts
from backout.model.incident.incident import RunState
from backout.model.plan import Json, Plan, PlanKind, Step
from backout.ports import Action, Done, Probe, StepContext

from polling import PATIENCE_S, until

if TYPE_CHECKING:
    from backout.journal.sqlite import SqliteJournal


def file_of(directory: Path) -> Path:
    return directory / "journal" / "journal.db"


def submit(journal: SqliteJournal) -> str:
    return journal.submit(toy.plan_named("probed"), actor="me", reason="r")


def test_reading_a_journal_that_does_not_exist_creates_nothing(tmp_path: Path) -> None:
    """Every reading call answers "nothing" and leaves no file and no folder."""
    journal = toy.journal_in(tmp_path)
    assert journal.runs() == ()
    assert journal.find("rollback") is None
    assert journal.result("rollback", "probed") is None
    assert list(journal.events()) == []
    assert journal.marks("staging") == ()
    assert journal.load_counts("staging", 0, 10) == ()
    assert journal.load_checkpoint("r", "d") is None
    assert journal.verify_chain().count == 0
    assert list(tmp_path.iterdir()) == []


def test_only_its_owner_may_read_the_journal(tmp_path: Path) -> None:
    """The folder is 0700, every file in it 0600, SQLite's own ones and the locks included."""
    journal = toy.journal_in(tmp_path)
    journal.drive(submit(journal), toy.actions_in(toy.World(tmp_path)), actor="me")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "journal").rglob("*")}
    modes["journal"] = stat.S_IMODE((tmp_path / "journal").stat().st_mode)
    assert {name for name, mode in modes.items() if mode == 0o700} == {"journal", "locks"}
    assert {name for name, mode in modes.items() if mode == 0o600} == modes.keys() - {"journal", "locks"}
    assert {"journal.db", "journal.db-wal", "staging.lock"} <= modes.keys()
    journal.close()


def test_a_journal_that_nobody_holds_any_more_is_closed_at_once(tmp_path: Path) -> None:
    """No collection is waited for: a short command ends without one, and leaves the journal's one file behind."""
    gc.disable()
    try:
        journal = toy.journal_in(tmp_path)
        submit(journal)
        assert file_of(tmp_path).with_name("journal.db-wal").exists()
        del journal
        assert not file_of(tmp_path).with_name("journal.db-wal").exists()
    finally:
        gc.enable()


def test_what_was_committed_survives_the_loss_of_power(tmp_path: Path) -> None:
    """Write-ahead log, synced at every commit (SQLite: synchronous 2 is FULL)."""
    journal = toy.journal_in(tmp_path)
    submit(journal)
    assert journal._store.rows("PRAGMA journal_mode") == [("wal",)]
    assert journal._store.rows("PRAGMA synchronous") == [(2,)]
    journal.close()


def test_journals_opened_in_the_same_moment_create_one(tmp_path: Path) -> None:
    """Nobody meets a half-made schema, and nobody is told that the file is locked."""
    workers, rounds = 6, 8
    for number in range(rounds):
        directory = tmp_path / str(number)
        gate = Barrier(workers)

        def submit_at_once(_worker: int, directory: Path = directory, gate: Barrier = gate) -> str:
            journal = toy.journal_in(directory)
            gate.wait(timeout=PATIENCE_S)
            try:
                return submit(journal)
            finally:
                journal.close()

        with ThreadPoolExecutor(workers) as pool:
            assert len(set(pool.map(submit_at_once, range(workers)))) == 1
        journal = toy.journal_in(directory)
        assert journal.verify_chain().count == 1
        journal.close()


def test_creating_the_tables_waits_for_whoever_does_it_already(tmp_path: Path) -> None:
    """Going over to WAL answers "locked" at once when two do it: a file lock stands before it, and is waited for."""
    file_of(tmp_path).parent.mkdir()
    lock = FileLock(file_of(tmp_path).with_name("journal.db.lock"))
    assert lock.take()
    inode = f":{lock.path.stat().st_ino} "
    journal = toy.journal_in(tmp_path)
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(submit, journal)

        def is_waiting() -> bool:
            locks = Path("/proc/locks").read_text().splitlines()  # proc(5): "->" marks one that is waited for
            return any("->" in line and inode in line for line in locks)

        try:
            until(is_waiting, what="the second waits for the lock")
            assert file_of(tmp_path).stat().st_size == 0
        finally:
            lock.free()
        assert second.result(timeout=PATIENCE_S) == journal.runs()[0].id
    journal.close()


def test_what_a_crash_leaves_of_a_file_that_was_just_created_is_used(tmp_path: Path) -> None:
    """An empty file reads as no journal, and the first write fills it."""
    file_of(tmp_path).parent.mkdir()
    file_of(tmp_path).touch()
    journal = toy.journal_in(tmp_path)
    assert journal.runs() == ()
    assert submit(journal) == journal.runs()[0].id
    journal.close()


def test_an_older_schema_is_migrated_forward(tmp_path: Path) -> None:
    """A file that stopped before version 1 is brought to the newest version, each one recorded."""
    file_of(tmp_path).parent.mkdir()
    old = sqlite3.connect(file_of(tmp_path))
    for statement in schema.VERSION_TABLE:
        old.execute(statement)
    old.commit()
    old.close()
    journal = toy.journal_in(tmp_path)
    assert journal.runs() == ()
    submit(journal)
    journal.close()
    new = sqlite3.connect(file_of(tmp_path))
    assert new.execute("SELECT version FROM schema_version").fetchall() == [(v,) for v in range(1, schema.VERSION + 1)]
    new.close()


def test_counts_of_an_older_schema_are_kept(tmp_path: Path) -> None:
    """A file whose counts had no routes is read as before, and takes those that have."""
    file_of(tmp_path).parent.mkdir()
    old = sqlite3.connect(file_of(tmp_path))
    for statement in (*schema.VERSION_TABLE, *schema.MIGRATIONS[0]):
        old.execute(statement)
    old.execute("INSERT INTO schema_version VALUES (1, 0)")
    old.execute("INSERT INTO counts VALUES ('staging', 10, 'v', 3, 1, 0, '{\"90\":3}')")
    old.commit()
    old.close()
    journal = toy.journal_in(tmp_path)
    before = Counts("v", 10, 3, 1, 0, {90: 3})
    after = Counts("v", 11, 3, 1, 0, {90: 3}, {"/app": RouteCounts(3, 1, {90: 3})})
    assert journal.load_counts("staging", 0, 20) == (before,)
    journal.keep("staging", [after])
    assert journal.load_counts("staging", 0, 20) == (before, after)
    journal.close()


def test_counts_of_the_schema_with_routes_are_kept(tmp_path: Path) -> None:
    """A file whose counts had neither classes nor sizes is read as before, and takes those that have."""
    file_of(tmp_path).parent.mkdir()
    old = sqlite3.connect(file_of(tmp_path))
    for statement in (*schema.VERSION_TABLE, *schema.MIGRATIONS[0], *schema.MIGRATIONS[1]):
        old.execute(statement)
    old.execute("INSERT INTO schema_version VALUES (1, 0), (2, 0)")
    old.execute("INSERT INTO counts VALUES ('staging', 10, 'v', 3, 1, 0, '{\"90\":3}', '{\"/app\":[3,1,90,3]}')")
    old.commit()
    old.close()
    journal = toy.journal_in(tmp_path)
    before = Counts("v", 10, 3, 1, 0, {90: 3}, {"/app": RouteCounts(3, 1, {90: 3})})
    classes = {AnswerClass.NOT_FOUND: 1, AnswerClass.OTHER_CLIENT_ERROR: 1}
    route = RouteCounts(3, 1, {255: 3}, classes, {0: 1, 54: 1, 111: 1, 754: 1}, 4)
    triggers = {"cron */5 * * * *": TriggerCounts(2, 1)}
    after = Counts(
        *("v", 11, 3, 1, 4, {90: 3}, {"POST /app?page": route, "other": RouteCounts(0, 0)}, classes, 5, triggers),
        left={"GET /slow": {200: 3, 255: 1}},
    )
    assert journal.load_counts("staging", 0, 20) == (before,)
    journal.keep("staging", [after])
    assert journal.load_counts("staging", 0, 20) == (before, after)
    journal.close()


@pytest.mark.parametrize("key", [256, 299, 308, 399, 501, 599, 1400])
def test_a_route_with_a_key_that_is_none_is_damage(tmp_path: Path, key: int) -> None:
    """Between the buckets, the classes, the sizes and what began there is nothing."""
    journal = toy.journal_in(tmp_path)
    journal.keep("staging", [Counts("v", 10, 3, 1, 0, {90: 3}, {"/app": RouteCounts(3, 1, {90: 3})})])
    file = sqlite3.connect(file_of(tmp_path))
    file.execute("UPDATE counts SET routes = ?", (f'{{"/app":[3,1,{key},1]}}',))
    file.commit()
    file.close()
    with pytest.raises(BackoutError, match="a row of counts"):
        journal.load_counts("staging", 0, 20)
    journal.close()


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    """Nothing is read or written by a backout that does not know the tables."""
    journal = toy.journal_in(tmp_path)
    submit(journal)
    journal.close()
    newer = sqlite3.connect(file_of(tmp_path), isolation_level=None)
    newer.execute("INSERT INTO schema_version VALUES (?, 0)", (schema.VERSION + 1,))
    newer.close()
    for call in (journal.runs, lambda: submit(journal)):
        with pytest.raises(BackoutError, match="newer backout") as refused:
            call()
        assert "upgrade backout" in str(refused.value.hint)


@pytest.mark.parametrize("at", [0, 4096 * 2])
def test_a_damaged_file_is_said_to_be_damaged(tmp_path: Path, at: int) -> None:
    """Wherever the damage is, the error names the file and what to do, and nothing is written into it."""
    journal = toy.journal_in(tmp_path)
    journal.drive(submit(journal), toy.actions_in(toy.World(tmp_path)), actor="me")
    journal.close()
    with file_of(tmp_path).open("r+b") as file:
        file.seek(at)
        file.write(b"\xff" * (file_of(tmp_path).stat().st_size - at))
    before = file_of(tmp_path).read_bytes()
    with pytest.raises(BackoutError, match="damaged") as damaged:
        journal.verify_chain()
    assert str(file_of(tmp_path)) in str(damaged.value)
    assert f"mv {file_of(tmp_path)}" in str(damaged.value.hint)
    with pytest.raises(BackoutError, match="damaged"):
        submit(journal)
    journal.close()
    assert file_of(tmp_path).read_bytes() == before


def test_a_journal_locked_for_too_long_is_said_to_be_locked(tmp_path: Path) -> None:
    """Nothing was recorded, and the same call works when the lock is gone."""
    journal = toy.journal_in(tmp_path, busy_timeout_s=0.05)
    journal.keep("staging", [])
    journal.prune(0.0)
    other = sqlite3.connect(file_of(tmp_path), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(BackoutError, match="locked") as locked:
        submit(journal)
    assert "fuser" in str(locked.value.hint)
    other.execute("ROLLBACK")
    other.close()
    assert journal.runs() == ()
    assert submit(journal) == journal.runs()[0].id
    journal.close()


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    """A file where the folder should be is an error with a place, not a traceback."""
    (tmp_path / "journal").touch()
    journal = toy.journal_in(tmp_path)
    with pytest.raises(BackoutError, match="cannot be reached") as error:
        submit(journal)
    assert error.value.where == str(file_of(tmp_path))


class FillsTheDisk(Action[dict[str, Json], Json]):
    """Has its effect, and leaves no room in the journal to record it."""

    arguments = dict

    def __init__(self, journal: SqliteJournal, world: toy.World) -> None:
        self.journal = journal
        self.world = world

    def do(self, args: dict[str, Json], context: StepContext) -> Json:
        self.world.happen(toy.key_of(context))
        connection = self.journal._store._connection
        assert connection is not None
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        return {"long": "x" * 100_000}

    def probe(self, args: dict[str, Json], context: StepContext) -> Probe[Json]:
        return Done({"found": True}) if toy.key_of(context) in self.world.effects else toy.NotDone()


def test_a_full_disk_stops_the_run_and_loses_nothing(tmp_path: Path) -> None:
    """The effect that could not be recorded is found by its probe when there is room again."""
    journal, world = toy.journal_in(tmp_path), toy.World(tmp_path)
    plan = Plan(PlanKind.RECOVER, "staging", "w", (Step("fills", "Fill"), Step("probed", "Go on")))
    run = journal.submit(plan, actor="me", reason="r")
    actions = toy.actions_in(world) | {"fills": FillsTheDisk(journal, world)}
    with pytest.raises(PartlyDone, match="the disk is full: ") as full:
        journal.drive(run, actions, actor="me")
    assert full.value.hint == f"free some space, then type the same command again; then: backout runs resume {run}"
    assert [event.kind for event in journal.events()][-1] == "step.start"
    journal.close()
    assert journal.drive(run, actions, actor="me").state is RunState.DONE
    assert journal.result(run, "fills") == {"found": True}
    assert world.effects == [f"{run}:0", f"{run}:1"]
    journal.close()


def test_a_file_lock_conflicts_with_itself_and_is_freed(tmp_path: Path) -> None:
    """Two locks on one path in one process are two locks; other environments have locks of their own."""
    first, second = (FileLock(make_lock_path(tmp_path, "staging")) for _ in range(2))
    assert first.take()
    assert not second.take()
    assert FileLock(make_lock_path(tmp_path, "production")).take()
    first.free()
    assert second.take()
    second.free()


@pytest.mark.parametrize("name", ["../../etc/x", "a/b", "ümlaut", "..", ".", "a b"])
def test_a_lock_file_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    """Whatever an environment is called, its lock is one file of the folder."""
    assert make_lock_path(tmp_path, name).parent == tmp_path / "locks"
    assert make_lock_path(tmp_path, name).resolve().parent == tmp_path.resolve() / "locks"


ME = make_own_holder("here")
DEAD = Holder("here", ME.pid, "0")
LIVE = Holder("here", 1, "")  # init; a system that tells no start is asked for the pid alone
AWAY = Holder("there", 1, "1")


def test_a_process_that_the_system_hides_is_not_taken_for_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user's is in no list where /proc is mounted with `hidepid`; a signal still finds it."""
    monkeypatch.setattr("backout.journal.lease._read_process_start", lambda _pid: None)
    assert Holder("here", 1, "7").is_alive()
    assert not Holder("here", 2**22 + 1, "7").is_alive()


@pytest.mark.parametrize(
    ("holder", "locked", "expired", "free"),
    [
        (None, True, False, True),
        (None, False, True, False),  # another process is between its lock and its lease
        (DEAD, True, False, True),  # the same pid with another start is another process
        (DEAD, False, False, False),
        (DEAD, False, True, True),
        (LIVE, True, False, False),
        (LIVE, False, True, False),  # stopped, not gone
        (ME, True, False, True),  # an earlier drive of this process could not give it back
        (ME, False, True, False),
        (AWAY, True, False, False),
        (AWAY, True, True, True),
        (AWAY, False, True, True),
    ],
)
def test_when_a_lease_may_be_taken(holder: Holder | None, locked: bool, expired: bool, free: bool) -> None:
    """The whole table: whose it is, whether the file lock could be had, whether it has run out."""
    lease = Lease("staging", 7, "run", holder, 0.0, 10.0)
    assert lease.is_free(ME, 11.0 if expired else 9.0, locked=locked) is free
