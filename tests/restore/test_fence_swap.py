"""A swap erases a fence, because roles belong to the cluster: on two real ones, and killed in between."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psycopg
import pytest
from kept import template
from recovery_lab import Lab, opened

from backout.errors import Refused
from backout.model.database.fence import FenceOrder
from backout.model.database.recovery import SideOrder
from backout.model.database.wal import parse_lsn
from backout.providers.postgres.fence.fence import PostgresFence

from polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.model.database.fence import FenceMark


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with opened(tmp_path, template(), templates=True) as made:
        yield made


class Knocker(threading.Thread):
    """The application: it connects every 10 ms as one role, and notes each time it was let in."""

    def __init__(self, lab: Lab, role: str) -> None:
        super().__init__(daemon=True)
        self._dsn = f"host={lab.sockets} port={lab.port} user={role} dbname=shop"
        self._ends = threading.Event()
        self.let_in: list[float] = []
        self.knocked = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self.join(30)

    def run(self) -> None:
        while not self._ends.wait(0.01):
            self.knocked += 1
            with contextlib.suppress(psycopg.Error), psycopg.connect(self._dsn, autocommit=True) as session:
                self.let_in.append(time.monotonic())
                session.execute("INSERT INTO orders DEFAULT VALUES")


def prepare(lab: Lab) -> str:
    """Make a shop whose roles change after a moment; return that moment."""
    with lab.connect() as session:
        session.execute("CREATE ROLE shop LOGIN CONNECTION LIMIT 9")
        session.execute("CREATE ROLE former LOGIN")
        session.execute("CREATE DATABASE shop OWNER shop")
    with psycopg.connect(f"{lab.dsn} dbname=shop", autocommit=True) as session:
        session.execute("CREATE TABLE orders (id bigserial PRIMARY KEY)")
        session.execute("GRANT ALL ON orders TO shop, former")
        session.execute("GRANT ALL ON SEQUENCE orders_id_seq TO shop, former")
    lab.base("one")
    moment = lab.reached()
    with psycopg.connect(f"{lab.dsn} dbname=shop", autocommit=True) as session:
        session.execute("DROP OWNED BY former; DROP ROLE former")
        session.execute("CREATE ROLE later LOGIN; GRANT ALL ON orders TO later")
        session.execute("ALTER ROLE shop CONNECTION LIMIT 30")
        session.execute("COMMENT ON ROLE shop IS 'the shop'")
    lab.archived()
    return moment


def make_fence(lab: Lab) -> PostgresFence:
    return PostgresFence(
        lambda: f"{lab.dsn} dbname=shop", lambda: ("shop", "later"), lambda: lab.binaries, lab.root / "fence"
    )


def roles(lab: Lab) -> list[tuple[object, ...]]:
    return lab.rows(
        "SELECT rolname, rolcanlogin, rolconnlimit, shobj_description(oid, 'pg_authid') FROM pg_roles "
        "WHERE rolname IN ('shop', 'former', 'later') ORDER BY 1"
    )


def make_copy(lab: Lab, fence: PostgresFence, mark: FenceMark, moment: str) -> str:
    """Return the data directory of the cluster as of the moment, promoted, fenced and stopped."""
    tools, place = lab.tools(), f"{lab.data}.backout-new-1"
    names = tuple(each.name for each in lab.backups.wal())
    side = tools.sides.start(
        SideOrder("swap-1", "one", parse_lsn(moment), 1, names, place=place), lambda _doing, _done, _whole: None
    )
    tools.beside.promote("swap-1")
    there = fence.set_in(side.dsn, mark)
    assert [each.name for each in there.roles] == ["former", "shop"]
    assert fence.set_in(side.dsn, mark) == there
    tools.beside.stop("swap-1")
    return place


def exchange_and_die(lab: Lab, incoming: Path, kept: Path) -> None:
    """Stop the live server and exchange the directories in a process that is killed right after."""
    child = os.fork()
    if child == 0:
        try:
            lab.server.stop()
            lab.server.exchange(incoming, kept)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert kept.is_dir()
    assert not incoming.exists()


@pytest.mark.rotating("restores", 3)
@pytest.mark.long
def test_killed_right_after_the_exchange_what_answers_is_fenced(lab: Lab) -> None:
    """Nobody of backout's is there when the server comes up; an undo brings back what was fenced; both open exactly."""
    moment = prepare(lab)
    before, fence = roles(lab), make_fence(lab)
    mark = fence.raise_fence(FenceOrder("r1", "ann@host", 1_900_000_000.0, ("shop", "later")))
    assert fence.prove(mark.lsn, 0.5).holds
    with Knocker(lab, "shop") as shop, Knocker(lab, "later") as later, Knocker(lab, "former") as former:
        incoming, kept = Path(make_copy(lab, fence, mark, moment)), Path(f"{lab.data}.backout-old-1")
        exchange_and_die(lab, incoming, kept)
        lab.server.start()  # the system's service manager does
        until(lambda: [name for name, *_ in roles(lab)] == ["former", "shop"], 60.0)
        knocked = shop.knocked
        until(lambda: shop.knocked > knocked + 50, 60.0)
        assert (shop.let_in, later.let_in, former.let_in) == ([], [], [])
        standing = make_fence(lab).read()
        assert standing is not None
        assert (standing.run, standing.deadline) == ("r1", mark.deadline)

        lab.server.stop()
        lab.server.exchange(kept, incoming)
        lab.server.start()
        until(lambda: [name for name, *_ in roles(lab)] == ["later", "shop"], 60.0)
        knocked = shop.knocked
        until(lambda: shop.knocked > knocked + 50, 60.0)
        assert (shop.let_in, later.let_in, former.let_in) == ([], [], [])
        lab.server.stop()
        lab.server.exchange(incoming, kept)
        lab.server.start()
        until(lambda: [name for name, *_ in roles(lab)] == ["former", "shop"], 60.0)
        make_fence(lab).open(standing)
        until(lambda: shop.let_in and former.let_in, 60.0)
    assert roles(lab) == [("former", True, -1, None), ("shop", True, 9, None)]
    lab.server.stop()
    lab.server.exchange(kept, incoming)
    lab.server.start()
    until(lambda: [name for name, *_ in roles(lab)] == ["later", "shop"], 60.0)
    make_fence(lab).open(mark)
    assert roles(lab) == before


@pytest.mark.long
@pytest.mark.rotating("fence", 4)
def test_a_moment_before_the_administrator_is_refused(lab: Lab) -> None:
    """Whoever opens the fence has to be in the copy."""
    moment = prepare(lab)
    with lab.connect() as session:
        session.execute("CREATE ROLE newcomer SUPERUSER LOGIN")
    fence = PostgresFence(
        lambda: f"host={lab.sockets} port={lab.port} user=newcomer dbname=shop",
        lambda: ("shop", "later"),
        lambda: lab.binaries,
        lab.root / "fence",
    )
    mark = fence.raise_fence(FenceOrder("r1", "ann@host", 1_900_000_000.0, ("shop", "later")))
    with pytest.raises(Refused, match="newcomer"):
        make_copy(lab, fence, mark, moment)
    fence.open(mark)
