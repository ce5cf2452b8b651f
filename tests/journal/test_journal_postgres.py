"""The journal on a real Postgres: what the server itself refuses, and what is said when it cannot be used."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from journal import toy
from journal.test_journal_mask import SECRET, WAYS
from pooler import transaction_pooler

from backout.errors import BackoutError, Busy, PartlyDone
from backout.journal import lease as leases
from backout.journal import postgres_schema as schema
from backout.journal.postgres_store import PostgresStore
from backout.journal.rows import JournalUnavailable
from backout.journal.stored import StoredJournal
from backout.model.incident.incident import RunState
from backout.ports.journal_link import LinkError, Trouble
from backout.providers.postgres.server import journal_link
from backout.providers.postgres.server.journal_link import PostgresLink
from backout.report.redact import Redactor

from polling import until
from scripted_server import refused_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.model.plan import Json
    from backout.ports import Action, StepContext

pytestmark = pytest.mark.usefixtures("on_postgres")
WRITER = "toy_writer"


@contextmanager
def foreign(directory: Path) -> Iterator[psycopg.Connection[Any]]:
    """Lend a superuser's connection to a toy world's database."""
    with psycopg.connect(toy.url_of(directory), autocommit=True) as connection:
        yield connection


def recorded(directory: Path) -> StoredJournal:
    """Record a finished run of twelve events."""
    journal = toy.journal_in(directory)
    run = journal.submit(toy.plan_named("probed"), actor="me", reason="r")
    journal.drive(run, toy.actions_in(toy.World(directory)), actor="me")
    return journal


def journal_at(url: str, directory: Path, **more: Any) -> StoredJournal:
    """Return the journal that a connection string leads to."""
    patience_s = more.pop("patience_s", 3.0)
    store = PostgresStore(PostgresLink(lambda: url, patience_s=patience_s), patience_s=patience_s, **more)
    return StoredJournal(store, toy.WallClock(), locks=directory / "of-it", host=leases.name_this_machine())


def submit(journal: StoredJournal, environment: str = "staging") -> str:
    return journal.submit(toy.plan_named("probed", environment), actor="me", reason="r")


# --- what is refused ------------------------------------------------------------------------------------------------

CHANGES = [
    "UPDATE backout.event SET data = '{}' WHERE seq = 3",
    "DELETE FROM backout.event WHERE seq = 3",
    "TRUNCATE backout.event",
    "INSERT INTO backout.event SELECT 3, 0, 'e', 'r', NULL, 'k', '{}', 'a', '', ''",
    "INSERT INTO backout.event SELECT 999, 0, 'e', 'r', NULL, 'k', '{}', 'a', '', ''",
    "INSERT INTO backout.event SELECT 13, 0, 'e', 'r', NULL, 'k', '{}', 'a', 'another', ''",
    "UPDATE backout.head SET seq = 1",
    "UPDATE backout.head SET seq = 13, hash = 'none'",
    "DELETE FROM backout.head",
    "TRUNCATE backout.head",
    "INSERT INTO backout.head VALUES (1, 1, '') ON CONFLICT (one) DO UPDATE SET seq = 1",
    "UPDATE backout.lease SET fence = 0",
    "DELETE FROM backout.lease",
    "TRUNCATE backout.lease",
    "UPDATE backout.schema_version SET version = 0",
    "DELETE FROM backout.schema_version",
    "INSERT INTO backout.schema_version VALUES (1, 0)",
]


@pytest.mark.parametrize("role", ["origin", "replica"])
def test_history_refuses_to_be_changed(tmp_path: Path, role: str) -> None:
    """A superuser is refused as well, also as one whose session fires no ordinary triggers; nothing is different."""
    journal = recorded(tmp_path)
    before = list(journal.events())
    with foreign(tmp_path) as connection:
        connection.execute(f"SET session_replication_role = {role}".encode())
        for statement in CHANGES:
            with pytest.raises(psycopg.Error, match=r"append-only|fence number|is refused"):
                connection.execute(statement.encode())
    assert list(journal.events()) == before
    assert journal.verify_chain().is_whole
    journal.close()


@pytest.mark.parametrize(
    ("statement", "broken_at"),
    [
        ("UPDATE backout.event SET actor = 'somebody else' WHERE seq = 4", 4),
        ("UPDATE backout.event SET at = at + 1 WHERE seq = 1", 1),
        ("DELETE FROM backout.event WHERE seq = 5", 5),
        ("DELETE FROM backout.event WHERE seq = 12", 12),
        ("TRUNCATE backout.event", 1),
    ],
)
def test_what_was_changed_behind_dropped_triggers_is_found(tmp_path: Path, statement: str, broken_at: int) -> None:
    """Whoever owns the tables can turn the triggers off; the chain names the first event that is not as written."""
    journal = recorded(tmp_path)
    with foreign(tmp_path) as connection:
        connection.execute(b"ALTER TABLE backout.event DISABLE TRIGGER ALL")
        connection.execute(statement.encode())
    assert journal.verify_chain().broken_at == broken_at
    journal.close()


def as_writer(directory: Path) -> str:
    """Grant a role what it needs to append, and return its connection string."""
    with foreign(directory) as connection:
        with suppress(psycopg.errors.DuplicateObject):
            connection.execute(f"CREATE ROLE {WRITER} LOGIN PASSWORD '{toy.PASSWORD}'".encode())
        for statement in schema.GRANTS:
            connection.execute(statement.format(role=WRITER).encode())
    return toy.url_of(directory).replace("//postgres:", f"//{WRITER}:")


def test_a_role_with_the_grants_writes_everything_and_changes_nothing(tmp_path: Path) -> None:
    """Privilege is the second fence: such a role cannot even turn the triggers off; the owner is said to be no such."""
    owner = recorded(tmp_path)
    assert owner._store.is_append_only() is False  # type: ignore[attr-defined]
    url = as_writer(tmp_path)
    journal = journal_at(url, tmp_path)
    assert journal._store.is_append_only() is True  # type: ignore[attr-defined]
    run = submit(journal)
    assert journal.drive(run, toy.actions_in(toy.World(tmp_path)), actor="me").state is RunState.DONE
    journal.save_checkpoint(run, "watch", {"a": 1})
    assert journal.prune(time.time() + 60) == 1
    assert journal.verify_chain().is_whole
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in (
            "UPDATE backout.event SET data = '{}'",
            "DELETE FROM backout.event",
            "TRUNCATE backout.event",
            "DELETE FROM backout.lease",
            "ALTER TABLE backout.event DISABLE TRIGGER ALL",
            "DROP TRIGGER event_no_change ON backout.event",
            "DROP SCHEMA backout CASCADE",
            "CREATE TABLE backout.mine ()",
            "INSERT INTO backout.schema_version VALUES (99, 0)",
            "UPDATE backout.schema_version SET version = 0",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())
    journal.close()
    owner.close()


def test_a_role_that_can_become_the_owner_is_said_to_be_no_appender(tmp_path: Path) -> None:
    """Whether or not it inherits the owner's rights: it needs one statement more."""
    recorded(tmp_path).close()
    url = as_writer(tmp_path)
    with foreign(tmp_path) as connection:
        connection.execute(b"DROP ROLE IF EXISTS toy_climber")
        connection.execute(f"CREATE ROLE toy_climber NOINHERIT LOGIN PASSWORD '{toy.PASSWORD}'".encode())
        connection.execute(f"GRANT postgres, {WRITER} TO toy_climber".encode())
        for statement in schema.GRANTS:
            connection.execute(statement.format(role="toy_climber").encode())
    store = PostgresStore(PostgresLink(lambda: url.replace(f"//{WRITER}:", "//toy_climber:")))
    assert store.is_append_only() is False
    store.close()
    with foreign(tmp_path) as connection:
        connection.execute(b"DROP OWNED BY toy_climber; DROP ROLE toy_climber")


