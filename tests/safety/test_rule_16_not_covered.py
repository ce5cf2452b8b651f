"""Rule 16: what a rollback does not cover is named in its plan; schedules are restored for a person, never by guard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backout.errors import AuthError, PartlyDone, ProviderUnavailable
from backout.escaping import prose
from backout.model.plan import Equivalents, Plan, PlanKind
from backout.model.triggers import Fate, TriggerKind
from backout.plan.rollback import Request
from backout.providers.memory import World
from backout.runbook.rollback.rollback import prepare
from backout.runbook.rollback.triggers import read_snapshots, read_triggers, remember

from line import Story, equip, roll_back, watch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backout.model.triggers import Coverage

    from drillbook import Drillbook, Trial

OLD, NEW = "0 3 * * *", "*/5 * * * *"
WHY = ("rollback", "-m", "it fails", "--json")
ROLLBACK = (*WHY, "--confirm", "production", "--no-wait")


# --- on the twin, with the real program ---


def crons(trial: Trial) -> tuple[str, ...] | None:
    """Return the schedules as the API tells them."""
    triggers = trial.tools().rollback.triggers
    assert triggers is not None
    return triggers.read((TriggerKind.SCHEDULES,)).schedules


def proven_with(drillbook: Drillbook, schedule: str) -> Trial:
    """Return a trial in which the good version was proven while it had this schedule."""
    trial = drillbook.trial()
    triggers = trial.tools().rollback.triggers
    assert triggers is not None
    triggers.set_schedules((schedule,))
    trial.make_live(drillbook.good)
    drillbook.await_visitors(100)
    ended = trial.run("guard", "--early", "--json")
    assert (ended.code, ended.json["action"]) == (0, "stable"), ended.err
    return trial


def deploy_bad(trial: Trial, schedule: str) -> None:
    """Deploy the bad version with a schedule of its own, as one `wrangler deploy` does."""
    trial.make_live(trial.book.bad)
    triggers = trial.tools().rollback.triggers
    assert triggers is not None
    triggers.set_schedules((schedule,))


@pytest.fixture
def without_schedules(drillbook: Drillbook) -> Iterator[Drillbook]:
    """The stage; whatever a test does with the schedules is undone."""
    yield drillbook
    triggers = drillbook.trial().tools().rollback.triggers
    assert triggers is not None
    triggers.set_schedules(())


@pytest.mark.rotating("rules on the twin", 4)
@pytest.mark.long
def test_rule_16_not_covered(without_schedules: Drillbook) -> None:
    """The plan shows the schedule that changed, and what is data; a person's rollback restores it, as read back."""
    trial = proven_with(without_schedules, OLD)
    deploy_bad(trial, NEW)
    plan = trial.run(*WHY, "--dry-run").json["plan"]
    told = {line["what"]: line for line in plan["coverage"]}
    assert told["schedules"]["fate"] == "changes"
    assert NEW in told["schedules"]["why"]
    assert OLD in told["schedules"]["why"]
    assert told["routes and custom domains"]["fate"] == "stays"
    assert {what for what, line in told.items() if line["fate"] == "NOT COVERED"} >= {"database", "r2_bucket MODELS"}
    step = next(step for step in plan["steps"] if step["action"] == "restore_schedules")
    assert "curl -sX PUT " in step["equivalent"]
    assert "Bearer %s" in step["equivalent"]  # the token never stands among the arguments of curl
    assert crons(trial) == (NEW,)  # a dry run
    ended = trial.run(*ROLLBACK)
    assert ended.code == 0, ended.err
    assert (trial.live(), crons(trial)) == (without_schedules.good, (OLD,))
    events = trial.run("runs", "show", ended.json["run_id"], "--json").json["events"]
    results = [event["data"]["result"] for event in events if event["kind"] == "step.ok"]
    assert {"restored": True, "schedules": [OLD], "before": [NEW]} in results


@pytest.mark.rotating("rules on the twin", 4)
@pytest.mark.long
def test_rule_16_guard_leaves_the_schedules_and_says_so(without_schedules: Drillbook) -> None:
    """An automatic rollback moves code alone: the schedule stays; the report has the line that restores it."""
    trial = proven_with(without_schedules, OLD)
    deploy_bad(trial, NEW)
    ended = trial.run("guard", "--mode", "act", "--json")
    assert ended.json["action"] == "rollback", ended.err
    assert (trial.live(), crons(trial)) == (without_schedules.good, (NEW,))
    (report,) = [path.read_text(encoding="utf-8") for path in trial.reports()]
    assert prose(f"stays: schedules: now {NEW}; {OLD} when version") in report
    assert "curl -sX PUT" in report


# --- the finer halves, on the World ---


def story(path: Path, **kinds: tuple[str, ...]) -> Story:
    """Return the story whose good version was proven while these things started it."""
    world = World()
    world.start_by(**kinds)
    return Story(path / "journal.sqlite", beginning=world)


