"""A server in trouble while a run is under way: away, cut off, full, behind a real pooler, replaced by a replica."""

from __future__ import annotations

import shutil
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from cut_proxy import cut_proxy
from journal import toy
from journal.test_journal_postgres import journal_at, submit
from kept import template
from pooler import pgbouncer

from backout.errors import Busy, PartlyDone
from backout.journal.rows import JournalUnavailable
from backout.model.incident.incident import RunState
from backout.providers.postgres.server.binaries import find_binaries
from backout.providers.postgres.server.launcher import PostgresServer
from backout.providers.postgres.server.template import give_away

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from backout.model.plan import Json
    from backout.ports import StepContext


@contextmanager
def own_server(folder: Path, **settings: str) -> Iterator[tuple[PostgresServer, int]]:
    """Run a server of the test's own, and yield it with its port."""
    server = PostgresServer(folder / "data", find_binaries(), settings={"fsync": "off", **settings})
    server.create(cache_directory=template())
    try:
        yield server, server.start(password=toy.PASSWORD).port
    finally:
        server.stop(mode="immediate")


def url_at(port: int) -> str:
    return f"postgresql://postgres:{toy.PASSWORD}@127.0.0.1:{port}/postgres?sslmode=disable"


class Troubled(toy.Probed):
    """Has its effect, and meets trouble before that can be recorded."""

    def __init__(self, world: toy.World, trouble: Callable[[], None]) -> None:
        super().__init__(world)
        self.trouble = trouble
        self.was_met = False

    def do(self, args: dict[str, Json], context: StepContext) -> Json:
        done = super().do(args, context)
        if not self.was_met:
            self.was_met = True
            self.trouble()
        return done


def test_a_server_that_is_away_in_mid_step_and_comes_back_is_waited_for(quick_path: Path) -> None:
    """Crashed and restarted after an effect, before it was recorded: the run goes on by itself."""
    with own_server(quick_path) as (server, port):
        journal = journal_at(url_at(port), quick_path, patience_s=20.0)
        world = toy.World(quick_path)
        is_over = threading.Event()

        def come_back() -> None:
            time.sleep(1.5)
            server.start(port=port)
            is_over.wait()  # a server ends with the thread that started it

        back = threading.Thread(target=come_back)

        def go_away() -> None:
            server.stop(mode="immediate")
            back.start()

        run = submit(journal)
        actions = {**toy.actions_in(world), "probed": Troubled(world, go_away)}
        try:
            assert journal.drive(run, actions, actor="me").state is RunState.DONE
            assert journal.verify_chain().is_whole
            journal.close()
        finally:
            is_over.set()
            back.join()
        assert world.effects == [f"{run}:0", f"{run}:2"]


def test_a_server_that_stays_away_stops_the_run_which_is_resumed(quick_path: Path) -> None:
    """The effect that could not be recorded is found by its probe; it is said how to go on."""
    with own_server(quick_path) as (server, port):
        journal = journal_at(url_at(port), quick_path, patience_s=0.5)
        world = toy.World(quick_path)
        run = submit(journal)
        actions = {**toy.actions_in(world), "probed": Troubled(world, lambda: server.stop(mode="immediate"))}
        with pytest.raises(PartlyDone, match="does not answer") as stopped:
            journal.drive(run, actions, actor="me")
        assert f"backout runs resume {run}" in str(stopped.value.hint)
        server.start(port=port)
        assert journal.drive(run, actions, actor="me").state is RunState.DONE
        assert world.effects == [f"{run}:0", f"{run}:2"]
        journal.close()


def test_a_cut_network_holds_up_nobody_for_long(tmp_path: Path, journal_server: str) -> None:
    """Nothing is refused and nothing answers: it ends in time here, and the lock that was held is freed there."""
    port = int(journal_server.rpartition(":")[2].partition("/")[0])
    database = make_database(tmp_path, journal_server)
    with cut_proxy(port) as proxy:
        through = database.replace(f":{port}/", f":{proxy.port}/")
        journal = journal_at(through, tmp_path, patience_s=1.0, settles_s=1.0)
        other = journal_at(database, tmp_path, patience_s=15.0)
        submit(journal)

        def write() -> None:
            with journal._store.write("cut in the middle") as transaction:
                proxy.cut()
                transaction.connection.execute("SELECT 1")

        began = time.monotonic()
        with pytest.raises(JournalUnavailable):
            write()
        assert time.monotonic() - began < 10
        assert submit(other, "production"), "the lock of whoever was cut off is given back"
        proxy.heal()
        journal.close()
        assert submit(journal, "third")
        journal.close()
        other.close()