def test_the_page_grants_what_is_tried_here() -> None:
    """Line by line, to the role that it names."""
    page = Path(__file__).parents[2].joinpath("docs", "team.md").read_text(encoding="utf-8")
    assert "\n".join(schema.GRANTS).format(role="backout_writer") in page


# --- tables ---------------------------------------------------------------------------------------------------------


def test_reading_a_journal_that_does_not_exist_creates_nothing(tmp_path: Path) -> None:
    """Every reading call answers "nothing"."""
    journal = toy.journal_in(tmp_path)
    assert journal.runs() == ()
    assert journal.find("rollback") is None
    assert list(journal.events()) == []
    assert journal.marks("staging") == ()
    assert journal.load_counts("staging", 0, 10) == ()
    assert journal.load_checkpoint("r", "d") is None
    assert journal.verify_chain().count == 0
    with foreign(tmp_path) as connection:
        assert connection.execute(b"SELECT FROM pg_namespace WHERE nspname = 'backout'").fetchone() is None
    journal.close()


def test_two_versions_side_by_side_only_the_newer_one_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The older process had the journal open before: its next transaction is refused, and nothing of it is written."""
    older = toy.journal_in(tmp_path)
    submit(older)
    more = "ALTER TABLE backout.checkpoint ADD COLUMN note text"
    with monkeypatch.context() as newer:
        newer.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, (more,)))
        newer.setattr(schema, "VERSION", schema.VERSION + 1)
        migrated = toy.journal_in(tmp_path)
        assert len(migrated.runs()) == 1
        submit(migrated, "production")
        migrated.close()
    for call in (older.runs, lambda: submit(older), older.verify_chain):
        with pytest.raises(JournalUnavailable, match="newer backout") as refused:
            call()
        assert "upgrade backout" in str(refused.value.hint)
    older.close()
    with foreign(tmp_path) as connection:
        assert connection.execute(b"SELECT count(*) FROM backout.event").fetchone() == (2,)


def test_a_schema_of_another_program_is_left_alone(tmp_path: Path) -> None:
    """It may have any name, ours too."""
    with foreign(tmp_path) as connection:
        connection.execute(b"CREATE SCHEMA backout; CREATE TABLE backout.theirs (id int)")
        journal = toy.journal_in(tmp_path)
        with pytest.raises(JournalUnavailable, match="another program's"):
            submit(journal)
        journal.close()
        tables = b"SELECT relname FROM pg_class WHERE relnamespace = 'backout'::regnamespace"
        assert connection.execute(tables).fetchall() == [("theirs",)]


def test_a_role_that_may_not_make_the_tables_is_told_so(tmp_path: Path) -> None:
    """It names who can, and leaves nothing half made."""
    recorded(tmp_path / "for the role").close()
    as_writer(tmp_path / "for the role")
    url = toy.url_of(tmp_path).replace("//postgres:", f"//{WRITER}:")
    journal = journal_at(url, tmp_path)
    with pytest.raises(JournalUnavailable, match="may not make its tables") as refused:
        submit(journal)
    assert "docs/team.md" in str(refused.value.hint)
    journal.close()


def test_what_speaks_against_the_place_is_asked_before_anything_is_made(tmp_path: Path) -> None:
    """Such as: it is the server that a restore replaces."""

    def refuse() -> None:
        raise BackoutError("not there")

    journal = journal_at(toy.url_of(tmp_path), tmp_path, before_making=refuse)
    with pytest.raises(BackoutError, match="not there"):
        submit(journal)
    journal.close()
    with foreign(tmp_path) as connection:
        assert connection.execute(b"SELECT FROM pg_namespace WHERE nspname = 'backout'").fetchone() is None


def test_what_is_asked_before_the_tables_are_made_may_take_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other servers are asked, which may be silent: no transaction is open meanwhile."""
    monkeypatch.setattr(journal_link, "_SILENT_S", 0.2)
    journal = journal_at(toy.url_of(tmp_path), tmp_path, before_making=lambda: time.sleep(0.6))
    assert submit(journal)
    journal.close()


