"""Scenario 4, option A: the roll-forward as a plan, driven on the World; what stops it, and a crash at every moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from journal_engines import on_both
from values import replace

from backout.errors import BackoutError, CommandFailed, DecisionNeeded, PartlyDone, Refused, UsageError, WorldMoved
from backout.model.database.schema import AppliedMigration
from backout.model.deployment import CommandEnd
from backout.model.identity import Identity
from backout.model.incident.incident import RunState
from backout.model.incident.notice import NoticeKind
from backout.model.plan import Equivalents, Plan, PlanKind, PlanRefused
from backout.plan.rollback import Request
from backout.providers.memory import make_steady
from backout.runbook.procedures import Actions
from backout.runbook.rollback.remediation_options import add_ways
from backout.runbook.rollback.roll_forward import prepare_forward
from backout.runbook.rollback.rollback import prepare

from extent import sampled
from line import Story, equip

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backout.model.incident.incident import Run
    from backout.runbook.toolbox import Toolbox

COMMAND = "npm run deploy:production"
DROP = "ALTER TABLE orders DROP COLUMN total"
MENDS = "ALTER TABLE orders ADD COLUMN total int"
INIT = "CREATE TABLE orders (id int PRIMARY KEY, total int)"


class Crash(BaseException):
    """The process dies here."""


class Forward(Story):
    """A bad version that came with a migration which forbids going back; its mend lies in the working copy."""

    def __post_init__(self) -> None:
        """Apply the migration, and write the one that mends it."""
        super().__post_init__()
        world = self.world
        world.migrate("0002_drop", DROP)
        world.migration_files.insert(0, replace(world.migration_files[0], name="0001_init", sql=INIT))
        world.migrations.insert(0, AppliedMigration("0001_init", 1.0, 1.0))
        world.migration_files.append(replace(world.migration_files[-1], name="0003_total", sql=MENDS))
        world.deploy_rule = self.deploys
        world.traffic_rule = lambda second, version: make_steady(30, error_rate=0.2 if version == self.bad.id else 0.0)(
            second, version
        )

    def deploys(self, _command: str) -> CommandEnd:
        """Apply what is pending as the app's own tool does, and deploy a mended version."""
        done = {migration.name for migration in self.world.migrations}
        for file in self.world.migration_files:
            if file.name not in done:
                self.world.migrate(file.name)
        self.world.deploy(self.world.upload("mended"))
        return CommandEnd(0, ("applied", "deployed"))

    def tools(self, crash_point: Callable[[str], None] | None = None) -> Toolbox:
        """Return tools that know the command."""
        return equip(super().tools(crash_point), deploy_command=COMMAND)

    @property
    def mended(self) -> list[str]:
        """The versions that were deployed after the bad one."""
        ids = [deployment.main for deployment in self.world.all_deployments]
        return ids[ids.index(self.bad.id) + 1 :]


@pytest.fixture
def story(quick_path: Path) -> Forward:
    return Forward(quick_path / "journal.sqlite")


def planned(tools: Toolbox, **more: bool) -> Plan:
    plan = prepare_forward(tools, "total is back", **more)
    assert isinstance(plan, Plan), plan
    return plan


def go(tools: Toolbox) -> Run:
    """Roll forward to the end, picking up an unfinished run as the command does."""
    unfinished = next((run for run in tools.runs.runs("production")[:1] if not run.state.is_over), None)
    run = unfinished.id if unfinished is not None else ""
    if not run:
        run = tools.journal.submit(planned(tools), actor="ops@host", reason="total is back")
    return tools.journal.drive(run, Actions(tools), actor="ops@host")


def test_the_plan_says_what_will_be_done(story: Forward) -> None:
    """Each step with what a person would type; the pending migration with its verdict for what is live now."""
    plan = planned(story.tools())
    assert [step.action for step in plan.steps] == [
        "check_migrations",
        "deploy",
        "read_new",
        "check_head",
        "verify",
        "report",
        "settle_forward",
    ]
    assert plan.step("deploy").equivalent == COMMAND
    assert plan.notes == ("migration 0003_total is safe for the code that is live until then",)
    assert story.world.calls.count("deployer.run") == 0
    typed = equip(story.tools(), schema=None, equivalents=Equivalents(live="live", health="health"))
    assert all(step.equivalent for step in planned(typed).steps)


def test_the_refusal_of_a_rollback_names_the_command(story: Forward) -> None:
    """Option A is a plan that is ready, not a sentence."""
    situation, refused = prepare(story.tools(), Request(message="it fails"))
    assert isinstance(refused, PlanRefused)
    forward = add_ways(story.tools(), refused, situation).options[0]
    assert "`backout roll-forward -e production -m WHY`" in forward
    assert COMMAND in forward


