"""A toy world for the journal: a folder whose `effects` file gets one line per effect; also a script, to be killed.

As a script: `toy.py DIRECTORY PLAN [--die N] [--host H] [--ttl S]` submits the plan of that name and drives it; prints
one JSON line (`exit`, `error`, `points`), and leaves with the error's exit code.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import signal
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from backout.errors import BackoutError, Busy
from backout.journal.lease import name_this_machine
from backout.journal.move import move, read_identity
from backout.journal.postgres_store import PostgresStore
from backout.journal.sqlite import SqliteJournal
from backout.journal.sqlite_store import SqliteStore
from backout.journal.stop import StopRequest
from backout.journal.stored import StoredJournal
from backout.model.plan import Json, Plan, PlanKind, Step
from backout.model.version import Mark, VersionId, VersionMark
from backout.ports import Action, AnyAction, Done, Next, NotDone, Probe, StepContext, Unknown
from backout.providers.postgres.server.journal_link import PostgresLink

if TYPE_CHECKING:
    from collections.abc import Callable


class WallClock:
    """The real time."""

    def now(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclass
class FakeClock:
    """A time that stands still until it is moved."""

    at: float = 1_700_000_000.0

    def now(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds


@dataclass
class World:
    """What the effects are made in; `point` is called before and after each."""

    directory: Path
    point: Callable[[str], None] = lambda _name: None

    @property
    def effects(self) -> list[str]:
        path = self.directory / "effects"
        return path.read_text().split() if path.exists() else []

    def happen(self, key: str) -> None:
        self.point("before effect")
        fd = os.open(self.directory / "effects", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(fd, f"{key}\n".encode())
        os.close(fd)
        self.point("after effect")


def key_of(context: StepContext) -> str:
    """Return what tells a step from all others: "RUN:INDEX"."""
    return f"{context.run}:{context._step}"  # type: ignore[attr-defined]


@dataclass
class Probed(Action[dict[str, Json], Json]):
    """An effect that the world can be asked about."""

    world: World
    arguments = dict

    def do(self, args: dict[str, Json], context: StepContext) -> Json:
        self.world.happen(key_of(context))
        return {"did": key_of(context)}

    def probe(self, args: dict[str, Json], context: StepContext) -> Probe[Json]:
        key = key_of(context)
        return Done({"did": key}) if key in self.world.effects else NotDone()


@dataclass
class Blind(Probed):
    """An irreversible effect that the world does not tell about."""

    irreversible = True

    def probe(self, args: dict[str, Json], context: StepContext) -> Probe[Json]:
        return Unknown("the world keeps no record of it")


class Look(Action[dict[str, Json], Json]):
    """A watch: no effect, progress, and boundaries of its own."""

    arguments = dict
    effect = False

    def do(self, args: dict[str, Json], context: StepContext) -> Json:
        seen = context.last_progress() or {"seen": 0}
        first = int(str(seen["seen"]))
        for number in range(first, 3):
            context.check()
            context.progress({"seen": number + 1})
        return {"from": first}


class HandOver(Look):
    """Ends its run and goes on with the plan `after`."""

    def do(self, args: dict[str, Json], context: StepContext) -> Next[Json]:
        return Next({"handed": True}, plan_named("after"), "the watch says so")


@dataclass
class Wait(Probed):
    """Says that it is inside, and waits until the file `go` is there."""

    def do(self, args: dict[str, Json], context: StepContext) -> Json:
        (self.world.directory / "inside").touch()
        deadline = time.monotonic() + 60
        while not (self.world.directory / "go").exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        return super().do(args, context)


@dataclass
class Zombie(Wait):
    """Waits, then tries everything that writes, and tells how each try ended."""

    journal: StoredJournal | None = None

    def do(self, args: dict[str, Json], context: StepContext) -> Json:
        super().do(args, context)
        assert self.journal is not None
        journal = self.journal
        mark = VersionMark(Mark.STABLE, VersionId("v"), None, 1.0, context.run, "it looked well")
        tries: dict[str, Callable[[], None]] = {
            "progress": lambda: context.progress({"late": True}),
            "check": context.check,
            "mark": lambda: journal.mark("staging", mark, actor="zombie"),
            "checkpoint": lambda: journal.save_checkpoint(context.run, "detector", {"late": True}),
        }
        told: dict[str, str] = {}
        for name, attempt in tries.items():
            try:
                attempt()
                told[name] = "written"
            except Busy:
                told[name] = "Busy"
        (self.world.directory / "told").write_text(json.dumps(told))
        return told


PLANS = {
    "probed": ("probed", "look", "probed"),
    "handing": ("probed", "look", "hand"),
    "after": ("probed", "probed"),
    "blind": ("probed", "blind", "probed"),
    "waiting": ("probed", "wait", "probed"),
    "zombie": ("probed", "zombie", "probed"),
}


def plan_named(name: str, environment: str = "staging") -> Plan:
    """Return a plan of the toy world."""
    steps = tuple(Step(action, f"Do {action} as number {i}", {"number": i}) for i, action in enumerate(PLANS[name]))
    return Plan(PlanKind.ROLLBACK, environment, f"the {name} plan", steps, notes=("a toy",), not_covered=("the rest",))


def actions_in(world: World, journal: StoredJournal | None = None) -> dict[str, AnyAction]:
    """Return the actions of the toy world."""
    return {
        "probed": Probed(world),
        "blind": Blind(world),
        "look": Look(),
        "hand": HandOver(),
        "wait": Wait(world),
        "zombie": Zombie(world, journal=journal),
    }


SERVER = "TOY_JOURNAL_SERVER"
"""The variable with the connection string of a superuser's, where journals are kept on a server."""
PASSWORD = "canary-of-the-journal"


