"""What stands in the way of a restore, each around one damage: right all the same, or refused by name."""

from __future__ import annotations

import contextlib
import resource
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import psycopg
from pooler import transaction_pooler

from backout.providers.clock import SystemClock
from database_lab.damages import Damage
from database_lab.ledger import read
from database_lab.load import write_some
from database_lab.outcomes import SWAPPED

from polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from database_lab.ledger import Ledger
    from database_lab.world import World

_AHEAD_S: Final = 40 * 86_400.0
FAULTY: Final = Damage(
    "a fault's",
    (
        "UPDATE shop.orders SET status = 'lost', price = 0 WHERE id % 2 = 0",
        "DELETE FROM shop.floats WHERE id > 5",
        "DELETE FROM billing.invoices WHERE id > 8",
    ),
)


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong besides.

    Args:
        heals: whether the same command is right once it is over.
        reaches: whether the target can be restored at all; where not, there is a gap in the WAL.
        crashes: whether unlogged rows go with it, as Postgres says.
    """

    name: str
    heals: bool = False
    reaches: bool = True
    crashes: bool = False

    def harm(self, world: World, name: str, ledger: Ledger) -> str:
        """Do the damage, with what goes wrong around it; return its transaction."""
        return _HARM.get(self.name, _plain)(world, name, ledger)

    @contextlib.contextmanager
    def during(self, world: World, name: str) -> Iterator[dict[str, Any]]:
        """Be there while the command runs; yield what it is typed with."""
        with _DURING.get(self.name, _nothing)(world, name) as more:
            yield more


FAULTS: Final = (
    Fault("open across the backup"),
    Fault("prepared across the backup"),
    Fault("savepoints across the backup"),
    Fault("a good one open across the damage"),
    Fault("savepoints in two databases"),
    Fault("the slot is lost", reaches=False),
    Fault("a hole in the archive", reaches=False),
    Fault("wal_level was minimal", reaches=False),
    Fault("max_connections was raised"),
    Fault("another time line", crashes=True),
    Fault("the server was killed", crashes=True),
    Fault("a backup from the future"),
    Fault("a pooler", heals=True),
    Fault("a lock", heals=True),
    Fault("missing rights", heals=True),
    Fault("the disk is full", heals=True),
    Fault("the connection is cut", heals=True),
)


def _plain(world: World, name: str, ledger: Ledger) -> str:
    return world.damage(name, FAULTY)


def _begun(world: World, name: str) -> tuple[psycopg.Connection[Any], str]:
    connection = psycopg.connect(world.dsn(name), autocommit=True)
    connection.execute("SET ROLE lab_owner; BEGIN")
    row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
    assert row is not None
    return connection, str(row[0])


def _across(world: World, name: str, ledger: Ledger, *, how: str = "COMMIT") -> str:
    connection, xid = _begun(world, name)
    with connection:
        for number, statement in enumerate(FAULTY.statements):
            connection.execute(f"SAVEPOINT s{number}")  # type: ignore[call-overload]
            connection.execute(statement)  # type: ignore[call-overload]
            if how == "savepoints" and number == 0:
                world.base()
        if how == "prepared":
            connection.execute("PREPARE TRANSACTION 'across'")
        if how != "savepoints":
            world.base()
        connection.execute("COMMIT PREPARED 'across'" if how == "prepared" else "COMMIT")
    return xid


def _prepared(world: World, name: str, ledger: Ledger) -> str:
    return _across(world, name, ledger, how="prepared")


def _savepoints(world: World, name: str, ledger: Ledger) -> str:
    return _across(world, name, ledger, how="savepoints")


def _good_open(world: World, name: str, ledger: Ledger) -> str:
    """One that began before the damage, and writes and commits after it: its id is the smaller one."""
    connection, _ = _begun(world, name)
    with connection:
        xid = world.damage(name, FAULTY)
        connection.execute("UPDATE shop.orders SET note = '[]' WHERE id IN (2, 3)")
        connection.execute("INSERT INTO shop.floats (id, a) VALUES (7, '0.1')")
        connection.execute("COMMIT")
    for key in ("2", "3"):
        if (key,) in ledger.rows["shop.orders"]:
            ledger.put("shop.orders", (key,), {"note": "[]"})
    ledger.rows["shop.floats"].pop(("7",), None)
    ledger.put("shop.floats", ("7",), {"a": "0.1", "b": None, "c": None})
    return xid


def _nested(world: World, name: str, ledger: Ledger) -> str:
    """Two transactions with savepoints, turn by turn in two databases, so that ids are mixed; the other one is good.

    What the other database holds afterwards is part of the ledger, so that a rescue must leave it alone.
    """
    other = f"{name}_other"
    with world.lab.connect() as connection:
        connection.execute(f"CREATE DATABASE {other} TEMPLATE shaped OWNER lab_owner")  # type: ignore[call-overload]
    (bad, xid), (good, _) = _begun(world, name), _begun(world, other)
    with bad, good:
        for number, statement in enumerate(FAULTY.statements):
            for connection in (good, bad):
                connection.execute(f"SAVEPOINT s{number}")  # type: ignore[call-overload]
                connection.execute(statement)  # type: ignore[call-overload]
        bad.execute("COMMIT")
        good.execute("COMMIT")
    world.beside[other] = read(world.dsn(other))
    return xid


def _slot_lost(world: World, name: str, ledger: Ledger) -> str:
    world.backout("db", "wal", "stop", "--yes", role="backup")
    with world.lab.connect() as connection:
        connection.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active")
        row = connection.execute("SELECT pg_walfile_name(pg_current_wal_insert_lsn())").fetchone()
    assert row is not None
    xid = world.damage(name, FAULTY)
    with world.lab.connect() as connection:

        def is_gone() -> bool:
            """Whether Postgres has let go of the damage's first segment, which its summarizer may still be reading."""
            connection.execute("SELECT pg_switch_wal(), pg_logical_emit_message(true, 'lab', 'x')")
            connection.execute("CHECKPOINT")
            return not connection.execute("SELECT FROM pg_ls_waldir() WHERE name = %s", row).fetchall()

        until(is_gone, what="the WAL of the damage is gone")
    world.backout("db", "wal", "start", role="backup")
    return xid