@pytest.mark.parametrize("last", ["execute", "executemany"])
def test_whoever_falls_silent_in_a_transaction_loses_it_whatever_was_done_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    """A worker that was frozen there would keep all others from what it has locked, for as long as it lives."""
    toy.journal_in(tmp_path).close()
    monkeypatch.setattr(journal_link, "_SILENT_S", 0.2)
    link = PostgresLink(lambda: toy.url_of(tmp_path), search_path="pg_catalog")
    link.begin("SELECT pg_advisory_xact_lock(1)")
    if last == "execute":
        link.execute("SELECT ?::text", ("x",))
    else:
        link.executemany("SELECT set_config(?, ?, true)", [("backout.one", "1"), ("backout.two", "?; %s 'x'")])
    with foreign(tmp_path) as other:
        free = "SELECT pg_try_advisory_lock(1)"
        until(lambda: other.execute(free.encode()).fetchone() == (True,), what="the lock of whoever is silent")
    with pytest.raises(LinkError):
        link.execute("SELECT 1")
    link.close()


# --- what cannot be reached -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["nobody listens", "wrong password", "no such database", "no URL"])
def test_a_server_that_cannot_be_used_is_said_without_the_password(tmp_path: Path, case: str) -> None:
    """What, where and what to do; nothing of the connection string but the server and the database."""
    good = toy.url_of(tmp_path)
    url = {
        "nobody listens": f"postgresql://me:{toy.PASSWORD}@{refused_url().removeprefix('http://')}/journal",
        "wrong password": good.replace(f":{toy.PASSWORD}@", ":canary-of-another@"),
        "no such database": f"{good}x",
        "no URL": "://",
    }[case]
    journal = journal_at(url, tmp_path)
    for call in (journal.runs, lambda: submit(journal)):
        with pytest.raises(JournalUnavailable) as refused:
            call()
        told = f"{refused.value} {refused.value.hint} {refused.value.__cause__}"
        assert "canary" not in told
        assert toy.PASSWORD not in told
        assert refused.value.where
        assert refused.value.hint
    journal.close()