def lines(story: Story, request: Request | None = None) -> dict[str, Coverage]:
    """Return what the plan says it covers, by what."""
    _, plan = prepare(story.tools(), request or Request(message="it fails"))
    assert isinstance(plan, Plan)
    return {line.what: line for line in plan.coverage}


def test_rule_16_a_person_restores_the_schedules(quick_path: Path) -> None:
    """The step comes right after the read-back, and its result is what was read back."""
    told = story(quick_path, schedules=(OLD,))
    told.world.start_by(schedules=(NEW,))
    run = roll_back(told.tools())
    actions = [step.action for step in run.plan.steps]
    assert actions[actions.index("read_back") + 1] == "restore_schedules"
    assert told.world.started_by.schedules == (OLD,)
    assert told.tools().runs.result(run.id, "restore_schedules") == {
        "restored": True,
        "schedules": [OLD],
        "before": [NEW],
    }
    assert any(prose(f"Schedules restored: {OLD}") in text for text in told.world.reports.texts.values())
    assert read_snapshots(told.tools())[told.bad.id].schedules == (NEW,)


def test_rule_16_an_automatic_rollback_never_does(quick_path: Path) -> None:
    """Code alone is moved; the line says that they stay, and the report repeats it."""
    told = story(quick_path, schedules=(OLD,))
    told.world.start_by(schedules=(NEW,))
    run = watch(told.tools())
    assert run.plan.kind is PlanKind.ROLLBACK
    assert "restore_schedules" not in [step.action for step in run.plan.steps]
    assert "triggers.set_schedules" not in told.world.calls
    assert told.world.started_by.schedules == (NEW,)
    (line,) = [line for line in run.plan.coverage if line.what == "schedules"]
    assert (line.fate, OLD in line.why, NEW in line.why) == (Fate.STAYS, True, True)


@pytest.mark.parametrize("kind", ["routes", "domains", "queues"])
def test_rule_16_what_no_step_restores_stays_with_both_lists(quick_path: Path, kind: str) -> None:
    """Routes, custom domains and queue consumers are compared, and left."""
    told = story(quick_path, **{kind: ("before.example.com",)})
    told.world.start_by(**{kind: ("now.example.com",)})
    changed = {"routes": "routes", "domains": "custom domains", "queues": "queue consumers"}[kind]
    line = lines(told)[changed]
    assert line.fate is Fate.STAYS
    assert "before.example.com" in line.why
    assert "now.example.com" in line.why
    roll_back(told.tools())
    assert told.world.started_by.of(TriggerKind(kind)) == ("now.example.com",)


def test_rule_16_what_is_as_it_was_is_one_line(quick_path: Path) -> None:
    """Nothing differs: no step, and one line says so."""
    told = story(quick_path, schedules=(OLD,), routes=("a/*",))
    line = lines(told)["schedules, routes, custom domains and queue consumers"]
    assert (line.fate, line.why) == (Fate.STAYS, f"the same as when version {told.good.id[:8]} was live")


def test_rule_16_what_cannot_be_read_is_not_measured(quick_path: Path) -> None:
    """A token without the permission: never "unchanged", and what was known before is worth a look."""
    told = story(quick_path, schedules=(OLD,))
    told.world.unreadable = {TriggerKind.SCHEDULES, TriggerKind.ROUTES}
    found = lines(told)
    assert found["schedules"].fate is Fate.REFUSED
    assert "not measured" in found["schedules"].why
    assert (found["routes"].fate, found["routes"].why[:12]) == (Fate.STAYS, "not measured")
    assert "restore_schedules" not in [step.action for step in roll_back(told.tools()).plan.steps]


def test_rule_16_without_a_snapshot_nothing_is_restored(quick_path: Path) -> None:
    """What the target had is not known: what is there now stays, and that is said."""
    told = story(quick_path)
    told.world.start_by(schedules=(NEW,))
    tools = told.tools()
    tools.checkpoints.save_checkpoint("production", "triggers", {})
    line = lines(told)["schedules"]
    assert line.fate is Fate.STAYS
    assert "not known what they were" in line.why
    roll_back(told.tools())
    assert told.world.started_by.schedules == (NEW,)


def test_rule_16_in_a_hurry_only_the_schedules_are_asked_for(quick_path: Path) -> None:
    """`--no-wait` costs one call more, for the one kind that a plan can restore; the rest is not claimed."""
    told = story(quick_path, schedules=(OLD,), routes=("a/*",))
    told.world.start_by(schedules=(NEW,))
    asked: list[str] = []
    told.world.before_call = asked.append
    found = lines(told, Request(message="it fails", wait=False))
    assert asked.count("triggers.read") == 1
    assert found["schedules"].fate is Fate.CHANGES
    rest = found["routes, custom domains and queue consumers"]
    assert (rest.fate, rest.why) == (Fate.STAYS, "not looked at, to be quick")


