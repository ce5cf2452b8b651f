"""The line against a provider on a bad day: it never claims what is not so, never switches twice, and always ends."""

from __future__ import annotations

import copy
import random
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from backout.analysis.history.remark_text import parse
from backout.errors import BackoutError, PartlyDone
from backout.journal.sqlite import SqliteJournal
from backout.model.incident.incident import RunState
from backout.model.plan import Plan, PlanKind
from backout.model.remark import RemarkKind
from backout.model.version import Mark
from backout.plan.rollback import Request
from backout.providers.cloudflare.client import ApiClient
from backout.providers.cloudflare.deployments import CloudflareDeployments
from backout.providers.cloudflare.secrets import CloudflareSecrets
from backout.providers.cloudflare.token import CloudflareTokens
from backout.providers.cloudflare.triggers import CloudflareTriggers
from backout.providers.cloudflare.versions import CloudflareVersions
from backout.providers.memory import make_steady
from backout.runbook.procedures import Actions
from backout.runbook.rollback.rollback import prepare

from extent import PROOF
from line import Story, equip, toolbox, watch
from unsteady_api import ACCOUNT, BASE_URL, SCRIPT, STALE_S, Crash, UnsteadyApi

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backout.model.deployment import Deployment
    from backout.model.incident.incident import Run
    from backout.model.version import Version
    from backout.runbook.toolbox import Toolbox

    from conftest import Record

SEEDS, BATCH = (2000, 100) if PROOF else (60, 10)


