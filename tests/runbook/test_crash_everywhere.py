"""A crash before and after every port call and every commit, then a second process: same end, each effect once."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from canaries import CANARIES, leaks_below
from journal_engines import on_both
from pushing import Missing, push
from ramped import Ramped
from values import replace

from backout.analysis.history.remark_text import parse
from backout.errors import DecisionNeeded, Paused
from backout.model.approval import ApprovalRule, Change
from backout.model.incident.incident import RunState
from backout.model.plan import Plan, PlanKind
from backout.model.remark import Code, RemarkKind
from backout.model.version import Mark
from backout.plan.rollback import Request
from backout.providers.memory import make_steady
from backout.runbook.procedures import Actions
from backout.runbook.rollback.rollback import prepare

from extent import sampled
from line import Story, roll_back, watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backout.model.incident.incident import Event, Run
    from backout.runbook.toolbox import Toolbox

    from conftest import Record

pytestmark = pytest.mark.rotating("crash sweeps", 6)


class Crash(BaseException):
    """The process dies here: nothing of ours may catch it, as nothing catches kill -9."""


class CrashAt:
    """Counts moments (port calls and commits, before and after each) and crashes at one of them."""

    def __init__(self, moment: int | None = None) -> None:
        self.seen = 0
        self.names: list[str] = []
        self._moment = moment

    def __call__(self, name: str) -> None:
        if self.seen == self._moment:
            self.seen += 1
            raise Crash(name)
        self.seen += 1
        self.names.append(name)


Procedure = tuple[str, "Callable[..., object]"]


def run_with(story: Story | Missing, procedure: Callable[..., object], crash: CrashAt) -> bool:
    """Run the procedure; whether it got to its end."""
    story.world.before_call = lambda name: crash(f"before {name}")
    story.world.after_call = lambda name: crash(f"after {name}")
    try:
        procedure(story.tools(crash_point=crash))
    except Crash:
        return False
    finally:
        story.world.before_call = story.world.after_call = None
    return True


def again(story: Story, procedure: Callable[..., object]) -> None:
    """Type the command again, unless the crash came after the very last commit: then everything is done."""
    if not ended(story):
        procedure(story.tools())


def ended(story: Story) -> bool:
    """Whether the newest run is a rollback that is done: it may crash after its last commit."""
    newest = next(iter(story.tools().runs.runs("production")))
    return newest.plan.kind is PlanKind.ROLLBACK and newest.state is RunState.DONE


def check_end(story: Story, *, guarded: bool) -> None:
    """The right version is live by one activation, quarantined once, verified, and reported in one file."""
    world, tools = story.world, story.tools()
    assert world.live.sole == story.good.id
    assert len(world.activations) == 1
    assert len(world.reports.texts) == 1
    rollbacks = [run for run in tools.runs.runs("production") if run.plan.kind is PlanKind.ROLLBACK]
    assert [run.state for run in rollbacks] == [RunState.DONE]
    assert bool(rollbacks[0].plan.cause) is guarded
    marks = [mark for mark in tools.marks.marks("production") if mark.mark is Mark.QUARANTINED]
    assert [mark.version for mark in marks] == [story.bad.id]
    starts = list(tools.journal.events(run=rollbacks[0].id, kind="step.ok"))
    assert [event.step for event in starts] == list(range(len(rollbacks[0].plan.steps)))


def some(total: int, every: int = 12, everything: int = 9) -> tuple[range, str]:
    """Return moments to crash at, and in words."""
    chosen = sampled(total, every, everything)
    return chosen, "every moment, no sampling" if chosen.step == 1 else f"every {chosen.step}th moment"


def moments(path: Path, procedure: Callable[..., object]) -> int:
    """Return how many moments the undisturbed procedure has."""
    count = CrashAt()
    assert run_with(Story(path), procedure, count)
    return count.seen


@pytest.mark.proof
@on_both
@pytest.mark.parametrize(("name", "procedure"), [("rollback", roll_back), ("guard", watch)])
def test_crash_at_every_moment_then_again(
    quick_path: Path, name: str, procedure: Callable[..., object], proof: Record
) -> None:
    """Whatever the moment of the crash, the same command typed again brings the same end."""
    total = moments(quick_path / "whole.sqlite", procedure)
    assert total > 50
    chosen, how_many = some(total, everything=7)
    for moment in chosen:
        story = Story(quick_path / f"{moment}.sqlite")
        if not run_with(story, procedure, CrashAt(moment)):
            again(story, procedure)
        check_end(story, guarded=name == "guard")
    proof(
        f"{name} crashed before and after every port call and every commit, then again: same end, each effect once",
        trials=len(chosen),
        failures=0,
        note=f"tests/runbook/test_crash_everywhere.py ({how_many})",
    )


EVERYTHING = {"approvals": ApprovalRule(tuple(Change))}


def newest(tools: Toolbox) -> Run:
    return tools.runs.runs("production")[0]


def approve_and_roll_back(tools: Toolbox) -> object:
    """Roll back as the command does; a person approves the plan when it waits for that."""
    try:
        return roll_back(tools)
    except DecisionNeeded:
        tools.runs.ask(newest(tools).id, "approve", actor="ops@host", reason="I looked")
        return roll_back(tools)


def pause_and_roll_back(tools: Toolbox) -> object:
    """Roll back; a person pauses it in the middle, and has it go on."""

    def interfere(event: Event) -> None:
        if (event.kind, event.step) == ("step.ok", 1) and not asked(tools, event.run, "pause"):
            tools.runs.ask(event.run, "pause", actor="ops@host", reason="wait")

    run = newest(tools)
    if run.state.is_over:
        _, plan = prepare(tools, Request(message="it fails"))
        assert isinstance(plan, Plan)
        tools.journal.submit(plan, actor="ops@host", reason="it fails")
    with suppress(Paused):
        return tools.journal.drive(newest(tools).id, Actions(tools), actor="ops@host", notify=interfere)
    assert newest(tools).state is RunState.PAUSED
    tools.runs.ask(newest(tools).id, "resume", actor="ops@host", reason="go on")
    return roll_back(tools)


def asked(tools: Toolbox, run: str, what: str) -> list[int]:
    """Return where in the journal something was asked of a run."""
    return [event.seq for event in tools.journal.events(run=run, kind="run.asked") if event.data["what"] == what]


def find_first_effect(tools: Toolbox, run: str) -> int | None:
    """Return where in the journal the first step that changes something was begun."""
    plan, actions = newest(tools).plan, Actions(tools)
    starts = tools.journal.events(run=run, kind="step.start")
    return next((each.seq for each in starts if actions[plan.steps[each.step or 0].action].effect), None)


@pytest.mark.proof
@on_both
def test_crash_while_a_plan_waits_for_its_approval(quick_path: Path, proof: Record) -> None:
    """Whatever the moment: approved once, nothing changed before that, and the same end."""

    def strict(path: Path) -> Story:
        return Story(path, approvals=EVERYTHING)

    count = CrashAt()
    assert run_with(strict(quick_path / "whole.sqlite"), approve_and_roll_back, count)
    chosen, how_many = some(count.seen, everything=7)
    for moment in chosen:
        story = strict(quick_path / f"{moment}.sqlite")
        if not run_with(story, approve_and_roll_back, CrashAt(moment)):
            tools = story.tools()
            if newest(tools).plan.kind is PlanKind.ROLLBACK and not asked(tools, newest(tools).id, "approve"):
                assert find_first_effect(tools, newest(tools).id) is None, moment
                assert not story.world.activations, moment
            again(story, approve_and_roll_back)
        check_end(story, guarded=False)
        tools = story.tools()
        (approved,) = asked(tools, newest(tools).id, "approve")
        begun = find_first_effect(tools, newest(tools).id)
        assert begun is not None
        assert approved < begun, moment
    proof(
        "a rollback that needs an approval crashed at every moment, then again: approved once, no effect before it",
        trials=len(chosen),
        failures=0,
        note=f"tests/runbook/test_crash_everywhere.py ({how_many})",
    )


@pytest.mark.proof
@on_both
def test_crash_while_a_run_is_paused(quick_path: Path, proof: Record) -> None:
    """Whatever the moment: paused once, each effect once, and the same end."""
    count = CrashAt()
    assert run_with(Story(quick_path / "whole.sqlite"), pause_and_roll_back, count)
    chosen, how_many = some(count.seen, everything=7)
    for moment in chosen:
        story = Story(quick_path / f"{moment}.sqlite")
        if not run_with(story, pause_and_roll_back, CrashAt(moment)):
            again(story, pause_and_roll_back)
        check_end(story, guarded=False)
        assert len(asked(story.tools(), newest(story.tools()).id, "pause")) <= 1, moment
    proof(
        "a rollback paused in the middle crashed at every moment, then again: same end, each effect once",
        trials=len(chosen),
        failures=0,
        note=f"tests/runbook/test_crash_everywhere.py ({how_many})",
    )


def test_what_guard_does_waits_for_no_approval(quick_path: Path) -> None:
    """Where every plan of a person needs one."""
    story = Story(quick_path / "journal.sqlite", approvals=EVERYTHING)
    watch(story.tools())
    check_end(story, guarded=True)
    assert not list(story.tools().journal.events(kind="run.waiting"))


def bless(tools: Toolbox) -> object:
    """Watch a deployment that turns out well."""
    return watch(tools, for_s=25)


@pytest.mark.long
@pytest.mark.proof
@on_both
def test_crash_while_a_version_is_marked_stable(quick_path: Path, proof: Record) -> None:
    """Whatever the moment: marked once in the journal, told once at the provider, and no traffic was moved."""

    def healthy(path: Path) -> Story:
        story = Story(path)
        story.world.traffic_rule = make_steady(2000)
        return story

    count = CrashAt()
    assert run_with(healthy(quick_path / "whole.sqlite"), bless, count)
    chosen, how_many = some(count.seen)
    for moment in chosen:
        story = healthy(quick_path / f"{moment}.sqlite")
        if not run_with(story, bless, CrashAt(moment)) and not is_over(story):
            bless(story.tools())
        world, tools = story.world, story.tools()
        assert not world.activations
        assert world.live.sole == story.bad.id
        said = [parse(deployment.message) for deployment in world.all_deployments]
        told = [remark for remark in said if remark is not None and remark.code == Code.of(story.bad)]
        assert [remark.kind for remark in told] == [RemarkKind.STABLE], moment
        marks = [mark for mark in tools.marks.marks("production") if mark.version == story.bad.id]
        assert [(mark.mark, mark.run) for mark in marks] == [(Mark.STABLE, told[0].run)]
    proof(
        "a watch that ends healthy crashed at every moment, then again: marked and told once, no traffic moved",
        trials=len(chosen),
        failures=0,
        note=f"tests/runbook/test_crash_everywhere.py ({how_many})",
    )


def is_over(story: Story) -> bool:
    """Whether the run of the watch got to its end; the story begins with another one."""
    runs = story.tools().runs.runs("production")[:-1]
    return bool(runs) and runs[0].state.is_over


@pytest.mark.long
@pytest.mark.proof
@on_both
def test_crash_twice_in_the_same_run(quick_path: Path) -> None:
    """A second crash while resuming changes nothing about the end."""
    total = moments(quick_path / "whole.sqlite", roll_back)
    for first in sampled(total, 40, 20):
        for second in sampled(30, 15, 8):
            story = Story(quick_path / f"{first}-{second}.sqlite")
            for moment in (first, second):
                if ended(story) or run_with(story, roll_back, CrashAt(moment)):
                    break
            else:
                again(story, roll_back)
            check_end(story, guarded=False)


def step_up(tools: Toolbox) -> object:
    """Watch a gradual deployment, or go on with that, as the command does."""
    return watch(replace(tools, health=None))


def quick_ramp(path: Path, bad_at: float = 200.0) -> Ramped:
    """Twelve seconds a step, in which latency shows that it lasts, and enough requests in each to be sure."""
    return Ramped(path, bad_at=bad_at, stage_s=12.0, per_s=100_000)


def go_on(story: Ramped) -> None:
    """Type the command again until what was begun is over; a crash after the very last commit leaves nothing."""
    tools = story.tools()
    if not tools.runs.runs("production")[0].state.is_over or not story.world.activations:
        step_up(tools)


@pytest.mark.long
@pytest.mark.proof
@on_both
def test_crash_while_a_version_is_moved_up(quick_path: Path, proof: Record) -> None:
    """Whatever the moment: each step of the ramp is made once, in its order, and the version ends up stable."""
    count = CrashAt()
    assert run_with(quick_ramp(quick_path / "whole.sqlite"), step_up, count)
    assert count.seen > 100
    chosen, how_many = some(count.seen)
    for moment in chosen:
        story = quick_ramp(quick_path / f"{moment}.sqlite")
        if not run_with(story, step_up, CrashAt(moment)):
            go_on(story)
        good, new = story.good.id, story.canary.id
        assert story.shares() == [{good: 50.0, new: 50.0}, {new: 100.0}], moment
        marks = [mark.version for mark in story.tools().marks.marks("production") if mark.mark is Mark.STABLE]
        assert marks[-1] == new, moment
        assert [run.state for run in story.tools().runs.runs("production")[:5]] == [RunState.DONE] * 5, moment
    proof(
        "a ramp crashed before and after every port call and every commit, then again: each step once, in its order",
        trials=len(chosen),
        failures=0,
        note=f"tests/runbook/test_crash_everywhere.py ({how_many})",
    )


@pytest.mark.long
@pytest.mark.proof
@on_both
def test_crash_while_a_ramp_is_taken_back(quick_path: Path, proof: Record) -> None:
    """A version that breaks at 50 %, whatever the moment: straight back to the old one by one activation."""
    count = CrashAt()
    assert run_with(quick_ramp(quick_path / "whole.sqlite", bad_at=50.0), step_up, count)
    chosen, how_many = some(count.seen)
    for moment in chosen:
        story = quick_ramp(quick_path / f"{moment}.sqlite", bad_at=50.0)
        if not run_with(story, step_up, CrashAt(moment)):
            go_on(story)
        good, new = story.good.id, story.canary.id
        assert story.shares() == [{good: 50.0, new: 50.0}, {good: 100.0}], moment
        bad = [mark.version for mark in story.tools().marks.marks("production") if mark.mark is Mark.QUARANTINED]
        assert bad == [new], moment
        assert len(story.world.reports.texts) == 1, moment
    proof(
        "a ramp taken back crashed at every moment, then again: one step up, one way back, one report",
        trials=len(chosen),
        failures=0,
        note=f"tests/runbook/test_crash_everywhere.py ({how_many})",
    )


def apart(path: Path) -> Missing:
    """Return the story after a rollback: the newest version is not the live one."""
    story = Missing(path)
    story.world.deploy(story.good)
    story.world.activations.clear()
    return story


@pytest.mark.proof
@pytest.mark.parametrize(("way", "begin"), [("on the newest version", Missing), ("apart from it", apart)])
@on_both
def test_crash_while_secrets_are_set(
    quick_path: Path, way: str, begin: Callable[[Path], Missing], proof: Record
) -> None:
    """Whatever the moment: the values of the source on the code that was live, one run, and no value in the journal."""
    count = CrashAt()
    assert run_with(begin(quick_path / "whole.sqlite"), push, count)
    assert count.seen > 30
    chosen, how_many = some(count.seen, everything=5)
    for moment in chosen:
        folder = quick_path / str(moment)
        folder.mkdir()
        story = begin(folder / "journal.sqlite")
        code = story.world.builds[story.world.live.main].version.code_hash
        if not run_with(story, push, CrashAt(moment)) and not is_set(story):
            push(story.tools())
        world, tools = story.world, story.tools()
        live = world.builds[world.live.main]
        assert (live.secrets, live.version.code_hash) == (CANARIES, code), moment
        (run,) = tools.runs.runs("production")
        assert run.state is RunState.DONE, moment
        if begin is apart:
            assert len(world.activations) == 1, moment
            ours = [build for build in world.builds.values() if build.version.message.startswith("[backout")]
            assert len(ours) == 1, moment
        found = tools.runs.result(run.id, "read_secrets")
        assert isinstance(found, dict)
        assert found["version"] == world.live.main, moment
        tools.journal.close()  # type: ignore[attr-defined]
        assert leaks_below(folder) == [], moment
    proof(
        f"setting secrets ({way}) crashed at every moment, then again: the source's values on the live code, none kept",
        trials=len(chosen),
        failures=0,
        note=f"tests/runbook/test_crash_everywhere.py ({how_many})",
    )


def is_set(story: Missing) -> bool:
    """Whether the run that sets them is done: it may crash after its last commit."""
    runs = story.tools().runs.runs("production")
    return bool(runs) and runs[0].state.is_over