def make_database(tmp_path: Path, server: str) -> str:
    """Return the connection string of a new database of the server."""
    name = f"cut_{tmp_path.name[-30:].lower().replace('-', '_')}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return f"{server.rpartition('/')[0]}/{name}"


def test_a_full_disk_stops_the_run_and_loses_nothing(tmp_path: Path, journal_server: str) -> None:
    """The server's own error, raised where it extends the table; with room again the effect is found by its probe."""
    url = make_database(tmp_path, journal_server)
    journal, world = journal_at(url, tmp_path), toy.World(tmp_path)
    fill = (
        "CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION"
        " 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$;"
        "CREATE TRIGGER a_full BEFORE INSERT ON backout.event FOR EACH ROW EXECUTE FUNCTION fill()"
    )

    def execute(statement: str) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(statement.encode())

    run = submit(journal)
    actions = {**toy.actions_in(world), "probed": Troubled(world, lambda: execute(fill))}
    with pytest.raises(PartlyDone, match="disk of the journal's server is full") as full:
        journal.drive(run, actions, actor="me")
    assert "free some space there" in str(full.value.hint)
    assert [event.kind for event in journal.events()][-1] == "step.start"
    execute("DROP TRIGGER a_full ON backout.event")
    assert journal.drive(run, actions, actor="me").state is RunState.DONE
    assert world.effects == [f"{run}:0", f"{run}:2"]
    assert journal.verify_chain().is_whole
    journal.close()


@pytest.mark.skipif(shutil.which("pgbouncer") is None, reason="pgbouncer is not installed")
def test_two_drive_through_one_session_of_pgbouncer(quick_path: Path) -> None:
    """Transaction mode with a single session of the server, which everybody takes turns in."""
    with own_server(quick_path) as (_, port), pgbouncer(port, toy.PASSWORD, quick_path, sessions=1) as url:
        first, second = journal_at(url, quick_path, patience_s=10.0), journal_at(url, quick_path, patience_s=10.0)
        ended: list[RunState] = []

        def drive(journal: Any, environment: str) -> None:
            run = submit(journal, environment)
            ended.append(journal.drive(run, toy.actions_in(toy.World(quick_path)), actor="me").state)

        threads = [
            threading.Thread(target=drive, args=(journal, name))
            for journal, name in ((first, "staging"), (second, "production"))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ended == [RunState.DONE] * 2
        assert first.verify_chain().is_whole
        first.close()
        second.close()


def test_a_replica_that_lost_the_last_second_voids_what_it_never_saw(quick_path: Path) -> None:
    """Promoted without the newest events: who remembers them stops; who does not is given a higher fence than any."""
    settings = {"wal_level": "replica", "max_wal_senders": "4"}
    with own_server(quick_path, **settings) as (primary, port):
        journal = journal_at(url_at(port), quick_path, patience_s=20.0)
        world = toy.World(quick_path)
        run = submit(journal)
        journal.close()
        primary.stop()
        folder = quick_path / "replica"
        shutil.copytree(quick_path / "data", folder)
        (folder / "standby.signal").touch()
        give_away(folder)
        primary.start(port=port)
        replica = PostgresServer(folder, find_binaries(), settings={"fsync": "off", **settings})
        fences: list[int] = []

        def fail_over() -> None:
            fences.append(journal._store.rows("SELECT fence FROM lease")[0][0])
            primary.stop(mode="immediate")
            there = replica.start(port=port)
            with psycopg.connect(url_at(there.port), autocommit=True) as connection:
                connection.execute(b"SELECT pg_promote(true, 30)")

        try:
            actions = {**toy.actions_in(world), "probed": Troubled(world, fail_over)}
            with pytest.raises((PartlyDone, JournalUnavailable, Busy)) as stopped:
                journal.drive(run, actions, actor="me")
            assert "no longer has event" in str(stopped.value) or "is void" in str(stopped.value)
            assert [event.kind for event in journal.events(run=run)] == ["run.submitted"]
            journal.close()
            again = journal_at(url_at(port), quick_path)
            assert again.drive(run, actions, actor="me").state is RunState.DONE
            (driven,) = again.events(run=run, kind="run.driven")
            assert int(str(driven.data["fence"])) > fences[0] + 1_000, "a new time line has numbers of its own"
            assert world.effects[0] == f"{run}:0", "what was done before is not in the journal that is left"
            again.close()
        finally:
            replica.stop(mode="immediate")
