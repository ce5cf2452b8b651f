"""One combination of damage, path and load, and whether it ended right, or refused by name: never silently wrong."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from database_lab.claims import ASKED, list_claims
from database_lab.going_on import PARTLY, go_on
from database_lab.ledger import Found, Ledger, differences, read
from database_lab.load import Load, write_some
from database_lab.naming import is_named

from polling import PATIENCE_S, until

if TYPE_CHECKING:
    from cli_shell import Answer

    from database_lab.damages import Damage
    from database_lab.faults import Fault
    from database_lab.world import World

UNSEEN = 7
"""Nothing is known to be left, and of the unlogged table nobody can tell."""
_REFUSALS = (2, 3, 4, 6, 78)
SWAPPED = (0, UNSEEN)
"""Of a swap; its role may not compare tables with row security."""
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
        claims: what said "protected" across a gap in the WAL; None where there was no gap.
        went_on: what exit code 5 named and was typed then, "" where it named nothing; None where none ended with 5.
    """

    code: int
    wrong: dict[str, list[str]]
    said: str
    claims: tuple[str, ...] | None = None
    went_on: str | None = None

    @property
    def silent(self) -> dict[str, list[str]]:
        """What is wrong without a word: everything where it said "done" or refused, else what it does not name."""
        if self.code == 0 or (self.code in _REFUSALS and self.went_on is None):
            return self.wrong
        return {table: wrong for table, wrong in self.wrong.items() if not is_named(table, wrong, self.said)}

    @property
    def stuck(self) -> str | None:
        """Why exit code 5 led no further, "" where what it named led to a right end; None where none ended so.

        A right end is "done" with everything right, or another code and words that name what is not.
        """
        if self.went_on is None:
            return None
        if not self.went_on:
            return "exit code 5 names nothing that goes on"
        if self.code == PARTLY:
            return f"`{self.went_on}` ended with exit code 5 as well"
        return f"`{self.went_on}` ended with exit code {self.code}: {self.silent}" if self.silent else ""


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
    done, went_on = _restored(world, name, xid, "--yes", role="rescue", load=load)
    if load is not None:
        load.end()
    found = read(world.dsn(name))
    if done.code in _REFUSALS and went_on is None:
        return Outcome(done.code, _changed(was, found, ledger), _said(done))
    return Outcome(done.code, differences(ledger, found), _said(done), went_on=went_on)


def _restored(world: World, name: str, *words: str, role: str, load: Load | None = None) -> tuple[Answer, str | None]:
    """Type a restore, and what its exit code 5 names, once nobody else writes: see `go_on`."""
    done = world.backout("db", "restore", *words, role=role, database=name)
    if done.code == PARTLY and load is not None:
        load.end()
    return go_on(world, done, *({"--json"} & set(words)), role=role, database=name)


def _undo(world: World, name: str, ledger: Ledger, xid: str, load: Load | None) -> Outcome:
    """Rescue and take it back: as it was before, but for what others have written since."""
    ledger.touched.clear()  # before it is read: what is written meanwhile may be in it, or not
    was = read(world.dsn(name))
    done, went_on = _restored(world, name, xid, "--yes", role="rescue", load=load)
    said = _said(done)
    if done.code != PARTLY:
        done, second = _restored(world, name, "--undo", "--yes", role="rescue", load=load)
        went_on, said = went_on if second is None else second, said + _said(done)
    if load is not None:
        load.end()
    return Outcome(done.code, _changed(was, read(world.dsn(name)), ledger), said, went_on=went_on)


def _changed(was: Found, found: Found, ledger: Ledger) -> dict[str, list[str]]:
    """Return how a database differs from what it was, apart from the keys that clients have written since."""
    for table, key in ledger.touched:
        for rows in (was[table], found[table]):
            if not isinstance(rows, str):
                rows.pop(key, None)
    return differences(was, found)