@dataclass
class Day:
    """One bad day: what happens is drawn from the seed."""

    seed: int
    story: Story
    rng: random.Random = field(init=False)
    api: UnsteadyApi = field(init=False)
    begun: float = 0.0
    is_well: bool = False
    hotfix: Version | None = None
    hotfix_at: float = 0.0
    procedure: Callable[[Toolbox], object] = watch
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Draw how bad it is, what is done, and whether a colleague deploys meanwhile."""
        self.rng = random.Random(self.seed)  # noqa: S311 a test that can be repeated, not a secret
        random.seed(self.seed)  # the waits between two attempts
        self.api = UnsteadyApi(self.story.world, self.rng)
        self.api.rate = self.rng.choice((0.05, 0.15, 0.3, 0.5))
        self.api.crashes = self.rng.choice((0, 0, 1, 2, 3))
        by_guard = self.rng.random() < 0.7
        self.is_well = by_guard and self.rng.random() < 0.3
        if self.is_well:  # the deployment is no worse than the one before: it is marked, here and at the provider
            self.story.world.traffic_rule = make_steady(1000)
        self.procedure = watch if by_guard else self._roll_back
        if self.rng.random() < 0.4:
            world, span = self.story.world, 90.0 if by_guard else 8.0
            world.clock.at(world.clock.now() + self.rng.uniform(0.0, span), self._mend)

    def _mend(self) -> None:
        self.hotfix = self.story.world.upload("hotfix")
        self.hotfix_at = self.story.world.clock.now()
        self.story.world.deploy(self.hotfix)

    def _roll_back(self, tools: Toolbox) -> object:
        """Roll back as a person does, who does not confirm a plan that leaves anything but the bad version."""
        if not self.runs():
            _, plan = prepare(tools, Request(message="it fails"))
            if not isinstance(plan, Plan) or plan.step("activate").args["leaving"] != self.story.bad.id:
                self.errors.append("not confirmed")
                return None
            tools.journal.submit(plan, actor="ops@host", reason="it fails")
        return tools.journal.drive(self.runs()[0].id, Actions(tools), actor="ops@host")

    def tools(self) -> Toolbox:
        """Return the tools of a new process; it may die at a commit as well as in a call."""
        world = self.story.world
        client = ApiClient(BASE_URL, lambda: "token", clock=world.clock, connection=self.api)
        return equip(
            toolbox(world, self.story.path, policy=self.story.policy, crash_point=self._die),
            deployments=CloudflareDeployments(client, ACCOUNT, SCRIPT),
            versions=CloudflareVersions(client, ACCOUNT, SCRIPT),
            secrets=CloudflareSecrets(client, ACCOUNT, SCRIPT),
            triggers=CloudflareTriggers(client, ACCOUNT, SCRIPT),
            token=CloudflareTokens({"all": client}, ACCOUNT, clock=world.clock),
        )

    def _die(self, name: str) -> None:
        if self.api.crashes and self.rng.random() < 0.02:
            self.api.crashes -= 1
            raise Crash(name)

    def live_through(self) -> None:
        """Type the command until it ends, as an operator does; the provider gets well after a few attempts."""
        for attempt in range(20):
            if attempt == 8:
                self.api.rate, self.api.crashes = 0.0, 0
            try:
                self.procedure(self.tools())
            except Crash:
                self.errors.append("crash")
            except BackoutError as error:
                self.errors.append(f"{type(error).__name__}: {error}")
                if isinstance(error, PartlyDone) and not isinstance(error.__cause__, BackoutError):
                    raise AssertionError("our own mistake") from error  # noqa: TRY004 the cause's type is the finding
            self.story.world.clock.sleep(self.rng.choice((0.1, 2.0, 60.0)) * self.rng.random())
            if self._is_over():
                return
        raise AssertionError("it does not end")

    def _is_over(self) -> bool:
        """Whether there is nothing to go on with; a run that was never begun is begun again, unless it is mended."""
        runs = self.runs()
        return runs[0].state.is_over if runs else self.hotfix is not None

    def runs(self) -> list[Run]:
        """Return the runs of this day, newest first."""
        tools = toolbox(self.story.world, self.story.path)
        return [run for run in tools.runs.runs("production") if run.started_at >= self.begun]


# --- what must be so, whatever happened ---


def check(day: Day) -> None:
    """Hold the day against the truth of the World."""
    world, story = day.story.world, day.story
    tools = toolbox(world, story.path)
    assert SqliteJournal(story.path, world.clock).verify_chain().is_whole
    for run in day.runs():
        made = switches(day, run)
        assert len(made) <= 1, "switched twice"
        if made and day.hotfix is not None and made[0].created_at > day.hotfix_at:
            assert list_before(day, made[0].created_at) <= day.hotfix_at, "switched over a hotfix that it could see"
        check_claims(day, tools, run)
    for mark in tools.marks.marks("production"):
        assert mark.version == (story.bad.id if mark.mark is Mark.QUARANTINED else mark.version), "the wrong quarantine"
        assert day.is_well or mark.mark is not Mark.STABLE or mark.version != story.bad.id, (
            "the bad one is called stable"
        )
    if day.hotfix is not None and day.hotfix_at:
        assert world.live.sole == day.hotfix.id, "the hotfix was rolled back"
    elif day.is_well:
        assert world.live.sole == story.bad.id, "a deployment that is well was left"
    elif any(run.plan.kind is PlanKind.ROLLBACK and run.state is RunState.DONE for run in day.runs()):
        assert world.live.sole == story.good.id, "done, and the bad version is live"


def switches(day: Day, run: Run) -> list[Deployment]:
    """Return the deployments by which this run switched: a second one to the same version counts as well."""
    found = []
    for deployment in day.story.world.all_deployments:
        remark = parse(deployment.message)
        if remark is not None and remark.kind is RemarkKind.ROLLBACK and remark.run == run.id:
            found.append(deployment)
    return found


def check_claims(day: Day, tools: Toolbox, run: Run) -> None:
    """What the run says is live was live when the list was true that it read; what it says is verified still was."""
    claimed = tools.runs.result(run.id, "read_back")
    if isinstance(claimed, dict):
        read_at = float(str(claimed["read_at"]))
        as_of = list_before(day, read_at)
        assert claimed["version"] in live_between(day, as_of, as_of), "claimed, and not live"
    verified = tools.runs.result(run.id, "verify")
    if isinstance(verified, dict) and verified["verified"]:
        at, version = float(str(verified["ended_at"])), run.plan.step("activate").args["version"]
        assert version in live_between(day, at - STALE_S, at), "verified, and not live"


def list_before(day: Day, at: float) -> float:
    """Return when the last list of deployments before that time was true."""
    return next(true_at for served_at, true_at in reversed(day.api.lists) if served_at <= at)


def live_between(day: Day, since: float, until: float) -> set[str]:
    """Return the versions that had all of the traffic at some moment of that time."""
    found: set[str] = set()
    deployments = day.story.world.all_deployments
    for number, deployment in enumerate(deployments):
        ended = deployments[number + 1].created_at if number + 1 < len(deployments) else float("inf")
        if deployment.created_at <= until and ended > since and deployment.sole:
            found.add(deployment.sole)
    return found


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """A World with a good version that was proven and a bad one just deployed, and its journal; made once."""
    story = Story(tmp_path_factory.mktemp("fuzz") / "journal.sqlite")
    SqliteJournal(story.path, story.world.clock).close()
    return story


def day_of(prepared: Story, folder: Path, seed: int) -> Day:
    """Return the day of a seed, on a copy of what was prepared."""
    story = copy.deepcopy(prepared)
    story.path = folder / f"{seed}.sqlite"
    for file in prepared.path.parent.glob("journal.sqlite*"):
        shutil.copy(file, folder / file.name.replace("journal", str(seed)))
    day = Day(seed, story)
    day.begun = story.world.clock.now() - 0.5
    return day


@pytest.mark.proof
@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_the_line_against_an_unsteady_provider(prepared: Story, quick_path: Path, first: int, proof: Record) -> None:
    """Each seed is one day; a failing one is named, and `day_of(prepared, folder, seed)` brings it back."""
    for seed in range(first, first + BATCH):
        day = day_of(prepared, quick_path, seed)
        try:
            day.live_through()
            check(day)
        except Exception as error:
            raise AssertionError(f"seed {seed} ({day.procedure.__name__}): {error}; {day.errors}") from error
        for file in quick_path.glob(f"{seed}.sqlite*"):
            file.unlink()
    proof(
        "provider fuzz (delays, 429, 5xx, cut JSON, stale and reordered lists, kills): no false claim, no second switch"
        ", no lost journal, no hotfix rolled back",
        trials=BATCH,
        failures=0,
        note="tests/safety/test_provider_fuzz.py",
    )