def journal_in(directory: Path, *, clock: Any = None, **more: Any) -> StoredJournal:
    """Return the journal of a toy world, on the real clock if no other is given: of a server that is the server's."""
    if SERVER not in os.environ:
        return SqliteJournal(directory / "journal" / "journal.db", clock or WallClock(), **more)
    patience_s = more.pop("busy_timeout_s", 15.0)
    of_store = {name: more.pop(name) for name in ("crash_point", "mask", "settles_s", "patience_s") if name in more}
    link = PostgresLink(lambda: url_of(directory), patience_s=patience_s)
    store = PostgresStore(link, now=None if clock is None else clock.now, **of_store)
    more["host"] = more.get("host") or name_this_machine()
    return StoredJournal(store, clock or WallClock(), locks=directory / "journal", **more)


def was_moved(path: Path) -> bool:
    """Whether a file's journal is on the server."""
    with contextlib.closing(SqliteStore(path, time.time, even_moved=True)) as store:
        return store.is_closed()


def move_to_server(path: Path) -> None:
    """Move a file's journal to the database of the folder that has the file's name."""
    source = SqliteStore(path, time.time, even_moved=True)
    target = PostgresStore(PostgresLink(lambda: url_of(path.with_suffix(""))), mover=read_identity(source))
    with contextlib.closing(source), contextlib.closing(target):
        move(source, target)


_MADE: deque[str] = deque()
_AT_ONCE = 30
"""So many databases are kept: those of a sweep, one for each moment, would fill the memory that they lie in."""


@cache
def url_of(directory: Path) -> str:
    """Return the connection string of a toy world's database, which is made where it is not there."""
    name = f"toy_{hashlib.sha256(str(directory).encode()).hexdigest()[:20]}"
    server = os.environ[SERVER]
    made = (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation)  # also by another process just now
    with psycopg.connect(server, autocommit=True) as connection, contextlib.suppress(*made):
        connection.execute(f"CREATE DATABASE {name}".encode())
        _MADE.append(name)
        if len(_MADE) > _AT_ONCE:  # it may have been made on another server of this process
            connection.execute(f"DROP DATABASE IF EXISTS {_MADE.popleft()} WITH (FORCE)".encode())
    return f"{server.rpartition('/')[0]}/{name}"


@dataclass
class Killer:
    """Kills its own process, as kill -9 does, at the nth point it comes by."""

    die_at: int
    points: list[str] = field(default_factory=list)

    def __call__(self, name: str) -> None:
        self.points.append(name)
        if len(self.points) == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> int:
    """Submit and drive, see the module's docstring."""
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("plan")
    parser.add_argument("--die", type=int, default=0)
    parser.add_argument("--host")
    parser.add_argument("--ttl", type=float, default=30.0)
    options = parser.parse_args()
    killer = Killer(options.die)
    stop = StopRequest((options.directory / "stopping").touch)
    stop.install()
    world = World(options.directory, killer)
    journal = journal_in(options.directory, lease_ttl_s=options.ttl, stop=stop, crash_point=killer, host=options.host)
    (options.directory / "begun").touch()
    code, error = 0, ""
    try:
        run = journal.submit(plan_named(options.plan), actor="toy", reason="a test")
        journal.drive(run, actions_in(world, journal), actor="toy")
    except BackoutError as failure:
        code, error = failure.exit_code, f"{type(failure).__name__}: {failure} [{failure.hint}]"
    except KeyboardInterrupt:
        code, error = 130, "KeyboardInterrupt"
    sys.stdout.write(json.dumps({"exit": code, "error": error, "points": killer.points}) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
