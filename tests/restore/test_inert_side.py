"""A copy keeps to itself: what the origin subscribes to, archives, runs and was configured with stays the origin's."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from kept import template
from recovery_lab import Lab, opened

from backout.errors import BackoutError
from backout.model.database.recovery import SideOrder, SideState
from backout.model.database.wal import parse_lsn
from backout.providers.postgres.restore import side_replay
from backout.providers.postgres.restore.side import PostgresSides
from backout.providers.postgres.server.binaries import find_binaries
from backout.providers.postgres.server.launcher import PostgresServer
from backout.providers.postgres.server.owner_session import SideSessions, make_inside_dsn
from backout.providers.postgres.server.session import open_working

from extent import long
from polling import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HERE = {"archive_mode": "on", "archive_command": "touch {folder}/archived-%f", "work_mem": "123MB"}
STILL = 600
BUSY = ("archiver", "logical replication launcher", "logical replication apply worker", "walsender", "walreceiver")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return template()


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[str]:
    """Yield the connection string of a server that publishes a table."""
    server = PostgresServer(
        tmp_path_factory.mktemp("publisher") / "data", find_binaries(), settings={"wal_level": "logical"}
    )
    server.create(cache_directory=cache)
    status = server.start()
    with psycopg.connect(status.socket_dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY)")
        connection.execute("INSERT INTO orders SELECT generate_series(1, 10)")
        connection.execute("CREATE PUBLICATION all_orders FOR TABLE orders")
    yield status.socket_dsn
    server.stop(mode="immediate")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, cache: Path, publisher: str) -> Iterator[Lab]:
    """Yield an origin that subscribes, archives, and has settings of ALTER SYSTEM; its base backup is `b1`."""
    root = tmp_path_factory.mktemp("origin")
    with opened(root, cache, templates=True) as lab:
        with lab.connect() as connection:
            for name, value in HERE.items():
                connection.execute(f"ALTER SYSTEM SET {name} = '{value.format(folder=root)}'")
            connection.execute("CREATE TABLE orders (id int PRIMARY KEY)")
            connection.execute(f"CREATE SUBSCRIPTION of_orders CONNECTION '{publisher}' PUBLICATION all_orders")
            until(lambda: lab.rows("SELECT count(*) FROM orders") == [(10,)], what="it subscribes")
        lab.base("b1")
        yield lab


def _order(lab: Lab, name: str, *, place: str = "") -> SideOrder:
    lab.archived()
    ((lsn,),) = lab.rows("SELECT pg_current_wal_insert_lsn()::text")
    lab.archived()
    wal = tuple(segment.name for segment in lab.backups.wal())
    return SideOrder(name, "b1", parse_lsn(lsn), 1, wal, place=place)


def _start(lab: Lab) -> None:
    """Start the origin, and receive its WAL again."""
    assert lab.receiver is not None
    lab.receiver.wait(timeout=PATIENCE_S)
    lab.server.start()
    until(lambda: lab.rows("SELECT 1"), what="the origin is back")
    lab.receive()


def _sides(lab: Lab) -> PostgresSides:
    placed = {"inert-true": str(lab.root / "live" / "incoming")}
    return PostgresSides(
        lab.root / "restore", lab.binaries, lab.backups, lambda: "postgres", places=lambda name: placed.get(name, "")
    )


@pytest.mark.parametrize("placed", [False, long(True)])
def test_a_copy_takes_nothing_from_what_its_origin_subscribes_to(lab: Lab, publisher: str, placed: bool) -> None:
    """Opened while the origin is down: the origin's place in the publication does not move, and no row arrives."""
    sides = _sides(lab)
    order = _order(lab, f"inert-{placed}".lower(), place=str(lab.root / "live" / "incoming") if placed else "")
    lab.server.stop()
    place = "SELECT confirmed_flush_lsn::text, active FROM pg_replication_slots"
    try:
        with psycopg.connect(publisher, autocommit=True) as connection:
            until(lambda: connection.execute(place).fetchall()[0][1] is False, what="the origin is gone")
            before = connection.execute(place).fetchall()
            connection.execute(
                "INSERT INTO orders SELECT g + (SELECT max(id) FROM orders) FROM generate_series(1, 60) g"
            )
            side = sides.start(order, lambda *_: None)
            archived = {path.name for path in lab.root.glob("archived-*")}
            with psycopg.connect(side.dsn, autocommit=True) as copy:
                (rows,) = copy.execute("SELECT count(*) FROM orders").fetchone() or (0,)
                configured = copy.execute(
                    "SELECT name, setting FROM pg_settings WHERE source = 'configuration file' OR name = 'work_mem'"
                ).fetchall()
            assert configured == [("work_mem", "4096")]
            sides.promote(order.name)
            with psycopg.connect(side.dsn, autocommit=True) as copy:
                copy.execute("SET default_transaction_read_only = off")
                copy.execute("SELECT pg_switch_wal()")
                for _ in range(50):  # as much work as a worker would have started in
                    copy.execute("CREATE TABLE busy AS SELECT generate_series(1, 5000)")
                    copy.execute("DROP TABLE busy")
                runs = {row[0] for row in copy.execute("SELECT backend_type FROM pg_stat_activity").fetchall()}
                assert runs.isdisjoint(BUSY)
                assert copy.execute("SELECT count(*) FROM orders").fetchone() == (rows,)
            assert connection.execute(place).fetchall() == before
            assert {path.name for path in lab.root.glob("archived-*")} == archived
            if placed:
                sides.stop(order.name)
                assert "123MB" in (lab.root / "live" / "incoming" / "postgresql.auto.conf").read_text()
    finally:
        sides.drop(order.name)
        _start(lab)