def test_what_was_mended_goes_live_and_is_proved(story: Forward) -> None:
    """The command ran once, the new version was read back, its migration is applied, and somebody is told."""
    heard: list[str] = []
    run = go(equip(story.tools(), hear=heard.append))
    assert run.state is RunState.DONE
    assert run.plan.kind is PlanKind.FORWARD
    (mended,) = story.mended
    result = story.tools().runs.result
    assert result(run.id, "read_new")["version"] == mended  # type: ignore[index,call-overload]
    assert result(run.id, "check_head") == {"head": "0003_total"}
    assert result(run.id, "verify")["verified"] is True  # type: ignore[index,call-overload]
    assert heard == ["applied", "deployed"]
    (notice,) = [each for each in story.world.notices if each.run == run.id]
    assert notice.kind is NoticeKind.ROLLED_FORWARD
    assert f"rolled forward to version {mended[:8]}, verified" in notice.title
    (report,) = story.world.reports.texts.values()
    assert f"Rolled forward from version `{story.bad.id}` to version `{mended}`" in report
    assert "Read back from the database: the migration head is 0003_total" in report
    assert "quarantine" not in report


def test_one_that_is_not_well_is_told_as_such(story: Forward) -> None:
    """The mend mends nothing: exit 1 for the caller, and a notice; nothing more is done by itself."""
    story.world.traffic_rule = make_steady(30, error_rate=0.2)
    run = go(story.tools())
    assert story.tools().runs.result(run.id, "settle_forward") == {"outcome": "not_restored", "told": True}
    assert [each.kind for each in story.world.notices if each.run == run.id][-1] is NoticeKind.NOT_RESTORED


def test_a_command_that_fails_ends_the_run_and_nothing_else_changed(story: Forward) -> None:
    """Its exit code and its last lines stand in the error; the environment is free."""
    story.world.deploy_rule = lambda _command: CommandEnd(7, ("building", "tsc: error TS2304"))
    before = len(story.world.all_deployments)
    with pytest.raises(CommandFailed, match=r"exit code 7, and nothing new is live.*TS2304") as failed:
        go(story.tools())
    assert failed.value.exit_code == 1
    assert failed.value.tail == ("building", "tsc: error TS2304")
    assert len(story.world.all_deployments) == before
    (newest,) = story.tools().runs.runs("production")[:1]
    assert newest.state is RunState.FAILED
    story.world.deploy_rule = story.deploys
    assert go(story.tools()).state is RunState.DONE


def test_a_command_that_deploys_nothing_is_a_failure(story: Forward) -> None:
    """It ended well, for another environment perhaps: nothing is claimed."""
    story.world.deploy_rule = lambda _command: CommandEnd(0)
    with pytest.raises(CommandFailed, match="ended well, and nothing new is live"):
        go(story.tools())


def test_a_command_that_fails_behind_its_deployment_says_what_is_live(story: Forward) -> None:
    """It is not undone, and not called a success."""

    def half(command: str) -> CommandEnd:
        story.deploys(command)
        return CommandEnd(1, ("smoke test failed",))

    story.world.deploy_rule = half
    with pytest.raises(CommandFailed, match=r"is live now all the same.*smoke test failed"):
        go(story.tools())


def test_a_migration_that_the_command_left_out_can_be_applied_and_the_run_goes_on(story: Forward) -> None:
    """The code is live and its column is missing: said at once, and resumed when it is there."""

    def code_alone(_command: str) -> CommandEnd:
        story.world.deploy(story.world.upload("mended"))
        return CommandEnd(0)

    story.world.deploy_rule = code_alone
    with pytest.raises(PartlyDone, match="its migration 0003_total was not applied"):
        go(story.tools())
    story.world.migrate("0003_total")
    assert go(story.tools()).state is RunState.DONE
    assert story.world.calls.count("deployer.run") == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda story: story.world.deploy(story.world.upload("hotfix")), "is live, not"),
        (lambda story: story.rewrite("0003_total", DROP.replace("total", "id")), "0003_total is breaking by now"),
        (lambda story: story.add("0004_more", "CREATE UNIQUE INDEX u ON orders (total)"), "says nothing of it"),
    ],
    ids=["a hotfix", "a worse file", "one more file"],
)
def test_what_is_not_as_agreed_is_not_deployed(
    quick_path: Path, change: Callable[[Rewritten], object], words: str
) -> None:
    """Between plan and command: another deployment, or a migration that nobody saw."""
    story = Rewritten(quick_path / "journal.sqlite")
    run = story.tools().journal.submit(planned(story.tools()), actor="ops@host", reason="total is back")
    change(story)
    with pytest.raises(WorldMoved, match=words):
        story.tools().journal.drive(run, Actions(story.tools()), actor="ops@host")
    assert story.world.calls.count("deployer.run") == 0