def _hole(world: World, name: str, ledger: Ledger) -> str:
    with world.lab.connect() as connection:
        row = connection.execute("SELECT pg_walfile_name(pg_current_wal_insert_lsn())").fetchone()
    assert row is not None
    segment, backups = str(row[0]), world.folder / ".backout" / "backups" / "lab"
    xid = world.damage(name, FAULTY)
    world.archived()

    def list_copies(folder: str) -> list[Path]:
        return list((backups / folder).rglob(f"{segment}*"))

    # Of what is just received the receiver writes the stored copy once more.
    until(lambda: list_copies("wal") and not list_copies("incoming"), what="the segment is stored")
    for path in list_copies("wal"):
        path.unlink()
    return xid


def _restarted(world: World, **settings: str) -> None:
    with world.lab.connect() as connection:
        for setting, value in settings.items():
            connection.execute(f"ALTER SYSTEM SET {setting} = '{value}'")  # type: ignore[call-overload]
    world.lab.server.stop()
    world.lab.server.start()


def _minimal(world: World, name: str, ledger: Ledger) -> str:
    world.backout("db", "wal", "stop", "--yes", role="backup")
    with world.lab.connect() as connection:
        connection.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active")
    _restarted(world, wal_level="minimal", max_wal_senders="0", summarize_wal="off")
    write_some(world.dsn(name, "lab_app"), ledger, 77, 20)
    _restarted(world, wal_level="replica", max_wal_senders="10", summarize_wal="on")
    world.backout("db", "wal", "start", role="backup")
    return world.damage(name, FAULTY)


def _raised(world: World, name: str, ledger: Ledger) -> str:
    _restarted(world, max_connections="173", max_worker_processes="11")
    return world.damage(name, FAULTY)


def _killed(world: World, name: str, ledger: Ledger) -> str:
    xid = world.damage(name, FAULTY)
    world.crash()
    return xid


def _time_line(world: World, name: str, ledger: Ledger) -> str:
    first = world.damage(name, Damage("first", ("UPDATE shop.tree SET label = 'x'",)))
    world.archived()
    words = world.agreeing(first, "--swap", database=name)
    swapped = world.backout("db", "restore", first, "--swap", "--yes", *words, role="swap", database=name)
    assert swapped.code in SWAPPED, swapped.err
    world.lose_unlogged()
    world.base()
    return world.damage(name, FAULTY)


def _future(world: World, name: str, ledger: Ledger) -> str:
    real = SystemClock.now
    SystemClock.now = lambda self: real(self) + _AHEAD_S  # type: ignore[method-assign]
    try:
        world.base()
    finally:
        SystemClock.now = real  # type: ignore[method-assign]
    world.base()
    return world.damage(name, FAULTY)


@contextlib.contextmanager
def _nothing(world: World, name: str) -> Iterator[dict[str, Any]]:
    yield {}


@contextlib.contextmanager
def _pooled(world: World, name: str) -> Iterator[dict[str, Any]]:
    with transaction_pooler(world.dsn(name, "lab_rescue")) as url:
        yield {"url": url}


@contextlib.contextmanager
def _locked(world: World, name: str) -> Iterator[dict[str, Any]]:
    with psycopg.connect(world.dsn(name)) as connection:
        connection.execute("LOCK TABLE shop.orders IN SHARE MODE")
        yield {}


@contextlib.contextmanager
def _without_rights(world: World, name: str) -> Iterator[dict[str, Any]]:
    yield {"role": "look"}


@contextlib.contextmanager
def _full(world: World, name: str) -> Iterator[dict[str, Any]]:
    """No file of this process or its children grows beyond a megabyte, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        yield {}
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


_WRITERS: Final = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE usename = 'lab_rescue' AND datname = %s AND backend_xid IS NOT NULL
"""


@contextlib.contextmanager
def _cut(world: World, name: str) -> Iterator[dict[str, Any]]:
    """End the session that writes, once, as soon as it writes."""
    is_over = threading.Event()

    def cut() -> None:
        with world.lab.connect() as connection:
            while not is_over.wait(0.01) and not connection.execute(_WRITERS, (name,)).fetchall():
                pass

    thread = threading.Thread(target=cut, daemon=True)
    thread.start()
    try:
        yield {}
    finally:
        is_over.set()
        thread.join()


_HARM: Final = {
    "open across the backup": _across,
    "prepared across the backup": _prepared,
    "savepoints across the backup": _savepoints,
    "a good one open across the damage": _good_open,
    "savepoints in two databases": _nested,
    "the slot is lost": _slot_lost,
    "a hole in the archive": _hole,
    "wal_level was minimal": _minimal,
    "max_connections was raised": _raised,
    "another time line": _time_line,
    "the server was killed": _killed,
    "a backup from the future": _future,
}
_DURING: Final = {
    "a pooler": _pooled,
    "a lock": _locked,
    "missing rights": _without_rights,
    "the disk is full": _full,
    "the connection is cut": _cut,
}
