"""A worker of a team, as a process: it goes on with whatever run is not over, or submits the next one; to be disturbed.

In each of its environments it activates version N if N - 1 is the current one, and settles it, both by a
compare-and-swap of the platform's. The connection string is in TEAM_JOURNAL_URL; when the file `stop` is there it
finishes what is not over and leaves with 0.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swap_platform import ask_platform

from backout.errors import BackoutError, WorldMoved
from backout.journal.postgres_store import PostgresStore
from backout.journal.stored import StoredJournal
from backout.model.plan import Json, Plan, PlanKind, Step
from backout.ports import Action, Done, NotDone, Probe, StepContext
from backout.providers.postgres.server.journal_link import PostgresLink

if TYPE_CHECKING:
    from backout.model.incident.incident import Event

URL = "TEAM_JOURNAL_URL"


@dataclass
class JumpingClock:
    """The real time, and as many seconds beside it as the file says."""

    path: Path

    def now(self) -> float:
        try:
            return time.time() + float(self.path.read_text() or 0)
        except FileNotFoundError:
            return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclass
class Worker:
    """What the steps of a run have in common: the platform, and the lease under which it is asked."""

    name: str
    port: int
    moments: random.Random
    fences: dict[str, int] = field(default_factory=dict)

    def ask(self, args: dict[str, Json], register: str, what: str, run: str) -> dict[str, Any]:
        """Ask about a register, which takes some time before it is looked at and some more afterwards."""
        number = int(str(args["number"]))
        time.sleep(self.moments.uniform(0.0, 0.15))  # who is stopped here sends it when it wakes, under an old fence
        return ask_platform(
            self.port,
            what=what,
            environment=args["environment"],
            register=register,
            expected=number - 1,
            wanted=number,
            run=run,
            worker=self.name,
            fence=self.fences.get(run, 0),
            before_s=self.moments.uniform(0.0, 0.06),
            after_s=self.moments.uniform(0.0, 0.06),
        )

    def hear(self, event: Event) -> None:
        """Note the fence of a lease that was taken."""
        if event.kind == "run.driven":
            self.fences[event.run] = int(str(event.data["fence"]))


@dataclass
class Look(Action[dict[str, Json], Json]):
    """Changes nothing: the current version has to be the one before."""

    worker: Worker
    arguments = dict
    effect = False

    def do(self, args: dict[str, Json], context: StepContext) -> Json:
        found = self.worker.ask(args, "version", "read", context.run)
        context.check()
        if found["value"] != int(str(args["number"])) - 1:
            raise WorldMoved(f"version {found['value']} is the current one")
        return {"found": found["value"]}


@dataclass
class Swap(Action[dict[str, Json], Json]):
    """Changes a register from N - 1 to N; one that this run has changed already is as wanted."""

    worker: Worker
    register: str
    arguments = dict

    def do(self, args: dict[str, Json], context: StepContext) -> Json:
        found = self.worker.ask(args, self.register, "swap", context.run)
        if not found["accepted"] and found["maker"] != context.run:
            raise WorldMoved(f"{self.register} {found['value']} is the current one")
        context.progress({"value": found["value"]})
        return {"accepted": found["accepted"]}

    def probe(self, args: dict[str, Json], context: StepContext) -> Probe[Json]:
        found = self.worker.ask(args, self.register, "read", context.run)
        return Done({"accepted": True}) if found["maker"] == context.run else NotDone()


def make_plan(environment: str, number: int) -> Plan:
    """Return the plan that makes a version the current one."""
    args: dict[str, Json] = {"environment": environment, "number": number}
    steps = (
        Step("look", f"Look for version {number - 1}", args),
        Step("version", f"Activate version {number}", args),
        Step("settled", f"Settle version {number}", args),
    )
    return Plan(PlanKind.ROLLBACK, environment, f"version {number}", steps)


def work(journal: StoredJournal, worker: Worker, environments: list[str], stop: Path) -> None:
    """Go on until nothing is left to do after a stop."""
    actions = {"look": Look(worker), "version": Swap(worker, "version"), "settled": Swap(worker, "settled")}
    drives = 0
    while True:
        is_stopping, is_left = stop.exists(), False
        worker.moments.shuffle(environments)
        for environment in environments:
            try:
                newest = next(iter(journal.runs(environment)), None)
                if newest is not None and not newest.state.is_over:
                    run = newest.id
                elif is_stopping:
                    continue
                else:
                    found = worker.ask({"environment": environment, "number": 0}, "version", "read", "")
                    plan = make_plan(environment, int(found["value"]) + 1)
                    run = journal.submit(plan, actor=worker.name, reason="the next version")
                is_left = True
                drives += 1
                journal.drive(run, actions, actor=f"{worker.name}.{drives}", notify=worker.hear)
            except (BackoutError, OSError) as error:
                is_left = True
                sys.stderr.write(f"{time.monotonic():.3f} {environment} {type(error).__name__}: {error}\n")
                time.sleep(worker.moments.uniform(0.02, 0.2))
        if is_stopping and not is_left:
            return


def main() -> None:
    """Work, see the module's docstring."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("environments", nargs="+")
    parser.add_argument("--host", required=True)
    parser.add_argument("--life", type=int, required=True)
    parser.add_argument("--platform", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--ttl", type=float, required=True)
    parser.add_argument("--server-jumps", action="store_true")
    options = parser.parse_args()
    url = os.environ[URL]
    link = PostgresLink(lambda: url, patience_s=1.5, connect_timeout_s=2.0)
    server = JumpingClock(options.folder / "server.clock")
    now = server.now if options.server_jumps else None
    store = PostgresStore(link, now=now, patience_s=1.0, settles_s=2.0)
    clock, locks = JumpingClock(options.folder / f"{options.host}.clock"), options.folder / f"{options.host}.locks"
    journal = StoredJournal(store, clock, locks=locks, lease_ttl_s=options.ttl, host=options.host)
    moments = random.Random(f"{options.seed} {options.host} {options.life}")  # noqa: S311 moments, no secret
    worker = Worker(f"{options.host}.{options.life}", options.platform, moments)
    (options.folder / f"{worker.name}.begun").touch()
    work(journal, worker, options.environments, options.folder / "stop")
    journal.close()


if __name__ == "__main__":
    main()