class Rewritten(Forward):
    """One whose files change."""

    def rewrite(self, name: str, sql: str) -> None:
        """Put another script into a file."""
        files = self.world.migration_files
        self.world.migration_files = [replace(file, sql=sql) if file.name == name else file for file in files]

    def add(self, name: str, sql: str) -> None:
        """Add a file."""
        self.world.migration_files.append(replace(self.world.migration_files[-1], name=name, sql=sql))


def test_a_file_that_became_safer_is_fine(quick_path: Path) -> None:
    """Not worse than agreed."""
    story = Rewritten(quick_path / "journal.sqlite")
    story.add("0004_more", "CREATE UNIQUE INDEX u ON orders (total)")
    run = story.tools().journal.submit(planned(story.tools()), actor="ops@host", reason="total is back")
    story.rewrite("0004_more", "CREATE INDEX u ON orders (total)")
    assert story.tools().journal.drive(run, Actions(story.tools()), actor="ops@host").state is RunState.DONE


def test_a_migration_that_failed_half_way_comes_first(story: Forward) -> None:
    """No tool applies anything behind it: refused, with what to type."""
    story.world.migrate("0003_total", finished=False)
    refused = prepare_forward(story.tools(), "total is back")
    assert isinstance(refused, PlanRefused)
    assert "0003_total failed half-way" in refused.reason
    assert any("--rolled-back 0003_total" in option for option in refused.options)


def test_without_a_command_there_is_no_plan(story: Forward) -> None:
    """The error says what to write where."""
    with pytest.raises(UsageError, match="no deploy command is set up"):
        prepare_forward(equip(story.tools(), deploy_command=""), "total is back")


class Another:
    """Port Identities of another account."""

    def read(self) -> Identity:
        """Return it."""
        return Identity(account_id="theirs")


def test_another_environment_is_never_deployed_to(story: Forward) -> None:
    """Safety rule 1: the identity is compared at the plan and again right before the command."""
    tools = equip(story.tools(), pinned=Identity(account_id="ours"), identities=Another())
    with pytest.raises(Refused):
        prepare_forward(tools, "total is back")
    run = story.tools().journal.submit(planned(story.tools()), actor="ops@host", reason="total is back")
    with pytest.raises(BackoutError):
        tools.journal.drive(run, Actions(tools), actor="ops@host")
    assert story.world.calls.count("deployer.run") == 0


def test_a_crash_behind_the_deployment_asks_a_person(story: Forward) -> None:
    """A new version is live, and nobody saw the command's end: it is not run again by itself."""

    def dies(name: str) -> None:
        if name == "deployer.run":
            raise Crash

    story.world.after_call = dies
    with pytest.raises(Crash):
        go(story.tools())
    story.world.after_call = None
    with pytest.raises(DecisionNeeded, match="the command's end was not seen"):
        go(story.tools())
    (run,) = story.tools().runs.runs("production")[:1]
    story.tools().runs.ask(run.id, "decide:done", actor="ops@host", reason="its log says so")
    assert go(story.tools()).state is RunState.DONE
    assert len(story.mended) == 1


@pytest.mark.proof
@on_both
def test_a_crash_at_every_moment_then_again(quick_path: Path) -> None:
    """The same end, and one deployment, whatever the moment; a person decides only where nobody else can know."""

    def crash_at(moment: int | None) -> tuple[Callable[[str], None], list[str]]:
        seen: list[str] = []

        def at(name: str) -> None:
            seen.append(name)
            if len(seen) - 1 == moment:
                raise Crash(name)

        return at, seen

    def attempt(story: Forward, moment: int | None) -> list[str]:
        crash, seen = crash_at(moment)
        story.world.before_call = lambda name: crash(f"before {name}")
        story.world.after_call = lambda name: crash(f"after {name}")
        try:
            go(story.tools(crash))
        except Crash:
            pass
        finally:
            story.world.before_call = story.world.after_call = None
        return seen

    total = len(attempt(Forward(quick_path / "whole.sqlite"), None))
    assert total > 50
    decided = 0
    chosen = sampled(total, 10, 4)
    for moment in chosen:
        story = Forward(quick_path / f"{moment}.sqlite")
        attempt(story, moment)
        newest = next(iter(story.tools().runs.runs("production")))
        if newest.plan.kind is not PlanKind.FORWARD or newest.state is not RunState.DONE:
            try:
                go(story.tools())
            except DecisionNeeded:
                decided += 1
                newest = next(iter(story.tools().runs.runs("production")))
                story.tools().runs.ask(newest.id, "decide:done", actor="ops@host", reason="it did")
                go(story.tools())
        newest = next(iter(story.tools().runs.runs("production")))
        assert (newest.plan.kind, newest.state) == (PlanKind.FORWARD, RunState.DONE), moment
        assert len(story.mended) == 1, moment
        assert len(story.world.reports.texts) == 1, moment
    assert decided < 5
    assert decided or chosen.step > 1
