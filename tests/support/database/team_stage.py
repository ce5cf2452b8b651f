"""Two workers on different hosts and one Postgres, disturbed as a seed says."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
from cut_proxy import cut_proxy
from journal import team_worker
from journal.team_history import History
from swap_platform import SwapPlatform, swap_platform

from backout.journal.postgres_store import PostgresStore
from backout.journal.stored import StoredJournal
from backout.providers.clock import SystemClock
from backout.providers.postgres.server.journal_link import PostgresLink

from polling import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cut_proxy import CutProxy

ENVIRONMENTS = ("alpha", "beta")
HOSTS = ("north", "south")
DISTURBED_S = 3.5
KINDS = (
    "pause",
    "pause",
    "kill",
    "kill",
    "black hole",
    "black hole",
    "dropped",
    "no platform",
    "clock",
    "server clock",
)


@dataclass(frozen=True)
class Trouble:
    """One disturbance of a worker.

    Args:
        at_s: after both have begun to work.
        lasts_s: until it is over; of a kill, until another process takes its place.
        by_s: how far a clock jumps.
    """

    kind: str
    host: int
    at_s: float
    lasts_s: float
    by_s: float = 0.0


@dataclass(frozen=True)
class Schedule:
    """What happens in one trial, and nothing else decides about it but how the processes are scheduled."""

    seed: int
    lease_s: float
    troubles: tuple[Trouble, ...]


def draw_schedule(seed: int) -> Schedule:
    """Return the schedule of a seed; a second trouble of a worker may begin in the middle of the first."""
    chance = random.Random(f"team {seed}")  # noqa: S311 a seed, no secret
    lease_s = chance.choice((1.0, 1.5, 2.0))
    troubles = []
    for _ in range(chance.randint(2, 5)):
        kind = chance.choice(KINDS)
        by_s = 0.0
        if kind == "clock":
            by_s = chance.choice((-1, 1)) * chance.uniform(10.0, 100_000.0)
        elif kind == "server clock":
            by_s = chance.choice((-1, 1)) * chance.uniform(0.5, 4.0)
        lasts_s = chance.uniform(0.1, 1.9 * lease_s)  # around the end of the lease: that is where it is decided
        if kind == "pause":  # the other one has to get to the same step meanwhile
            lasts_s = chance.uniform(0.5 * lease_s, lease_s + 2.0)
        troubles.append(Trouble(kind, chance.randrange(2), chance.uniform(0.0, DISTURBED_S), lasts_s, by_s))
    return Schedule(seed, lease_s, tuple(sorted(troubles, key=lambda trouble: trouble.at_s)))


@dataclass
class Member:
    """One host: its way to the journal, its way to the platform, and the process that works there now."""

    name: str
    folder: Path
    schedule: Schedule
    url: str
    journal_way: CutProxy
    platform_way: CutProxy
    lives: int = 0
    process: subprocess.Popen[bytes] | None = None
    is_paused: bool = False

    @property
    def worker(self) -> str:
        """The name of the process."""
        return f"{self.name}.{self.lives}"

    def start(self) -> None:
        """Start a process, unless one is there."""
        if self.process is not None:
            return
        self.lives += 1
        words = {"--host": self.name, "--life": self.lives, "--platform": self.platform_way.port}
        words |= {"--seed": self.schedule.seed, "--ttl": self.schedule.lease_s}
        argv = [sys.executable, team_worker.__file__, str(self.folder), *ENVIRONMENTS]
        argv += [str(word) for pair in words.items() for word in pair]
        if any(trouble.kind == "server clock" for trouble in self.schedule.troubles):
            argv.append("--server-jumps")
        environment = {**os.environ, team_worker.URL: self.url, "PYTHONPATH": os.pathsep.join(sys.path)}
        with (self.folder / f"{self.worker}.log").open("wb") as log:
            self.process = subprocess.Popen(argv, env=environment, stdout=log, stderr=log)

    def has_begun(self) -> bool:
        """Whether its process works; fails when that has ended by itself."""
        assert self.process is not None
        assert self.process.poll() is None, self.read_log()
        return (self.folder / f"{self.worker}.begun").exists()

    def kill(self) -> None:
        """End the process as kill -9 does, also one that is stopped."""
        if self.process is not None:
            assert self.process.poll() is None, self.read_log()
            self.process.kill()
            self.process.wait()
            self.process, self.is_paused = None, False

    def pause(self) -> None:
        """Stop the process where it is."""
        if self.process is not None:
            self.process.send_signal(signal.SIGSTOP)
            self.is_paused = True

    def go_on(self) -> None:
        """Have a stopped process go on."""
        if self.process is not None and self.is_paused:
            self.process.send_signal(signal.SIGCONT)
        self.is_paused = False

    def set_clock(self, by_s: float, name: str = "") -> None:
        """Have a clock go wrong by so much: that of this machine, or the one of that name."""
        path = self.folder / f"{name or self.name}.clock"
        fresh = path.with_suffix(".new")
        fresh.write_text(str(by_s))
        fresh.replace(path)

    def read_log(self) -> str:
        """Return what its processes have said."""
        return "".join(path.read_text() for path in sorted(self.folder.glob(f"{self.name}.*.log")))


@dataclass
class Team:
    """The two of them."""

    members: tuple[Member, Member]
    schedule: Schedule

    def disturb(self) -> None:
        """Let the troubles of the schedule begin and end, each at its time."""
        began = time.monotonic()
        begins = [(trouble.at_s, place, True) for place, trouble in enumerate(self.schedule.troubles)]
        ends = [(t.at_s + t.lasts_s, place, False) for place, t in enumerate(self.schedule.troubles)]
        for at_s, place, is_begin in sorted(begins + ends):
            time.sleep(max(0.0, began + at_s - time.monotonic()))
            trouble = self.schedule.troubles[place]
            member = self.members[trouble.host]
            if is_begin:
                self._begin(trouble, member)
            else:
                self._end(trouble, member)

    @staticmethod
    def _begin(trouble: Trouble, member: Member) -> None:
        match trouble.kind:
            case "pause":
                member.pause()
            case "kill":
                member.kill()
            case "black hole":
                member.journal_way.cut()
            case "dropped":
                member.journal_way.drop()
            case "no platform":
                member.platform_way.cut()
            case "clock":
                member.set_clock(trouble.by_s)
            case "server clock":
                member.set_clock(trouble.by_s, "server")

    @staticmethod
    def _end(trouble: Trouble, member: Member) -> None:
        match trouble.kind:
            case "pause":
                member.go_on()
            case "kill":
                member.start()
            case "black hole" | "dropped":
                member.journal_way.heal()
            case "no platform":
                member.platform_way.heal()
            case "clock":
                member.set_clock(0.0)
            case "server clock":
                member.set_clock(0.0, "server")

    def settle(self, platform: SwapPlatform) -> dict[tuple[str, str], int]:
        """Wait until every environment went on and both processes ended by themselves.

        Returns:
            The platform's values when the last trouble was over.
        """
        healed = platform.read_registers()
        for environment in ENVIRONMENTS:
            key = (environment, "settled")
            until(
                lambda key=key: platform.read_registers().get(key, 0) > healed.get(key, 0),  # type: ignore[misc]
                what=f"{environment} goes on",
            )
        (self.members[0].folder / "stop").touch()
        for member in self.members:
            assert member.process is not None
            assert member.process.wait(timeout=PATIENCE_S) == 0, member.read_log()
        return healed


@contextlib.contextmanager
def own_database(server: str, name: str) -> Iterator[str]:
    """Make a database on the server and lend its connection string."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
        connection.execute(f"CREATE DATABASE {name}".encode())
        try:
            yield f"{server.rpartition('/')[0]}/{name}?sslmode=disable"
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def play(schedule: Schedule, folder: Path, server: str) -> History:
    """Play a schedule in an empty folder, and return what it left behind.

    Args:
        server: the connection string of a superuser's.
    """
    port = int(server.rpartition(":")[2].partition("/")[0])
    name = f"team_{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(own_database(server, name))
        platform = stack.enter_context(swap_platform())
        members = []
        for host in HOSTS:
            journal_way = stack.enter_context(cut_proxy(port))
            platform_way = stack.enter_context(cut_proxy(platform.port))
            through = url.replace(f":{port}/", f":{journal_way.port}/")
            members.append(Member(host, folder, schedule, through, journal_way, platform_way))
            stack.callback(members[-1].kill)
        team = Team((members[0], members[1]), schedule)
        for member in members:
            member.start()
        for member in members:
            until(member.has_begun, what=f"{member.worker} begins")
        team.disturb()
        healed = team.settle(platform)
        for member in members:
            member.process = None
        return _read_history(url, folder, platform, healed)


def _read_history(url: str, folder: Path, platform: SwapPlatform, healed: dict[tuple[str, str], int]) -> History:
    store = PostgresStore(PostgresLink(lambda: url))
    journal = StoredJournal(store, SystemClock(), locks=folder)
    with contextlib.closing(journal):
        chain = journal.verify_chain()
        return History(
            ENVIRONMENTS,
            tuple(platform.changes),
            tuple(journal.events()),
            platform.read_registers(),
            healed,
            broken_at=None if chain.is_whole else chain.broken_at or 0,
        )
