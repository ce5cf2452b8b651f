"""Panic: no questions, the safest allowed way back, never what a rule refuses, once and not twice, and its undo."""

from __future__ import annotations

import json
import threading
from dataclasses import replace as altered
from typing import TYPE_CHECKING

import pytest
from api_gate import api_gate
from cli_shell import Stream, make_shell
from values import replace

from backout.cli.guard.live import Live
from backout.cli.panic import _show as show
from backout.cli.support.session import Session
from backout.errors import SecretsChanged
from backout.journal.stop import StopRequest
from backout.model.incident.incident import RunState
from backout.model.plan import Plan, PlanKind, PlanRefused
from backout.providers.memory import make_steady
from backout.runbook.incident.in_need import Sources, look_in_need
from backout.runbook.procedures import Actions
from backout.runbook.rollback.panic import list_lines_in_need, list_lines_without_journal, plan_way_back, stand_aside

from line import POLICY, Story, equip, watch
from polling import PATIENCE_S, until

if TYPE_CHECKING:
    from pathlib import Path

    from backout.model.guard.policy import Policy
    from backout.model.incident.incident import Run
    from backout.runbook.toolbox import Toolbox

    from drillbook import Drillbook, Trial

MIGRATION = "20261125000000_drop_column"


@pytest.fixture
def story(quick_path: Path) -> Story:
    """A World in which the bad version was just deployed."""
    return Story(quick_path / "journal.sqlite")


def panic(tools: Toolbox) -> Run:
    """Do what the command does."""
    assert stand_aside(tools) is None
    plan = plan_way_back(tools, "panic")
    assert isinstance(plan, Plan), plan
    run = tools.journal.submit(plan, actor="ops@host", reason="panic")
    return tools.journal.drive(run, Actions(tools), actor="ops@host")


def test_panic_goes_back_once(story: Story) -> None:
    """It ends after the read-back; typed again within a quarter of an hour it only says what is known."""
    run = panic(story.tools())
    assert run.state is RunState.DONE
    assert story.world.live.main == story.good.id
    assert {"verify", "report"}.isdisjoint(step.action for step in run.plan.steps)
    older = len(story.world.activations)
    again = plan_way_back(story.tools(), "panic")
    assert isinstance(again, PlanRefused)
    assert again.rule == "panic once"
    assert run.id in again.reason
    assert story.bad.id[:8] in again.reason
    assert len(story.world.activations) == older
    story.world.clock.sleep(901)
    later = plan_way_back(story.tools(), "panic")
    assert isinstance(later, PlanRefused)
    assert later.rule == "5 quarantined"


def test_panic_names_the_command_to_go_further(story: Story) -> None:
    """With a proven version further back, the refusal names it; a person may go on."""
    world = story.world
    third = world.upload("third")
    world.traffic_rule = lambda second, version: None
    world.deploy(third)
    assert isinstance(first := plan_way_back(story.tools(), "panic"), Plan)
    assert first.step("activate").args["version"] == story.good.id
    panic(story.tools())
    again = plan_way_back(replace(story.tools(), policy=accepting()), "panic")
    assert isinstance(again, PlanRefused)
    assert again.rule == "panic once"
    assert f"backout rollback {story.bad.id} -e production" in again.options[1]


def accepting() -> Policy:
    """Return the policy that lets a robot take versions without proof."""
    return replace(POLICY, guard=replace(POLICY.guard, accept_unproven=True))


def test_panic_never_forces_the_schema(story: Story) -> None:
    """Code is not rolled back over a migration; the options say what a person may do."""
    story.world.migrate(MIGRATION)
    refused = plan_way_back(story.tools(), "panic")
    assert isinstance(refused, PlanRefused)
    assert refused.rule == "4 schema"
    assert any(MIGRATION in option for option in refused.options)


def test_panic_takes_no_unproven_version(quick_path: Path) -> None:
    """Without a proven version it refuses, unless the policy lets a robot accept one."""
    story = Story(quick_path / "journal.sqlite")
    for file in quick_path.glob("journal.sqlite*"):
        file.unlink()
    for number, deployment in enumerate(story.world.all_deployments):
        story.world.all_deployments[number] = altered(deployment, message="")  # nothing tells that one was proven
    refused = plan_way_back(story.tools(), "panic")
    assert isinstance(refused, PlanRefused)
    assert refused.rule == "5 unproven"
    allowed = plan_way_back(replace(story.tools(), policy=accepting()), "panic")
    assert isinstance(allowed, Plan)