def test_rule_16_data_is_named(quick_path: Path) -> None:
    """Every binding behind which data outlives a version is named, also one that only the version left has."""
    world = World()
    told = Story(quick_path / "journal.sqlite", beginning=world)
    bindings = ("d1:ORDERS", "kv_namespace:CACHE", "durable_object_namespace:ROOMS", "queue:JOBS", "plain_text:MODE")
    bad = world.upload("worse", bindings=bindings, buckets=("uploads",))
    world.deploy(bad)
    found = lines(told)
    named = {what for what, line in found.items() if line.fate is Fate.NOT_COVERED}
    assert named == {
        "d1 ORDERS",
        "kv_namespace CACHE",
        "durable_object_namespace ROOMS",
        "queue JOBS",
        "r2_bucket uploads",
        "database",
    }
    assert "does not use it" in found["d1 ORDERS"].why


@pytest.mark.parametrize("bindings", [(), ("durable_object_namespace:ROOMS",)])
def test_rule_16_objects_that_would_run_the_bad_code_for_minutes_are_reset(
    quick_path: Path, bindings: tuple[str, ...]
) -> None:
    """The plan says what that costs; a Worker without any is switched as before."""
    world = World()
    told = Story(quick_path / "journal.sqlite", beginning=world)
    world.deploy(world.upload("worse", bindings=bindings))
    found = lines(told)
    assert ("durable_object_namespace ROOMS" in found) is bool(bindings)
    if bindings:
        assert "objects that are live are reset" in found["durable_object_namespace ROOMS"].why
    tools = equip(told.tools(), equivalents=Equivalents(activate="switch {version}", at_once=" at once"))
    _, plan = prepare(tools, Request(message="it fails", wait=False))
    assert isinstance(plan, Plan)
    typed = next(step.equivalent for step in plan.steps if step.action == "activate")
    assert typed == f"switch {told.good.id}{' at once' if bindings else ''}"
    roll_back(told.tools())
    assert world.resets == ([told.good.id] if bindings else [])


def test_rule_16_a_provider_that_says_no_does_not_stop_the_rollback(quick_path: Path) -> None:
    """The traffic has moved: the rest is done, and the report says that the schedules were left."""
    told = story(quick_path, schedules=(OLD,))
    told.world.start_by(schedules=(NEW,))

    def refuse(name: str) -> None:
        if name == "triggers.set_schedules":
            raise AuthError("the token lacks the permission")

    told.world.before_call = refuse
    run = roll_back(told.tools())
    assert told.world.live.sole == told.good.id
    result = told.tools().runs.result(run.id, "restore_schedules")
    assert isinstance(result, dict)
    assert result["restored"] is False
    assert any("Schedules not restored" in text for text in told.world.reports.texts.values())


@pytest.mark.parametrize("happened", [False, True])
def test_rule_16_an_interrupted_restore_is_picked_up(quick_path: Path, *, happened: bool) -> None:
    """Whether the effect is there or not, the resumed run ends with the schedules as they were."""
    told = story(quick_path, schedules=(OLD,))
    told.world.start_by(schedules=(NEW,))

    def break_off(name: str) -> None:
        if name == "triggers.set_schedules":
            raise ProviderUnavailable("no usable answer")

    told.world.before_call, told.world.after_call = (None, break_off) if happened else (break_off, None)
    with pytest.raises(PartlyDone):
        roll_back(told.tools())
    told.world.before_call = told.world.after_call = None
    roll_back(told.tools())
    assert told.world.started_by.schedules == (OLD,)
    assert told.world.calls.count("triggers.set_schedules") == (1 if happened else 2)


def test_rule_16_what_was_set_during_the_watch_counts(quick_path: Path) -> None:
    """A deployment goes live first and gets its schedules after; what it was proven with is what counts."""
    world = World()
    world.clock.at(world.clock.now() + 10, lambda: world.start_by(schedules=(OLD,)))
    told = Story(quick_path / "journal.sqlite", beginning=world)
    assert read_snapshots(told.tools())[told.good.id].schedules == (OLD,)


def test_rule_16_a_stable_version_is_remembered_for_as_long_as_it_is_needed(quick_path: Path) -> None:
    """What watches keep is pruned after 35 days; what a stable version ran with is not."""
    told = story(quick_path, schedules=(OLD,))
    told.world.clock.sleep(60 * 86_400)
    told.world.start_by(schedules=(NEW,))
    told.world.deploy(told.world.upload("fine"))
    told.world.clock.sleep(2)
    watch(told.tools(), for_s=25)
    assert read_snapshots(told.tools())[told.good.id].schedules == (OLD,)


def test_rule_16_only_the_versions_that_can_be_returned_to_are_kept(quick_path: Path) -> None:
    """The memory does not grow without end."""
    told = story(quick_path, schedules=(OLD,))
    tools = told.tools()
    for number in range(150):
        remember(tools, f"version-{number}", read_triggers(tools))
    found = read_snapshots(tools)
    assert len(found) == 100
    assert "version-149" in found