@pytest.mark.long
def test_a_setting_that_was_raised_since_the_base_does_not_hold_replay_up(lab: Lab) -> None:
    """The copy was begun with what the base had; what the WAL asks for it is given, and it comes to its target."""
    with lab.connect() as connection:
        connection.execute("ALTER SYSTEM SET max_connections = 130")
        connection.execute("ALTER SYSTEM SET max_prepared_transactions = 9")
    lab.server.stop()
    _start(lab)
    sides, order = _sides(lab), _order(lab, "raised")
    seen: Counter[tuple[str, int]] = Counter()

    def watched(doing: str, done: int, _whole: int) -> None:
        seen[doing, done] += 1
        assert seen[doing, done] < STILL, f"{doing} stands still"

    try:
        side = sides.start(order, watched)
        assert side.replayed_lsn >= order.lsn - 64
        with psycopg.connect(side.dsn, autocommit=True) as copy:
            assert copy.execute("SHOW max_connections").fetchone() == ("130",)
            assert copy.execute("SHOW max_prepared_transactions").fetchone() == ("9",)
        sides.stop(order.name)
        assert sides.resume(order.name, lambda *_: None).dsn
    finally:
        sides.drop(order.name)


@pytest.mark.parametrize("role", ["nobody-here", "sleeper"])
def test_a_copy_that_nobody_can_open_is_said_and_stopped(lab: Lab, role: str) -> None:
    """Its role is not there at the target, or may not log in: an error, not an hour of waiting; and no server stays."""
    with lab.connect() as connection:
        connection.execute("DROP ROLE IF EXISTS sleeper")
        connection.execute("CREATE ROLE sleeper SUPERUSER NOLOGIN")
    sides = PostgresSides(lab.root / "restore", lab.binaries, lab.backups, lambda: role)
    order, ended = _order(lab, "unopened"), []

    def start() -> None:
        try:
            sides.start(order, lambda *_: None)
        except BackoutError as error:
            ended.append(error)

    waiting = threading.Thread(target=start, daemon=True)
    waiting.start()
    try:
        waiting.join(PATIENCE_S / 4)
        assert len(ended) == 1, "it still waits"
        assert f'the copy is at its target and cannot be opened: FATAL:  role "{role}"' in ended[0].what
        assert ended[0].hint is not None
        assert "database.admin_url_env" in ended[0].hint
        found = sides.find(order.name)
        assert found is not None
        assert found.pid == 0
    finally:
        sides.drop(order.name)
        waiting.join(PATIENCE_S)


def test_a_role_that_was_made_since_the_base_is_waited_for(lab: Lab) -> None:
    """It is not there when replay begins, and is at the target."""
    with lab.connect() as connection:
        connection.execute("CREATE ROLE later SUPERUSER LOGIN")
    sides = PostgresSides(lab.root / "restore", lab.binaries, lab.backups, lambda: "later")
    order = _order(lab, "later")
    try:
        assert sides.start(order, lambda *_: None).state is SideState.PAUSED
    finally:
        sides.drop(order.name)


@pytest.mark.long
def test_libraries_of_the_origins_sessions_are_none_of_the_copys(lab: Lab) -> None:
    """Set for a database, which outdoes a command line: the library is not here, and the copy is read all the same."""
    with lab.connect() as connection:
        connection.execute("CREATE ROLE keeper LOGIN")
        connection.execute("CREATE DATABASE shop")
        connection.execute("ALTER DATABASE shop SET session_preload_libraries = 'nowhere'")
        connection.execute("ALTER DATABASE shop SET local_preload_libraries = 'nowhere'")
    sides, order = _sides(lab), _order(lab, "preloads")
    try:
        side = sides.start(order, lambda *_: None)
        assert {each.name for each in sides.read_all(order.name)} == {"postgres", "shop"}
        assert sides.look(order.name, "shop", "orders", "").relation_there is False
        sessions = SideSessions(
            lambda user: open_working(make_inside_dsn(side.dsn), dbname="shop", **({"user": user} if user else {}))
        )
        assert sessions.of("keeper") is sessions.main  # his own would preload it, and he cannot say otherwise
        assert sessions.main.execute("SHOW session_preload_libraries").fetchone() == ("",)
        sessions.main.close()
    finally:
        sides.drop(order.name)
        with lab.connect() as connection:
            connection.execute("DROP DATABASE shop")
            connection.execute("DROP ROLE keeper")


def test_a_refusal_from_before_the_target_says_nothing_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replay may come to its target between a refused connection and a look into the log: the next look decides."""
    log = tmp_path / "log"
    log.write_text("redo starts\n")

    @contextlib.contextmanager
    def refuse(*_: object, **__: object) -> Iterator[None]:
        log.write_text("redo starts\nrecovery stopping before commit\n")
        raise psycopg.OperationalError('FATAL:  role "later" does not exist')
        yield

    monkeypatch.setattr(side_replay, "reading", refuse)
    server: Any = SimpleNamespace(log_file=log, data_directory=tmp_path)
    assert side_replay.look_at_replay("user=later", server) == (SideState.REPLAYING, 0)
    with pytest.raises(side_replay.Unopenable, match='role "later" does not exist'):
        side_replay.look_at_replay("user=later", server)