def test_panic_brings_no_old_secret_back(story: Story) -> None:
    """A secret that changed since is a decision, and panic makes none."""
    story.world.put_secret("JWT_SECRET", "new")
    before = story.world.live.main
    with pytest.raises(SecretsChanged):
        panic(story.tools())
    assert story.world.live.main == before


def test_panic_ends_a_watch_and_leaves_a_rollback_alone(story: Story) -> None:
    """A guard that was interrupted gives the environment up; a rollback that was not finished keeps it."""

    class Crash(BaseException):
        pass

    def die(name: str) -> None:
        if name == story_crash[0]:
            raise Crash

    story_crash = ["health.look"]
    story.world.before_call = die
    with pytest.raises(Crash):
        watch(story.tools())
    story.world.before_call = None
    assert stand_aside(story.tools()) is None
    assert story.tools().runs.runs("production")[0].state is RunState.ABORTED
    story_crash[0] = "deployments.activate"
    story.world.before_call = die
    with pytest.raises(Crash):
        panic(story.tools())
    story.world.before_call = None
    keeper = stand_aside(story.tools())
    assert keeper is not None
    assert (keeper.plan.kind, keeper.state) == (PlanKind.ROLLBACK, RunState.INTERRUPTED)


def dies_at_the_switch(story: Story) -> None:
    """Have a guard die in the middle of its rollback, before the switch."""

    class Crash(BaseException):
        pass

    def die(name: str) -> None:
        if name == "deployments.activate":
            raise Crash

    story.world.before_call = die
    with pytest.raises(Crash):
        watch(story.tools())
    story.world.before_call = None


def test_panic_does_not_end_with_a_rollback_that_a_robot_left_behind(story: Story) -> None:
    """A hold would stop that one, and a newer deployment void it; a person who panics goes back from what is live."""
    dies_at_the_switch(story)
    world = story.world
    world.deploy(story.bad, message="[backout hold until=2099-01-01T00:00:00Z] x")
    worse = world.upload("worse")
    world.deploy(worse)
    run = panic(story.tools())
    assert (run.state, world.live.sole) == (RunState.DONE, story.good.id)
    assert run.plan.step("activate").args["leaving"] == worse.id
    assert [each.state for each in story.tools().runs.runs("production")[:2]] == [RunState.DONE, RunState.ABORTED]


def test_panic_carries_on_a_rollback_that_may_have_switched(story: Story) -> None:
    """Its answer was lost: it is not given up, whoever began it."""

    class Crash(BaseException):
        pass

    def die(name: str) -> None:
        if name == "deployments.activate":
            raise Crash

    story.world.after_call = die
    with pytest.raises(Crash):
        watch(story.tools())
    story.world.after_call = None
    keeper = stand_aside(story.tools())
    assert keeper is not None
    assert keeper.state is RunState.INTERRUPTED


def test_panic_says_what_it_would_do_and_touches_nothing(story: Story, tmp_path: Path) -> None:
    """--dry-run, while a watch goes on: which one it would end, and the plan; the watch and what is live stay."""
    seen: list[str] = []

    def meanwhile(name: str) -> None:
        if name != "health.look" or seen:
            return
        story.world.before_call = None
        shell, before = make_shell(tmp_path), len(story.world.calls)
        shell.output.json = True
        session = Session(shell, story.tools(), StopRequest(lambda: None), Live(shell.output, "panic", stream=False))
        assert show(session, "panic") == 0
        assert {call.partition(".")[2] for call in story.world.calls[before:]}.isdisjoint({"deploy", "activate"})
        assert isinstance(shell.output.stdout, Stream)
        assert isinstance(shell.output.stderr, Stream)
        seen.extend((shell.output.stdout.getvalue(), shell.output.stderr.getvalue()))

    story.world.before_call = meanwhile
    story.world.traffic_rule = make_steady(30)
    watched = watch(story.tools())
    record = json.loads(seen[0])
    assert (record["schema"], record["dry_run"], record["ends"]) == ("backout.panic/1", True, watched.id)
    assert (record["from_version"], record["to_version"]) == (story.bad.id, story.good.id)
    assert f"it would end run {watched.id} (guard) first" in seen[1]
    assert watched.state is RunState.DONE
    assert story.world.live.main == story.bad.id


# --- the real program on the twin -----------------------------------------------------------------------------------


def bad_live(drillbook: Drillbook) -> Trial:
    """Return a trial in which the bad version just took the good one's place."""
    trial = drillbook.trial()
    trial.make_live(drillbook.good)
    trial.make_live(drillbook.bad)
    return trial


