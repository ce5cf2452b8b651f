"""The whole line on the memory World with a real journal file: what the procedures' tests drive."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from journal import toy
from values import replace

from backout.journal.sqlite import SqliteJournal
from backout.model.guard.policy import Criteria, GuardPolicy, Mode, Policy
from backout.model.guard.signals import Criticality, ServiceState
from backout.model.incident.events import Invocation, Origin, Said
from backout.model.plan import Plan
from backout.model.secrets import ExpectedSecrets
from backout.plan.rollback import Request
from backout.providers.memory import World, make_steady
from backout.runbook.guard import guard
from backout.runbook.procedures import Actions
from backout.runbook.rollback.rollback import prepare
from backout.runbook.secrets.tools import PushTools
from backout.runbook.toolbox import GuardTools, IncidentTools, Late, Parts, PlatformTools, RollbackTools, Toolbox

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from backout.journal.stored import StoredJournal
    from backout.model.guard.signals import Counts
    from backout.model.incident.incident import Run
    from backout.model.version import Version

SERVICES = {"database": Criticality.CRITICAL, "storage": Criticality.CRITICAL, "email": Criticality.DEGRADABLE}
POLICY = Policy(
    criteria=Criteria(error_rate_for_s=20, watch_s=60, old_version_quiet_s=5),
    guard=GuardPolicy(mode=Mode.ACT, baseline_s=600, probe_every_s=2),
    services=SERVICES,
)


def toolbox(
    world: World,
    path: Path,
    *,
    policy: Policy = POLICY,
    crash_point: Callable[[str], None] | None = None,
    approvals: Mapping[str, Any] | None = None,
) -> Toolbox:
    """Return the tools of "production" in this World; a new call is a new process as far as the journal can tell.

    Args:
        approvals: what the journal is told of approvals: `approvals`, `person`.
    """
    journal = open_journal(world, path, crash_point, approvals or {})
    return Toolbox(
        environment="production",
        policy=policy,
        actor="ops@host",
        clock=world.clock,
        deployments=world.deployments,
        versions=world.versions,
        secrets=world.secrets,
        pushing=lambda: push_tools(world),
        journal=journal,
        runs=journal,
        marks=journal,
        counts=journal,
        checkpoints=journal,
        parts=Parts(
            incident=Late(lambda: IncidentTools(reports=world.reports, logs=world.logs)),
            guard=Late(lambda: GuardTools(in_background=False)),
            rollback=Late(lambda: _rollback_tools(world)),
            platform=Late(lambda: PlatformTools(world.platform_queues, world.read_caches, world.maintenance)),
        ),
        traffic=world.traffic,
        health=world.health,
        notifier=world.notifier,
    )


def open_journal(
    world: World, path: Path, crash_point: Callable[[str], None] | None, approvals: Mapping[str, Any]
) -> StoredJournal:
    """Return the journal in that file, or in the database of its own that it was moved to or began in."""
    if toy.SERVER in os.environ and (_mark_of(path).exists() or toy.was_moved(path)):
        return toy.journal_in(path.with_suffix(""), clock=world.clock, crash_point=crash_point, **approvals)
    return SqliteJournal(path, world.clock, crash_point=crash_point, **approvals)


def begin_on_server(path: Path) -> None:
    """Have a journal that nobody has written into yet be in a database from its beginning, where a test says so."""
    if toy.SERVER in os.environ:
        _mark_of(path).touch()


def _mark_of(path: Path) -> Path:
    return path.with_suffix(".on-server")


def _rollback_tools(world: World) -> RollbackTools:
    return RollbackTools(
        schema=world.schema,
        migrations=world.files,
        triggers=world.triggers,
        attachments=world.attachments,
        bundles=world.bundles,
        bundle_store=world.bundle_store,
        deployer=world.deployer,
    )


_PARTS = ("incident", "guard", "rollback", "recovery", "safety", "platform")


def equip(tools: Toolbox, **parts: Any) -> Toolbox:
    """Return the tools with other parts, each by its name alone: it is put where the toolbox holds it."""
    own: dict[str, Any] = {}
    held: dict[str, Any] = {}
    for name, part in parts.items():
        kind = next((kind for kind in _PARTS if hasattr(getattr(tools, kind), name)), None)
        if kind is None:
            own[name] = part
        else:
            held[kind] = replace(held.get(kind, getattr(tools, kind)), **{name: part})
    late = {kind: Late(lambda made=made: made) for kind, made in held.items()}
    return replace(tools, **own, parts=replace(tools.parts, **late))


def push_tools(world: World) -> PushTools:
    """Return what sets secrets in this World, from its own store."""
    return PushTools(
        writer=world.secret_writer,
        fingerprints=world.fingerprints,
        expected=lambda: ExpectedSecrets(example=("JWT_SECRET",), required=("EMAIL_API_KEY",), where=".env.example"),
        opened=lambda _named: world.secret_source,
        configured={"from": "world"},
        own=frozenset({"API_TOKEN"}),
    )


def by_version(bad: str, *, error_rate: float = 0.2, requests: int = 30) -> Callable[[int, str], Counts | None]:
    """Return the rule of traffic in which one version fails and every other is well."""
    sick, well = make_steady(requests, error_rate=error_rate), make_steady(requests)
    return lambda second, version: (sick if version == bad else well)(second, version)


def thrown(version: str, at: float, text: str = "TypeError: x is undefined") -> Invocation:
    """Return an invocation that threw."""
    return Invocation(version, at, outcome="exception", said=(Said(Origin.EXCEPTION, text),))


_PROVEN: dict[str, tuple[World, bytes]] = {}
"""By kind of story and policy: the World and the journal when its good version was proved. Every story begins so."""


@dataclass
class Story:
    """A World with a proven good version and a bad one just deployed; `again()` is a fresh process on it.

    Args:
        beginning: the World to begin with, a new one if there is none.
        approvals: what its journal is told of approvals, see `toolbox`.
    """

    path: Path
    policy: Policy = POLICY
    beginning: World | None = None
    approvals: Mapping[str, Any] | None = None
    world: World = field(init=False)
    good: Version = field(init=False)
    bad: Version = field(init=False)

    def __post_init__(self) -> None:
        """Deploy the good version, prove it, deploy the bad one."""
        if self.beginning is not None:
            self._prove(self.beginning)
        else:
            key = f"{type(self).__qualname__} {self.policy}"
            if key not in _PROVEN:
                self._prove(World())
                with closing(sqlite3.connect(self.path)) as connection:
                    _PROVEN[key] = deepcopy(self.world), connection.serialize()
            else:
                self._take_up(*_PROVEN[key])
        world = self.world
        self.bad = world.upload("bad")
        world.traffic_rule = by_version(self.bad.id)
        world.log_rule = lambda _since, until: (thrown(self.bad.id, until),) * 6
        world.deploy(self.bad)
        world.clock.sleep(2)
        world.calls.clear()
        if toy.SERVER in os.environ:  # the test keeps its journals on a server
            toy.move_to_server(self.path)

    def _prove(self, world: World) -> None:
        self.world = world
        world.services = dict.fromkeys(SERVICES, ServiceState.OK)
        world.traffic_rule = make_steady(30)
        self.good = world.upload("good")
        world.deploy(self.good)
        ended = watch(self.tools(), for_s=25)
        assert self.tools().runs.result(ended.id, "conclude")["action"] == "stable"  # type: ignore[index,call-overload]
        world.clock.sleep(600)

    def _take_up(self, world: World, journal: bytes) -> None:
        self.world = deepcopy(world)
        (build,) = self.world.builds.values()
        self.good = build.version
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch(0o600)
        self.path.write_bytes(journal)

    def tools(self, crash_point: Callable[[str], None] | None = None) -> Toolbox:
        """Return fresh tools."""
        world, path = self.world, self.path
        return toolbox(world, path, policy=self.policy, crash_point=crash_point, approvals=self.approvals)


def watch(tools: Toolbox, *, mode: Mode | None = None, for_s: float | None = None) -> Run:
    """Run a guard to its end, picking up an unfinished run as the command does."""
    unfinished = next((run for run in tools.runs.runs("production")[:1] if not run.state.is_over), None)
    if unfinished is not None:
        return tools.journal.drive(unfinished.id, Actions(tools), actor="ops@host")
    plan = guard.plan(tools, mode=mode or tools.policy.guard.mode, for_s=for_s or tools.policy.criteria.watch_s)
    run = tools.journal.submit(plan, actor="ops@host", reason=plan.why)
    return tools.journal.drive(run, Actions(tools), actor="ops@host")


def roll_back(tools: Toolbox, request: Request | None = None) -> Run:
    """Run a rollback to its end, picking up an unfinished run as the command does."""
    unfinished = next((run for run in tools.runs.runs("production")[:1] if not run.state.is_over), None)
    if unfinished is not None:
        return tools.journal.drive(unfinished.id, Actions(tools), actor="ops@host")
    _, plan = prepare(tools, request or Request(message="it fails"))
    assert isinstance(plan, Plan), plan
    run = tools.journal.submit(plan, actor="ops@host", reason="it fails")
    return tools.journal.drive(run, Actions(tools), actor="ops@host")