def test_a_lock_that_lasts_is_said_and_one_that_is_freed_is_waited_for(tmp_path: Path) -> None:
    """Nothing was recorded, and the same call works afterwards; a process that was stopped keeps it for seconds."""
    submit(first := toy.journal_in(tmp_path))
    journal = journal_at(toy.url_of(tmp_path), tmp_path, patience_s=0.3)
    with foreign(tmp_path) as other:
        other.execute(b"BEGIN; SELECT FROM backout.head FOR UPDATE")
        with pytest.raises(JournalUnavailable, match="keeps the journal locked"):
            submit(journal, "production")
        other.execute(b"ROLLBACK")
    assert submit(journal, "production")
    with first._store.write("stopped in the middle"):
        began = time.monotonic()
        until(lambda: _submits(journal, "third"), what="the lock of a silent transaction is freed")
        assert time.monotonic() - began < 15
        with pytest.raises(JournalUnavailable, match="does not answer"):
            first._store.rows("SELECT 1")
    journal.close()
    first.close()


def _submits(journal: StoredJournal, environment: str) -> bool:
    try:
        return bool(submit(journal, environment))
    except JournalUnavailable:
        return False


@pytest.mark.parametrize("happened", [True, False])
def test_whether_a_commit_whose_answer_was_lost_happened_is_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, happened: bool
) -> None:
    """Cut before it, nothing is there and the caller is told; cut after it, all goes on as if the answer had come."""
    journal = toy.journal_in(tmp_path)
    run = submit(journal)
    link = journal._store._link  # type: ignore[attr-defined]
    commit, cuts = link.commit, iter([False, False, True])

    def cut() -> None:
        if not next(cuts, False):
            return commit()
        if happened:
            commit()
        link._connection.pgconn.finish()
        raise LinkError(Trouble.NOT_REACHED, "cut")

    monkeypatch.setattr(link, "commit", cut)
    world = toy.World(tmp_path)
    if happened:
        assert journal.drive(run, toy.actions_in(world), actor="me").state is RunState.DONE
    else:
        with pytest.raises(PartlyDone, match="does not answer"):
            journal.drive(run, toy.actions_in(world), actor="me")
        monkeypatch.undo()
        assert journal.drive(run, toy.actions_in(world), actor="me").state is RunState.DONE
    assert world.effects == [f"{run}:0", f"{run}:2"]
    assert journal.verify_chain().is_whole
    journal.close()


