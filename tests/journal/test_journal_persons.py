"""Who wrote an event of the journal on Postgres: what its server says, and whose approval is a second person's."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import psycopg
import pytest
from journal import toy
from journal.persons import ADA, ANYONE, BOB, Team, approve, make_plan, submit
from values import replace

from backout.errors import DecisionNeeded, Refused
from backout.journal import lease as leases
from backout.journal import postgres_schema as schema
from backout.journal.chain import hash_row
from backout.journal.rows import JournalUnavailable
from backout.journal.spool import merge
from backout.journal.sqlite import SqliteJournal
from backout.journal.sqlite_store import SqliteStore
from backout.journal.store import append_row
from backout.model.approval import NOT_PROVABLE
from backout.model.incident.incident import RunState
from backout.providers.postgres.server.journal_link import PostgresLink

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


pytestmark = pytest.mark.usefixtures("on_postgres")


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    """Lend a journal with one event of its owner's, and two people with a role each."""
    team = Team(tmp_path)
    team.open("postgres").note("staging", "x.noted", "1", {}, actor="owner")
    team.admit(ADA, BOB)
    yield team
    for journal in team.opened:
        journal.close()


def test_a_second_person_is_whoever_has_another_role(team: Team) -> None:
    """Who asked may not approve, under any name that is typed; whoever has another role may, and is named by it."""
    ada, bob = team.open(ADA), team.open(BOB)
    ada.check_approvable(make_plan())
    run = submit(ada)
    assert "a second person's approval" in team.wait(run, ada)
    with pytest.raises(Refused, match=f"{NOT_PROVABLE}: the role {ADA} .* asked for the plan, too") as refused:
        approve(ada, run, "bob@laptop")
    assert "role of their own" in str(refused.value.hint)
    assert refused.value.exit_code == 3
    team.wait(run, bob)  # he looks whether it waits: that makes him none of those who asked
    approve(bob, run, "ada@laptop")
    ended = team.drive(run, ada)
    assert ended.approval is not None
    assert (ended.state, ended.approval.person, ended.approval.by) == (RunState.DONE, BOB, "ada@laptop")
    assert ada.verify_chain().is_whole


def test_who_drove_a_plan_to_where_it_waits_asked_for_it_too(team: Team) -> None:
    """One submitted it, another one drove it: neither is a second person."""
    ada, bob = team.open(ADA), team.open(BOB)
    run = submit(ada)
    team.wait(run, bob)
    for journal in (ada, bob):
        with pytest.raises(Refused, match="asked for the plan, too"):
            approve(journal, run)
    team.admit("toy_eve")
    approve(team.open("toy_eve"), run)
    assert team.drive(run, bob).state is RunState.DONE


def test_a_role_that_could_write_in_another_s_name_proves_nobody(team: Team) -> None:
    """The owner of the tables, a member of it, or a role that makes others: refused before anything, and on the way."""
    owner = team.open("postgres")
    with pytest.raises(Refused, match=f"{NOT_PROVABLE}: the role postgres") as refused:
        owner.check_approvable(make_plan())
    assert "may only append" in str(refused.value.hint)
    run = submit(owner)
    with pytest.raises(Refused, match=NOT_PROVABLE):
        team.drive(run, owner)
    ended = owner.find(run)
    assert ended is not None
    assert ended.state is RunState.FAILED
    ada = team.open(ADA)
    run = submit(ada)
    team.wait(run, ada)
    with pytest.raises(Refused, match=f"{NOT_PROVABLE}: the role postgres"):
        approve(owner, run)
    for number, given in enumerate(
        ("CREATEROLE", "IN ROLE toy_admins", "IN ROLE toy_changers", "IN ROLE toy_triggers"), start=1
    ):
        role = f"toy_more_{number}_{team.directory.name[-12:].replace('-', '_')}"
        with psycopg.connect(team.url(), autocommit=True) as connection:
            for name, right in (("toy_changers", "UPDATE (writer)"), ("toy_triggers", "TRIGGER"), ("toy_admins", "")):
                with contextlib.suppress(psycopg.errors.DuplicateObject):
                    connection.execute(f"CREATE ROLE {name} NOINHERIT".encode())
                if right:
                    connection.execute(f"GRANT {right} ON backout.event TO {name}".encode())
            connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{toy.PASSWORD}' {given}".encode())
            if "admins" in given:
                connection.execute(f"ALTER ROLE {role} NOINHERIT".encode())
                connection.execute(b"GRANT postgres TO toy_admins")
        team.admit(role)
        try:
            with pytest.raises(Refused, match=f"{NOT_PROVABLE}: the role {role}"):
                approve(team.open(role), run)
        finally:
            team.opened[-1].close()
            with psycopg.connect(team.url(), autocommit=True) as connection:
                connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}".encode())
    assert team.effects == []


