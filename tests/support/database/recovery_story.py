"""A night on the memory World in which all four parts are damaged at once, and the recovery from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bucket_lab import MemoryLook
from paper_cluster import PaperServer
from pushing import SERVICES

from backout.model.guard.signals import HealthReport, Reach, ServiceState
from backout.model.incident.incident import RunState
from backout.model.platform import CacheState, QueueState
from backout.model.steps.recovery import RecoverReportStep
from backout.plan.whole import add_agreed, list_to_agree
from backout.providers.files.object_notes import FileChangeNotes
from backout.providers.memory import World, make_steady
from backout.providers.memory.objects import MemoryBucket
from backout.providers.memory.rules import make_health
from backout.runbook.objects.tools import ObjectTools
from backout.runbook.recover.actions import RecoverActions
from backout.runbook.recover.prepare import RecoverAsk, prepare
from backout.runbook.recover.tools import RecoverTools
from backout.runbook.recover.undo import end_run, find_undoable, give_back, prepare_undo
from backout.runbook.recovery.points import mark_recovery_point

from line import POLICY, begin_on_server, equip, toolbox

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from backout.model.guard.policy import Policy
    from backout.model.incident.incident import Run
    from backout.model.version import Version
    from backout.ports import Fence
    from backout.providers.memory.objects import Content

SECRETS = {"JWT_SECRET": "kept in a vault", "EMAIL_API_KEY": "also"}
ASK = RecoverAsk(to="night")


@dataclass
class NightCommits:
    """Port CommitCheck on the World: it writes nothing, and may fail."""

    world: World

    def commit_once(self) -> str:
        self.world.call("commits.commit_once", lambda: None)
        return "app"


@dataclass
class Night:
    """Everything good until the point `night`, and damaged since; the application writes whenever it is let in."""

    folder: Path
    world: World = field(default_factory=World)
    good: Version = field(init=False)
    bad: Version = field(init=False)
    then: dict[str, Content] = field(init=False)
    before: list[str] = field(init=False)
    policy: Policy = POLICY
    pause_s: float = 60.0
    is_fenced: bool = False
    approvals: Mapping[str, Any] | None = None
    """What its journal is told of approvals, see `toolbox`."""
    look: MemoryLook = field(default_factory=MemoryLook)
    through: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        begin_on_server(self.folder / "journal.sqlite")
        world = self.world
        world.traffic_rule = make_steady(30)
        world.health_rule = self._health
        world.secret_source.kept = dict(SECRETS)
        world.queues = {"orders": QueueState("orders", delivers=True, backlog=3)}
        world.caches = {"h1": CacheState("h1", "hyperdrive", is_on=True, max_age_s=60.0)}
        world.start_by(schedules=("*/5 * * * *",))
        self.server = self._open_server()
        self.bucket = MemoryBucket(world.clock.now, world.call)
        self.good = world.upload("good", secrets=SECRETS)
        world.deploy(self.good)
        self._go_on("good")
        self._mark("night")
        self.before = self.server.rows()
        self.then = self.bucket.live()
        world.clock.sleep(self.pause_s)
        self.bad = world.upload("bad", secrets={"EMAIL_API_KEY": "also"})
        world.deploy(self.bad)
        self._go_on("bad", keys=3)
        self._damage()
        for number in range(3, 6):
            self.bucket.delete(f"k{number}")
        world.clock.sleep(self.pause_s)
        world.calls.clear()

    def _open_server(self) -> Any:
        return PaperServer(self.world, self.folder)

    def _mark(self, name: str) -> None:
        tools = self.tools()
        assert tools.restoring is not None
        mark_recovery_point(tools.tools, name, tools.restoring.live)

    def _damage(self) -> None:
        """Damage the database; the paper has nothing but the writes of the bad version."""

    def _go_on(self, body: str, keys: int = 9) -> None:
        for number in range(keys):
            self.server.write()
            self.bucket.put(f"k{number}", f"{body} {number}".encode())
        self.world.clock.sleep(self.pause_s)

    def _health(self, at: float, version: str) -> HealthReport:
        build = self.world.builds[version].version
        if build.is_maintenance:
            return HealthReport(at, Reach.ANSWERED, status=503, findings=("maintenance",))
        well = "JWT_SECRET" in build.secret_names
        state = ServiceState.OK if well else ServiceState.DOWN
        return make_health(at, {**dict.fromkeys(SERVICES, ServiceState.OK), "database": state}, version=version)

    def tools(self, crash_point: Callable[[str], None] | None = None) -> RecoverTools:
        """Return fresh tools: a new process, as far as the journal can tell."""
        world, path, told = self.world, self.folder / "journal.sqlite", self.approvals
        box = equip(
            toolbox(world, path, policy=self.policy, crash_point=crash_point, approvals=told),
            queues=world.platform_queues,
            read_caches=world.read_caches,
            maintenance=world.maintenance,
            restoring=lambda: self.server.tools(box.journal),
        )
        objects = ObjectTools(
            environment="production",
            actor="ops@host",
            bucket="models",
            prefix="",
            clock=world.clock,
            journal=box.journal,
            runs=box.runs,
            look=self.look,
            versions=lambda _prefix, _moment: self.bucket,
            notes=FileChangeNotes(self.folder / "notes"),
        )
        return RecoverTools(box, self.server.tools(box.journal), self._open_fence(), objects)

    def _open_fence(self) -> Fence:
        return self.world.fence

    def actions(self, tools: RecoverTools) -> Any:
        """Return the actions of a recovery."""
        return RecoverActions(tools)

    def watch_application(self, crash: Callable[[str], None] = lambda _name: None) -> None:
        """Let the application write at every call of a port from now on, and a test look at each."""
        self.world.before_call = lambda name: self._pass(f"before {name}", crash)
        self.world.after_call = lambda name: self._pass(f"after {name}", crash)

    def _pass(self, name: str, crash: Callable[[str], None]) -> None:
        """Let the application try to write, and note what comes through a fence that stands."""
        if name == "before fence.open":
            self.is_fenced = False
        if self.server.write() and self.is_fenced:
            self.through.append(name)
        if name == "after fence.raise_fence":
            self.is_fenced = True
        crash(name)

    def stop_watching(self) -> None:
        """Let nothing happen at the calls any more."""
        self.world.before_call = self.world.after_call = None


def recover(tools: RecoverTools, ask: RecoverAsk = ASK) -> Run:
    """Recover, or go on with it, as the command does."""
    box = tools.tools
    unfinished = next((run for run in box.runs.runs("production")[:1] if not run.state.is_over), None)
    actions: Any = RecoverActions(tools)
    if unfinished is not None:
        return box.journal.drive(unfinished.id, actions, actor="ops@host")
    run = box.journal.submit(prepare(tools, ask), actor="ops@host", reason="a bad night")
    return box.journal.drive(run, actions, actor="ops@host")


def check_recovered(night: Night) -> None:
    """Everything is as it was at the point, once; nothing that was acknowledged is lost, and nothing came through."""
    world, server = night.world, night.server
    box = night.tools().tools
    run = next(iter(box.runs.runs("production")))
    assert run.state is RunState.DONE, run.state
    live = world.builds[world.live.main]
    assert (live.version.code_hash, live.secrets) == (night.good.code_hash, SECRETS)
    assert night.bucket.live() == night.then
    rows, kept = server.rows(), server.rows_of(find_kept(night))
    assert rows[: len(night.before)] == night.before
    assert set(server.ledger) == {*rows, *kept}
    assert night.through == [], "written through the fence"
    assert server.write(), "the application writes again"
    assert world.fence.live.mark is None
    check_started(night)
    assert len(server.moved) == 1
    assert sum(build.version.code_hash == night.good.code_hash for build in world.builds.values()) == 2, "one upload"
    assert sum(build.version.is_maintenance for build in world.builds.values()) == 1
    assert len(world.reports.texts) == 1


def check_started(night: Night) -> None:
    """What starts the application, or answers for its database, is as it was."""
    world = night.world
    assert world.queues["orders"].delivers
    assert world.started_by.schedules == ("*/5 * * * *",)
    assert world.caches["h1"] == CacheState("h1", "hyperdrive", is_on=True, max_age_s=60.0)


def find_kept(night: Night) -> str:
    """Return the data directory that an exchange kept."""
    (kept,) = [each for each in night.folder.iterdir() if ".backout-old-" in each.name]
    return str(kept)


def take_back(tools: RecoverTools) -> Run | None:
    """Take the newest recovery back, or go on with that; None where nothing had been overwritten."""
    box = tools.tools
    actions: Any = RecoverActions(tools)
    newest = next(iter(box.runs.runs("production")))
    undoes = newest.plan.arguments(RecoverReportStep).undoes
    if undoes and not newest.state.is_over:
        return box.journal.drive(newest.id, actions, actor="ops@host")
    found = find_undoable(tools)
    if give_back(tools, found):
        return None
    plan = prepare_undo(tools, found)
    plan = add_agreed(plan, [thing.word for thing in list_to_agree(plan)])
    end_run(tools, found)
    run = box.journal.submit(plan, actor="ops@host", reason="it was wrong")
    return box.journal.drive(run, actions, actor="ops@host")


def check_taken_back(night: Night) -> None:
    """Everything is as before the recovery; nothing that was acknowledged until its fence is lost."""
    world, server = night.world, night.server
    assert world.live.sole == night.bad.id
    assert {key: content.body for key, content in night.bucket.live().items()} == {
        **{f"k{number}": f"bad {number}".encode() for number in range(3)},
        **{f"k{number}": f"good {number}".encode() for number in range(6, 9)},
    }
    assert night.through == [], "written through the fence"
    assert world.fence.live.mark is None
    rows = server.rows()
    assert rows[: len(night.before)] == night.before
    assert len(rows) > len(night.before)
    assert server.write(), "the application writes again"
    check_started(night)


def check_closed(night: Night) -> None:
    """Nobody is let in, whatever failed: the page is live, and the fence stands in every cluster that could answer."""
    assert night.world.builds[night.world.live.main].version.is_maintenance
    assert not night.server.write()
