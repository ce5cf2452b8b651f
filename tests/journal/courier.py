"""A process that goes on with whatever run is not over, or begins the next one: to be killed, and replaced by another.

`courier.py DIRECTORY --last N [--host H] [--ttl S]` delivers number after number; each of its steps writes a line into
the file `effects`, which refuses nothing: what is done twice stands there twice. With `--last` it leaves when that
number is delivered.
"""

from __future__ import annotations

import argparse
import os
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from journal import toy

from backout.errors import Busy, DecisionNeeded
from backout.journal.postgres_store import PostgresStore
from backout.journal.sqlite import SqliteJournal
from backout.journal.stored import StoredJournal
from backout.model.plan import Json, Plan, PlanKind, Step
from backout.ports import Action, Done, Next, NotDone, Probe, StepContext, Unknown
from backout.providers.postgres.server.journal_link import PostgresLink

if TYPE_CHECKING:
    from backout.model.incident.incident import Event, Run

ENVIRONMENT = "staging"
KINDS: dict[str, tuple[str, ...]] = {
    "plain": ("deliver", "look", "deliver", "deliver"),
    "handing": ("deliver", "look", "hand"),
    "blind": ("deliver", "blind", "deliver"),
    "after": ("deliver", "deliver"),
}
_NEWEST = "SELECT run FROM event WHERE kind = 'run.submitted' ORDER BY seq DESC LIMIT 1"
ORDER = ("plain", "handing", "blind")


def make_plan(number: int, kind: str) -> Plan:
    """Return a plan of that kind; what it delivers is told from all else by the number, the kind and the step."""
    steps = tuple(
        Step(action, f"Do {action} for number {number}", {"key": f"{number}:{kind}:{place}", "number": number})
        for place, action in enumerate(KINDS[kind])
    )
    return Plan(PlanKind.ROLLBACK, ENVIRONMENT, f"number {number}, {kind}", steps)


def list_effects(last: int) -> list[str]:
    """Return the effects of the numbers up to this one, each of which there has to be once, in this order."""
    found = []
    for number in range(1, last + 1):
        kind = ORDER[number % len(ORDER)]
        for each in (kind, "after") if kind == "handing" else (kind,):
            steps = enumerate(KINDS[each])
            found += [f"{number}:{each}:{place}" for place, action in steps if action in ("deliver", "blind")]
    return found


@dataclass
class Deliver(Action[dict[str, Json], Json]):
    """An effect that the world can be asked about, and that takes a moment on both sides of it."""

    world: toy.World
    arguments = dict

    def do(self, args: dict[str, Json], context: StepContext) -> Json:
        time.sleep(0.003)
        self.world.happen(str(args["key"]))
        time.sleep(0.003)
        return {"did": args["key"]}

    def probe(self, args: dict[str, Json], context: StepContext) -> Probe[Json]:
        return Done({"did": args["key"]}) if args["key"] in self.world.effects else NotDone()


@dataclass
class Blind(Deliver):
    """An irreversible effect that the world does not tell about."""

    irreversible = True

    def probe(self, args: dict[str, Json], context: StepContext) -> Probe[Json]:
        return Unknown("the world keeps no record of it")


class Hand(toy.Look):
    """Goes on with another run of the same number."""

    def do(self, args: dict[str, Json], context: StepContext) -> Next[Json]:
        return Next(None, make_plan(int(str(args["number"])), "after"), "it goes on")


def open_journal(directory: Path, host: str | None, ttl_s: float) -> StoredJournal:
    """Return the journal in the folder, or in the folder's database where journals are kept on a server."""
    if toy.SERVER not in os.environ:
        return SqliteJournal(directory / "journal" / "journal.db", toy.WallClock(), lease_ttl_s=ttl_s, host=host)
    store = PostgresStore(PostgresLink(lambda: toy.url_of(directory)))
    locks = directory / f"{host}.locks"
    return StoredJournal(store, toy.WallClock(), locks=locks, lease_ttl_s=ttl_s, host=host)


def read_number(run: Run) -> int:
    """Return which number a run delivers."""
    return int(str(run.plan.steps[0].args["number"]))


def find_newest(journal: StoredJournal) -> Run | None:
    """Return the run that was submitted last, at one price however many there are."""
    rows = journal._store.rows(_NEWEST)
    return journal.find(str(rows[0][0])) if rows else None


def find_work(journal: StoredJournal, last: int) -> str | None:
    """Return the run to go on with, or a new one; None when the last number is delivered."""
    newest = find_newest(journal)
    if newest is not None and not newest.state.is_over:
        return newest.id
    number = 1 if newest is None else read_number(newest) + 1
    if number > last:
        return None
    return journal.submit(make_plan(number, ORDER[number % len(ORDER)]), actor="courier", reason="the next number")


def decide(journal: StoredJournal, world: toy.World, run: str) -> None:
    """Answer as a person who looks: it was delivered, or it was not."""
    found = journal.find(run)
    assert found is not None
    key = found.plan.steps[1].args["key"]
    journal.ask(run, "decide:done" if key in world.effects else "decide:retry", actor="ann", reason="I looked")


def main() -> None:
    """Deliver, see the module's docstring."""
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--last", type=int, required=True)
    parser.add_argument("--host")
    parser.add_argument("--ttl", type=float, default=1.0)
    parser.add_argument("--begun", type=Path, required=True)
    options = parser.parse_args()
    world = toy.World(options.directory)
    deliver = Deliver(world)
    actions = {"deliver": deliver, "blind": Blind(world), "look": toy.Look(), "hand": Hand()}

    def hear(event: Event) -> None:
        if event.kind == "run.driven":
            options.begun.touch()

    with closing(open_journal(options.directory, options.host, options.ttl)) as journal:
        while (run := find_work(journal, options.last)) is not None:
            try:
                journal.drive(run, actions, actor=f"courier {os.getpid()}", notify=hear)
            except Busy:  # of a process that was killed, until its lease runs out
                time.sleep(0.05)
            except DecisionNeeded:
                decide(journal, world, run)


if __name__ == "__main__":
    main()