@pytest.mark.calm
def test_panic_on_production_without_a_question(drillbook: Drillbook) -> None:
    """No terminal, no flag: back on the good version, with an undo that works; the second one is refused."""
    trial = bad_live(drillbook)
    ended = trial.run("panic", "-m", "checkout is down", "--json")
    assert ended.code == 0, ended.err
    record = ended.json
    assert (record["schema"], record["live_version"]) == ("backout.panic/1", drillbook.good)
    assert record["verified"] is None
    assert trial.live() == drillbook.good
    assert "checkout is down" in trial.tools().deployments.history()[0].message
    again = trial.run("panic", "--json")
    assert (again.code, again.json["rule"]) == (3, "panic once")
    assert trial.live() == drillbook.good
    for line in record["undo"]:
        words = line.replace("WHY", "undo").split()[1:]
        quick = ["--no-wait"] if words[0] == "rollback" else []
        undone = trial.run(*words, "--confirm", "production", *quick)
        assert undone.code == 0, undone.err
    assert trial.live() == drillbook.bad


@pytest.mark.long
@pytest.mark.calm
def test_panic_ends_a_guard_that_watches(drillbook: Drillbook) -> None:
    """A watch keeps the environment; panic ends it and goes back at once."""
    trial = bad_live(drillbook).replace(
        (r'mode = "act"', 'mode = "observe"'), (r"\[journal\]", "min_bad = 100000\n\n[journal]")
    )
    guard = trial.start("guard", "--for", "80s")
    until(
        lambda: [r for r in trial.tools().runs.runs("production") if r.state is RunState.RUNNING], 30, "guard watches"
    )
    ended = trial.run("panic", "--json")
    assert ended.code == 0, ended.err
    assert trial.live() == drillbook.good
    guard.communicate(timeout=PATIENCE_S)
    assert guard.returncode == 6


@pytest.mark.rotating("rules on the twin", 4)
@pytest.mark.long
@pytest.mark.calm
def test_panic_when_the_api_hangs_says_what_to_type(drillbook: Drillbook) -> None:
    """No answer within its time: exit 7, nothing claimed, and the line that does it by hand."""
    trial = bad_live(drillbook)
    released = threading.Event()
    with api_gate(str(drillbook.stage.twin.api_base_url)) as gate:
        gate.before = lambda _method, _path: (released.wait(PATIENCE_S), None)[1]
        try:
            ended = trial.behind(gate.url).run("panic", "--json")
        finally:
            released.set()
    assert ended.code == 7, ended.err
    assert ended.json["error"] == "ProviderUnavailable"
    assert ended.json["hint"].startswith(f"npx wrangler rollback {drillbook.good} ")
    assert f"$ npx wrangler rollback {drillbook.good} " in ended.err


@pytest.mark.long
@pytest.mark.calm
def test_panic_without_a_journal_says_what_to_type(drillbook: Drillbook) -> None:
    """What cannot be recorded is not done: exit 5 with the exact lines, from what the provider tells."""
    trial = drillbook.trial()
    shares = trial.make_live(drillbook.good).shares
    remark = f"[backout guard-00000000 stable={drillbook.good[:8]}//] proven"
    trial.tools().deployments.deploy(shares, message=remark)
    trial.make_live(drillbook.bad)
    trial.forget_marks()
    (trial.folder / "journal.sqlite").write_bytes(b"no database" * 400)
    ended = trial.run("panic", "--json")
    assert ended.code == 5, ended.err
    assert "nothing was changed" in ended.json["what"]
    assert ended.json["hint"].startswith(f"npx wrangler rollback {drillbook.good} ")
    assert trial.live() == drillbook.bad


def test_panic_knows_lines_without_anybody(story: Story) -> None:
    """Without the provider the last stable version that this host knows is named; without a journal what is told."""
    lines = replace(
        story.tools().rollback.equivalents, activate="npx wrangler rollback {version} --message {message}", live="look"
    )
    tools = equip(story.tools(), equivalents=lines)
    known = look_in_need(Sources("production", tools.runs, tools.marks, story.path.with_name("card.md")))
    said, typed = list_lines_in_need(lines, known)
    assert said.startswith("# ")
    assert typed == f"npx wrangler rollback {story.good.id} --message 'by hand'"
    found = list_lines_without_journal(tools, "panic")
    assert isinstance(found, tuple)
    assert found[0] == f"npx wrangler rollback {story.good.id} --message panic"