def test_an_approval_of_a_role_that_is_gone_or_was_given_more_counts_no_longer(team: Team) -> None:
    """When it matters nobody may be able to have written it in that name."""
    ada, bob = team.open(ADA), team.open(BOB)
    run = submit(ada)
    team.wait(run, ada)
    approve(bob, run)
    with psycopg.connect(team.url(), autocommit=True) as connection:
        connection.execute(f"GRANT UPDATE ON backout.event TO {BOB}".encode())
        team.wait(run, ada)
        connection.execute(f"REVOKE UPDATE ON backout.event FROM {BOB}".encode())
        connection.execute(f"GRANT UPDATE (seq, hash) ON backout.head TO {BOB}".encode())
    assert team.effects == []


def test_no_role_can_write_in_another_s_name(team: Team) -> None:
    """A role with the grants may not name the column; whoever may, a superuser too, is refused by the tables."""
    insert = (
        "INSERT INTO backout.event (seq, at, environment, run, step, kind, data, actor, prev_hash, hash, writer)"
        " SELECT seq + 1, 0, 'staging', 'r', NULL, 'k', '{}', 'bob', hash, 'h', %s FROM backout.head"
    )
    with (
        psycopg.connect(team.url(ADA), autocommit=True) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(insert.encode(), (ADA,))
    with psycopg.connect(team.url(), autocommit=True) as connection:
        for role in ("origin", "replica"):
            connection.execute(f"SET session_replication_role = {role}".encode())
            for name in (BOB, None, ""):
                with pytest.raises(psycopg.errors.RaiseException, match="who writes an event"):
                    connection.execute(insert.encode(), (name,))
    with psycopg.connect(team.url(ADA), autocommit=True) as connection:
        connection.execute(insert.replace(", writer)", ")").replace(", %s FROM", " FROM").encode())
        assert connection.execute(b"SELECT writer FROM backout.event WHERE kind = 'k'").fetchall() == [(ADA,)]


def test_who_wrote_it_is_in_the_chain(team: Team) -> None:
    """Whoever turns the triggers off and writes another role, or none, is found."""
    ada = team.open(ADA)
    ada.note("staging", "x.noted", "2", {}, actor="bob")
    assert [event.writer for event in ada.events()] == ["postgres", ADA]
    with psycopg.connect(team.url(), autocommit=True) as connection:
        connection.execute(b"ALTER TABLE backout.event DISABLE TRIGGER ALL")
        for writer in (BOB, None):
            connection.execute(b"UPDATE backout.event SET writer = %s WHERE seq = 2", (writer,))
            assert ada.verify_chain().broken_at == 2
        connection.execute(b"UPDATE backout.event SET writer = %s WHERE seq = 2", (ADA,))
    assert ada.verify_chain().is_whole


def test_events_from_before_keep_their_hashes_and_prove_nobody(tmp_path: Path) -> None:
    """Tables of the first version are brought forward; whoever asked for a plan then is not known."""
    team = Team(tmp_path)
    old = SqliteJournal(tmp_path / "same.db", toy.WallClock())
    run = submit(old)  # type: ignore[arg-type]
    rows = old._store.rows("SELECT * FROM event ORDER BY seq")
    old.close()
    with psycopg.connect(team.url(), autocommit=True) as connection:
        for statement in (*schema.FOUNDATION, *schema.MIGRATIONS[0]):
            connection.execute(statement.encode())
        connection.execute(b"INSERT INTO backout.schema_version VALUES (1, 0)")
    link = PostgresLink(team.url)
    link.begin("SELECT 1")
    for row in rows:
        append_row(link, row)
    link.commit()
    link.close()
    owner = team.open("postgres")
    assert owner.verify_chain().count == 1
    owner.note("staging", "x.noted", "1", {}, actor="owner")
    assert [event.writer for event in owner.events()] == ["", "postgres"]
    assert owner.verify_chain().is_whole
    team.admit(ADA)
    ada = team.open(ADA)
    with pytest.raises(Refused, match="does not say who asked"):
        team.drive(run, ada)
    for journal in team.opened:
        journal.close()


def test_what_is_moved_and_what_is_merged_was_written_by_nobody_of_the_server(team: Team, tmp_path: Path) -> None:
    """Neither who moves it nor who merges it is taken for who asked; their hashes are those of the file."""
    path = tmp_path / "moved.db"
    file = SqliteJournal(path, toy.WallClock(), approvals=ANYONE)
    submit(file)  # type: ignore[arg-type]
    file.close()
    toy.move_to_server(path)
    moved = Team(path.with_suffix(""))
    owner = moved.open("postgres")
    assert [event.writer for event in owner.events()] == [""]
    assert owner.verify_chain().is_whole
    owner.note("staging", "x.noted", "1", {}, actor="owner")
    assert [event.writer for event in owner.events()] == ["", "postgres"]
    owner.close()

    spool = SqliteJournal(tmp_path / "spool.db", toy.WallClock(), approvals=ANYONE)
    run = submit(spool)  # type: ignore[arg-type]
    with pytest.raises(DecisionNeeded):
        team.drive(run, spool)
    approve(spool, run)
    spool.close()
    ada, bob = team.open(ADA, ANYONE), team.open(BOB)
    with contextlib.closing(SqliteStore(tmp_path / "spool.db", time.time)) as merged:
        merge(merged, ada._store, leases.make_own_holder(leases.name_this_machine()), actor="ada")
    found = ada.find(run)
    assert found is not None
    assert found.approval is not None
    assert found.approval.person == ""
    assert "has expired" in team.wait(run, ada), "another clock than the server's said until when it counts"
    with pytest.raises(Refused, match="does not say who asked"):
        team.drive(run, bob)


def test_a_machine_that_asks_for_less_does_not_make_it_less(team: Team) -> None:
    """What waited for a second person once waits for one everywhere, and no longer than it was said."""
    ada = team.open(ADA)
    run = submit(ada)
    team.wait(run, ada)
    for rule in (None, ANYONE):
        with pytest.raises(Refused, match="asked for the plan, too"):
            approve(team.open(ADA, rule), run)
    approve(team.open(BOB, replace(ANYONE, expires_s=999_999.0)), run)
    found = ada.find(run)
    assert found is not None
    assert found.approval is not None
    assert found.approval.expires_at - found.approval.at == pytest.approx(600.0)


@pytest.mark.parametrize("by_s", [-7200.0, 7200.0])
def test_an_approval_expires_by_the_server_s_clock(team: Team, by_s: float) -> None:
    """The clocks of the machines, hours ahead or behind, say nothing."""

    class Skewed(toy.WallClock):
        def now(self) -> float:
            return time.time() + by_s

    server = toy.FakeClock()
    ada = team.open(ADA, ANYONE, clock=Skewed(), now=server.now)
    run = submit(ada)
    team.wait(run, ada)
    approve(ada, run)
    found = ada.find(run)
    assert found is not None
    assert found.approval is not None
    assert (found.approval.at, found.approval.expires_at) == (server.at, server.at + 600)
    server.sleep(601)
    assert "has expired" in team.wait(run, ada)
    approve(ada, run)
    server.sleep(599)
    assert team.drive(run, ada).state is RunState.DONE


def test_the_transaction_has_the_server_s_time(team: Team) -> None:
    """Not only where a test gives it: the wall clock of a machine that is two hours ahead is not in the approval."""

    class Ahead(toy.WallClock):
        def now(self) -> float:
            return time.time() + 7200

    ada = team.open(ADA, ANYONE, clock=Ahead())
    run = submit(ada)
    team.wait(run, ada)
    approve(ada, run)
    assert team.drive(run, ada).state is RunState.DONE
    found = ada.find(run)
    assert found is not None
    assert found.approval is not None
    assert found.approval.expires_at < time.time() + 3600


def test_an_older_backout_is_refused_and_nothing_is_taken_back(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables only go forward."""
    monkeypatch.setattr(schema, "VERSION", 1)
    monkeypatch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:1])
    with pytest.raises(JournalUnavailable, match="newer backout"):
        submit(team.open(ADA))


def test_the_hash_without_a_writer_is_the_one_that_it_always_was() -> None:
    """So every event of a file, and of the tables before, stays as it is."""
    row = (1, 2.0, "e", "r", None, "k", "{}", "a", "")
    assert hash_row(row) == "73da3df402d8d1e837e3624934d0fe9b80f4b878ddbe645dfd9208118202fd80"
    assert hash_row(row, "ada") != hash_row(row)