def test_a_connection_that_was_cut_between_transactions_is_opened_anew(tmp_path: Path) -> None:
    """A server that was restarted, a pooler that dropped it: nobody notices."""
    journal = toy.journal_in(tmp_path)
    run = submit(journal)
    with foreign(tmp_path) as connection:
        connection.execute(
            b"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            b" AND datname = current_database()"
        )
    assert journal.drive(run, toy.actions_in(toy.World(tmp_path)), actor="me").state is RunState.DONE
    journal.close()


def test_it_works_through_a_pooler_of_transactions(tmp_path: Path) -> None:
    """Sessions are shared, each for a transaction: nothing of ours is kept in one."""
    with transaction_pooler(toy.url_of(tmp_path)) as url:
        journal = journal_at(url, tmp_path)
        other = journal_at(url, tmp_path)
        run = submit(journal)
        assert other.drive(run, toy.actions_in(toy.World(tmp_path)), actor="me").state is RunState.DONE
        assert journal.verify_chain().is_whole
        journal.close()
        other.close()


def test_no_secret_is_written(tmp_path: Path) -> None:
    """Neither in events nor beside them; what else was said stays."""
    mask = Redactor()
    mask.register(SECRET)
    journal = toy.journal_in(tmp_path, mask=mask.values)
    for tell in WAYS.values():
        tell(journal)  # type: ignore[no-untyped-call]
    journal.note("staging", "x.noted", SECRET, {SECRET: SECRET}, actor="me")
    journal.close()
    with foreign(tmp_path) as connection:
        written = [
            str(connection.execute(f"TABLE backout.{table}".encode()).fetchall())
            for table in ("event", "counts", "checkpoint")
        ]
    assert all("***" in text for text in written)
    assert SECRET not in "".join(written)


# --- time, machines, lost history -----------------------------------------------------------------------------------


@dataclasses.dataclass
class SkewedClock:
    """A machine whose clock is wrong."""

    by_s: float

    def now(self) -> float:
        return time.time() + self.by_s

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@pytest.mark.parametrize("by_s", [-7200.0, 7200.0])
def test_no_clock_of_a_machine_decides_about_a_lease(tmp_path: Path, by_s: float) -> None:
    """One that is hours ahead takes no live lease, one that is behind does not wait longer; events have one time."""
    holder = toy.journal_in(tmp_path, host="machine-a#1", lease_ttl_s=600.0)
    run = submit(holder)
    store = PostgresStore(PostgresLink(lambda: toy.url_of(tmp_path)))
    other = StoredJournal(store, SkewedClock(by_s), locks=tmp_path / "elsewhere", host="machine-b#2", lease_ttl_s=600.0)
    tried: list[str] = []

    class Tries(toy.Look):
        def do(self, args: dict[str, Json], context: StepContext) -> Json:
            with pytest.raises(Busy):
                other.drive(run, actions, actor="other")
            tried.append(other.runs()[0].holder)
            return None

    actions: dict[str, Action[Any, Any]] = {**toy.actions_in(toy.World(tmp_path)), "look": Tries()}
    assert holder.drive(run, actions, actor="me").state is RunState.DONE
    assert "machine-a" in tried[0]
    other.note("staging", "test.note", "1", {}, actor="other")
    times = [event.at for event in holder.events()]
    assert times == sorted(times)
    assert times[-1] - times[0] < 60
    holder.close()
    other.close()


