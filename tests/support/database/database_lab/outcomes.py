"""One combination of damage, path and load, and whether it ended right, or refused by name: never silently wrong."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from database_lab.ledger import Found, Ledger, differences, read
from database_lab.load import Load, write_some
from database_lab.naming import is_named

from polling import PATIENCE_S, until

if TYPE_CHECKING:
    from cli_shell import Answer

    from database_lab.damages import Damage
    from database_lab.faults import Fault
    from database_lab.world import World

_UNSEEN = 7
"""Nothing is known to be left, and of the unlogged table nobody can tell."""
_REFUSALS = (2, 3, 4, 6, 78)
UNLOGGED = frozenset({"shop.cache"})
"""No WAL holds its rows: it is empty in what was restored, which is said."""


@dataclass(frozen=True)
class Outcome:
    """How a combination ended.

    Args:
        code: the exit code of the last command.
        wrong: what is not as it has to be, by table: as if the damage had never been, and where the command was
            refused, as it was.
        said: its output.
    """

    code: int
    wrong: dict[str, list[str]]
    said: str

    @property
    def silent(self) -> dict[str, list[str]]:
        """What is wrong without a word: everything where it said "done" or refused, else what it does not name."""
        if self.code in (0, *_REFUSALS):
            return self.wrong
        return {table: wrong for table, wrong in self.wrong.items() if not is_named(table, wrong, self.said)}


def combination(world: World, damage: Damage, path: str, seed: int, *, busy: bool) -> Outcome:
    """Make a database, write, do the damage, write, take the path, and compare every row."""
    with world.database() as (name, ledger):
        app = world.dsn(name, "lab_app")
        write_some(app, ledger, seed, 60)
        if path == "dump":
            return _dump(world, name, ledger, damage)
        load = Load(app, ledger, seed + 1) if busy else None
        with load or contextlib.nullcontext():
            if load is not None:
                until(lambda: load.committed > 0, what="the load writes")
        before = ledger.copied()
        xid = world.damage(name, damage)
        load = Load(app, ledger, seed + 2) if busy else None
        with load or contextlib.nullcontext():
            if load is None:
                write_some(app, ledger, seed + 2, 40)
            else:
                until(lambda: load.committed > 5, what="the load writes")
            world.archived()
            if path in ("rescue", "undo"):
                return (_rescue if path == "rescue" else _undo)(world, name, ledger, xid, load)
        if path == "side":
            return _side(world, name, before, xid)
        return _swap(world, name, (before, ledger), xid, back=path == "unswap")


def _rescue(world: World, name: str, ledger: Ledger, xid: str, load: Load | None) -> Outcome:
    ledger.touched.clear()  # before it is read: what is written meanwhile may be in it, or not
    was = read(world.dsn(name))
    done = world.backout("db", "restore", xid, "--yes", role="rescue", database=name)
    if load is not None:
        load.end()
    found = read(world.dsn(name))
    if done.code in _REFUSALS:
        return Outcome(done.code, _changed(was, found, ledger), _said(done))
    return Outcome(done.code, differences(ledger, found), _said(done))


def _undo(world: World, name: str, ledger: Ledger, xid: str, load: Load | None) -> Outcome:
    """Rescue and take it back: as it was before, but for what others have written since."""
    ledger.touched.clear()  # before it is read: what is written meanwhile may be in it, or not
    was = read(world.dsn(name))
    done = world.backout("db", "restore", xid, "--yes", role="rescue", database=name)
    taken = world.backout("db", "restore", "--undo", "--yes", role="rescue", database=name)
    if load is not None:
        load.end()
    return Outcome(taken.code, _changed(was, read(world.dsn(name)), ledger), _said(done) + _said(taken))


def _changed(was: Found, found: Found, ledger: Ledger) -> dict[str, list[str]]:
    """Return how a database differs from what it was, apart from the keys that clients have written since."""
    for table, key in ledger.touched:
        for rows in (was[table], found[table]):
            if not isinstance(rows, str):
                rows.pop(key, None)
    return differences(was, found)


def _side(world: World, name: str, before: Ledger, xid: str) -> Outcome:
    made = world.backout("db", "restore", xid, "--side", "--json", role="swap", database=name)
    if made.code:
        return Outcome(made.code, {}, _said(made))
    side = json.loads(made.out)["side"]
    try:
        dsn = side["dsn"].replace("dbname=postgres", f"dbname={name}")
        return Outcome(0, differences(before, read(dsn), but=UNLOGGED), _said(made))
    finally:
        world.drop_sides(name)


def _swap(world: World, name: str, states: tuple[Ledger, Ledger], xid: str, *, back: bool) -> Outcome:
    """Swap, and perhaps back; states: just before the damage, and now."""
    was = read(world.dsn(name))
    words = world.agreeing(xid, "--swap", database=name)
    done = world.backout("db", "restore", xid, "--swap", "--yes", *words, role="swap", database=name)
    if done.code == 0 and back:
        words = world.agreeing("--undo", database=name)
        taken = world.backout("db", "restore", "--undo", "--yes", *words, role="swap", database=name)
        outcome = Outcome(taken.code, differences(was, read(world.dsn(name))), _said(done) + _said(taken))
    elif done.code in _REFUSALS:
        outcome = Outcome(done.code, differences(was, read(world.dsn(name))), _said(done))
    else:
        outcome = Outcome(done.code, differences(states[0], read(world.dsn(name)), but=UNLOGGED), _said(done))
    if done.code == 0:
        world.lose_unlogged()
    world.backout("db", "restore", "--release", "--yes", role="swap", database=name)
    world.base()
    return outcome


def faulty(world: World, fault: Fault, path: str, seed: int, *, busy: bool) -> Outcome:
    """Make a database, do the damage with a fault around it, take the path, and once more when the fault is over."""
    with world.database() as (name, ledger):
        app = world.dsn(name, "lab_app")
        write_some(app, ledger, seed, 30)
        before = ledger.copied()
        xid = fault.harm(world, name, ledger)
        load = Load(app, ledger, seed + 2) if busy else None
        with load or contextlib.nullcontext():
            write_some(app, ledger, seed + 1, 20) if load is None else None
            with contextlib.suppress(AssertionError):
                world.archived(PATIENCE_S if fault.reaches else 5.0)
            words = ("--side", "--json") if path == "side" else ("--yes",)
            role = "swap" if path == "side" else "rescue"
            with fault.during(world, name) as more:
                done = world.backout("db", "restore", xid, *words, **{"role": role, "database": name, **more})
            if fault.heals and done.code:
                done = world.backout("db", "restore", xid, *words, role=role, database=name)
                wrong = differences(ledger, read(world.dsn(name))) if path == "rescue" and done.code else {}
                assert done.code in (0, _UNSEEN), (wrong, done.err + done.out)
        try:
            if path == "rescue" and done.code in _REFUSALS:
                return Outcome(done.code, {}, _said(done))
            if path == "rescue":
                but = UNLOGGED if fault.crashes else frozenset[str]()
                wrong = {**differences(ledger, read(world.dsn(name)), but=but), **world.beside_wrong()}
                return Outcome(done.code, wrong, _said(done))
            if done.code:
                return Outcome(done.code, {}, _said(done))
            dsn = json.loads(done.out)["side"]["dsn"].replace("dbname=postgres", f"dbname={name}")
            wanted = before if fault.name not in _WRITES_BEFORE else ledger
            return Outcome(0, differences(wanted, read(dsn), but=UNLOGGED), _said(done))
        finally:
            world.drop_sides(name)
            world.beside_wrong()
            if not fault.reaches:
                world.heal()


_WRITES_BEFORE = frozenset({"wal_level was minimal"})


def _dump(world: World, name: str, ledger: Ledger, damage: Damage) -> Outcome:
    made = world.backout("db", "dump", "--json", role="prove", database=name)
    if made.code:
        return Outcome(made.code, {}, _said(made))
    world.damage(name, damage)
    with world.lab.connect() as connection:
        connection.execute("CREATE DATABASE again OWNER lab_owner")
    try:
        dump = json.loads(made.out)["dump"]["id"]
        target = {"DATABASE_URL": world.dsn(name, "lab_prove"), "TARGET_URL": world.dsn("again")}
        done = _typed(world, target, "db", "dumps", "restore", dump, "--into", "TARGET_URL", "--yes")
        return Outcome(done.code, differences(ledger, read(world.dsn("again"))), _said(made) + _said(done))
    finally:
        with world.lab.connect() as connection:
            connection.execute("DROP DATABASE again (FORCE)")


def _typed(world: World, variables: dict[str, str], *words: str) -> Answer:
    from cli_shell import backout as typed  # noqa: PLC0415 the one place that names another database

    return typed(world.folder, *words, variables=variables)


def _said(answer: Answer) -> str:
    return answer.out + answer.err