def _side(world: World, name: str, before: Ledger, xid: str) -> Outcome:
    made, went_on = _restored(world, name, xid, "--side", "--json", role="swap")
    if made.code:
        return Outcome(made.code, {}, _said(made), went_on=went_on)
    side = json.loads(made.out)["side"]
    try:
        dsn = side["dsn"].replace("dbname=postgres", f"dbname={name}")
        return Outcome(0, differences(before, read(dsn), but=UNLOGGED), _said(made), went_on=went_on)
    finally:
        world.drop_sides(name)


def _swap(world: World, name: str, states: tuple[Ledger, Ledger], xid: str, *, back: bool) -> Outcome:
    """Swap, and perhaps back; states: just before the damage, and now."""
    was = read(world.dsn(name))
    words = world.agreeing(xid, "--swap", database=name)
    done, went_on = _restored(world, name, xid, "--swap", "--yes", *words, role="swap")
    said, swapped = _said(done), done.code in SWAPPED
    if swapped and back:
        words = world.agreeing("--undo", database=name)
        done, second = _restored(world, name, "--undo", "--yes", *words, role="swap")
        went_on, said = went_on if second is None else second, said + _said(done)
        wrong = differences(was, read(world.dsn(name)))
    elif done.code in _REFUSALS:
        wrong = differences(was, read(world.dsn(name)))
    else:
        wrong = differences(states[0], read(world.dsn(name)), but=UNLOGGED)
    outcome = Outcome(done.code, wrong, said, went_on=went_on)
    if swapped:
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
        if not fault.reaches:
            until(lambda: len(list_claims(world)) == len(ASKED), what="it is protected until then")
        xid = fault.harm(world, name, ledger)
        claims = None if fault.reaches else list_claims(world)
        load = Load(app, ledger, seed + 2) if busy else None
        with load or contextlib.nullcontext():
            write_some(app, ledger, seed + 1, 20) if load is None else None
            with contextlib.suppress(AssertionError):
                world.archived(PATIENCE_S if fault.reaches else 5.0)
            if claims is not None:
                claims += list_claims(world)
            ended = _once_more(world, fault, name, path, xid)
        try:
            outcome = _compared(world, fault, path, ended, world.dsn(name), (before, ledger))
            return replace(outcome, claims=claims)
        finally:
            world.drop_sides(name)
            world.beside_wrong()
            if not fault.reaches:
                world.heal()


def _once_more(world: World, fault: Fault, name: str, path: str, xid: str) -> tuple[Answer, str | None]:
    """Take the path beside a fault; when it is over, type what exit code 5 names, or else the same once more."""
    words = ("--side", "--json") if path == "side" else ("--yes",)
    role = "swap" if path == "side" else "rescue"
    with fault.during(world, name) as more:
        done = world.backout("db", "restore", xid, *words, **{"role": role, "database": name, **more})
    if done.code == PARTLY and not fault.reaches:
        world.heal()
    done, went_on = go_on(world, done, *({"--json"} & set(words)), role=role, database=name)
    if fault.heals and done.code and went_on is None:
        done = world.backout("db", "restore", xid, *words, role=role, database=name)
    return done, went_on


def _compared(
    world: World, fault: Fault, path: str, ended: tuple[Answer, str | None], dsn: str, ledgers: tuple[Ledger, Ledger]
) -> Outcome:
    """Return how it ended, with every row compared; ledgers: just before the damage, and now."""
    (done, went_on), (before, ledger) = ended, ledgers
    wrong: dict[str, list[str]] = {}
    if path == "rescue" and (done.code not in _REFUSALS or went_on is not None):
        but = UNLOGGED if fault.crashes else frozenset[str]()
        wrong = {**differences(ledger, read(dsn), but=but), **world.beside_wrong()}
    elif path == "side" and not done.code:
        side = json.loads(done.out)["side"]["dsn"].replace("dbname=postgres", dsn.rpartition(" ")[2])
        wanted = before if fault.name not in _WRITES_BEFORE else ledger
        wrong = differences(wanted, read(side), but=UNLOGGED)
    return Outcome(done.code, wrong, _said(done), went_on=went_on)


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