def test_two_containers_of_one_name_are_two_machines() -> None:
    """By the boot and the room of process numbers, not by what the machine is called; messages show the name alone."""
    mine = leases.make_own_holder(leases.name_this_machine())
    assert leases.name_this_machine() == mine.host
    assert mine.name == mine.host.partition("#")[0]
    assert "#" not in str(mine)
    lease = leases.Lease("staging", 7, "run", leases.Holder(f"{mine.name}#another", mine.pid, "0"), 0.0, 10.0)
    assert not lease.is_free(mine, 9.0, locked=True)  # its process 1 may live, whatever ours with that number is
    assert lease.is_live(mine, 9.0)
    assert lease.is_free(mine, 11.0, locked=True)


def test_the_connection_string_is_read_once_for_a_connection(tmp_path: Path) -> None:
    """A fleet's workers make hundreds of statements a second; a string that was changed leads where the next one is."""
    asked: list[str] = []

    def read() -> str:
        asked.append("once more")
        return toy.url_of(tmp_path)

    link = PostgresLink(read)
    journal = StoredJournal(PostgresStore(link), toy.WallClock(), locks=tmp_path / "locks-of-it", host="a#1")
    for number in range(5):
        journal.note("production", "test.note", str(number), {}, actor="me")
    assert len(list(journal.events())) == 5
    assert len(asked) == 1
    link.close()
    assert len(list(journal.events())) == 5
    assert len(asked) == 2
    journal.close()


def lose(directory: Path, name: str) -> str:
    """Return a copy of the database as it is now: what a replica has that gets nothing from now on."""
    base, _, database = toy.url_of(directory).rpartition("/")
    with psycopg.connect(f"{base}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {database}".encode())
    return f"{base}/{name}"


@pytest.mark.parametrize("by", ["a shorter history", "another one"])
def test_a_server_that_lost_the_newest_events_voids_every_lease(tmp_path: Path, by: str) -> None:
    """A run under way stops at its next write; what was done since is not known there, and nobody says it was."""
    urls = [toy.url_of(tmp_path)]
    link = PostgresLink(lambda: urls[-1])
    journal = StoredJournal(PostgresStore(link), toy.WallClock(), locks=tmp_path / "locks-of-it", host="a#1")
    run = submit(journal)
    journal.close()
    replica = lose(tmp_path, f"lost_{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:20]}")

    class FailsOver(toy.Look):
        def do(self, args: dict[str, Json], context: StepContext) -> Json:
            context.progress({"seen": 1})
            urls.append(replica)
            link.close()
            if by == "another one":
                other = journal_at(replica, tmp_path)
                for number in range(20):
                    other.note("production", "test.note", str(number), {}, actor="other")
                other.close()
            context.progress({"seen": 2})
            raise AssertionError

    world = toy.World(tmp_path)
    with pytest.raises((Busy, PartlyDone, JournalUnavailable)) as stopped:
        journal.drive(run, {**toy.actions_in(world), "look": FailsOver()}, actor="me")
    assert "no longer has event" in str(stopped.value) or "is void" in str(stopped.value)
    kinds = [event.kind for event in journal.events(run=run)]
    assert kinds == ["run.submitted"]
    journal.close()
    again = journal_at(replica, tmp_path)
    done = again.drive(run, toy.actions_in(world), actor="me")
    assert done.state is RunState.DONE
    assert again.verify_chain().is_whole
    again.close()


def test_an_event_with_a_nul_stops_no_later_note(tmp_path: Path) -> None:
    """Postgres decodes no text of JSON that has one, and one log line of an application may."""
    journal = toy.journal_in(tmp_path)
    assert journal.note("staging", "test.note", "a\0", {"text": "it said \0", "inner": {"key": "c"}}, actor="me")
    assert journal.note("staging", "test.note", "a\0", {}, actor="me") is None
    assert journal.note("staging", "test.note", 'b"\\', {}, actor="me") is not None
    assert journal.note("staging", "test.note", 'b"\\', {}, actor="me") is None
    assert journal.note("staging", "test.note", "c", {}, actor="me") is not None, "the key of something within"
    assert [event.data["key"] for event in journal.events(kind="test.note")] == ["a\0", 'b"\\', "c"]
    journal.close()
