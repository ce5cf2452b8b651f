"""`guard --next`: which deployment is the next one, whatever was interrupted before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cli_shell import Stream, make_shell
from values import replace

from backout.cli.guard.guard import run_watch as watch_as_typed
from backout.cli.guard.live import Live
from backout.cli.support.session import Session
from backout.errors import ProviderUnavailable
from backout.journal.stop import StopRequest
from backout.model.incident.incident import RunState
from backout.runbook.guard.next_deployment import find_newest_known, wait_for_next

from line import Story, by_version, watch

if TYPE_CHECKING:
    from pathlib import Path

    from backout.model.version import Version


class Crash(BaseException):
    """The process is gone."""


@pytest.fixture
def story(quick_path: Path) -> Story:
    """A World in which guard watches the version that was deployed, and is killed."""
    made = Story(quick_path / "journal.sqlite")
    killed_while(made, lambda: watch(made.tools()))
    return made


def killed_while(story: Story, doing: object, call: str = "health.look") -> None:
    """Have the process die in the middle of what it does."""

    def die(name: str) -> None:
        if name == call:
            raise Crash

    story.world.before_call = die
    assert callable(doing)
    with pytest.raises(Crash):
        doing()
    story.world.before_call = None


def deployed(story: Story, name: str) -> Version:
    """Deploy a version that fails, from outside."""
    version = story.world.upload(name)
    story.world.traffic_rule = by_version(version.id)
    story.world.deploy(version)
    return version


def guard_next(story: Story, folder: Path, within: str = "10m") -> tuple[int, str]:
    """Type `guard --next` and return the exit code and what was said."""
    shell = make_shell(folder)
    tools = replace(story.tools(), say=shell.output.say)
    session = Session(shell, tools, StopRequest(lambda: None), Live(shell.output, "guard", stream=False))
    code = watch_as_typed(session, early=False, next_within=within)
    out, err = shell.output.stdout, shell.output.stderr
    assert isinstance(out, Stream)
    assert isinstance(err, Stream)
    return code, out.getvalue() + err.getvalue()


def watched(story: Story) -> list[str]:
    """Return which versions were watched to an end, newest first."""
    runs = story.tools().runs.runs("production")
    guards = [run for run in runs if run.id.startswith("guard") and run.state is RunState.DONE]
    return [str(run.plan.step("watch").args["version"]) for run in guards]


def test_an_interrupted_watch_is_ended_and_the_next_deployment_is_watched(story: Story, tmp_path: Path) -> None:
    """It comes while guard waits: it is watched from its first second, and nothing else is."""
    world = story.world
    found: list[Version] = []
    world.clock.at(world.clock.now() + 30, lambda: found.append(deployed(story, "worse")))
    code, said = guard_next(story, tmp_path)
    (interrupted,) = [r for r in story.tools().runs.runs("production") if r.state is RunState.ABORTED]
    assert f"{interrupted.id} was interrupted; the next deployment is wanted, so it is ended" in said
    assert (code, watched(story)[0]) == (1, found[0].id)
    assert "void" not in said
    (asked,) = story.tools().journal.events(run=interrupted.id, kind="run.asked")
    assert asked.data["reason"] == "guard --next: another deployment is to be watched"


def test_what_was_deployed_after_the_interruption_is_the_next_one(story: Story, tmp_path: Path) -> None:
    """Nobody watched it for ten minutes: it is not taken for what is live already."""
    worse = deployed(story, "worse")
    story.world.clock.sleep(600)
    began = story.world.clock.now()
    code, said = guard_next(story, tmp_path)
    assert f"version {worse.id[:8]} went live 10 min ago, and it is not watched" in said
    assert watched(story)[0] == worse.id
    assert code in (1, 3)
    assert story.world.clock.now() - began < 120


def test_the_one_that_was_waited_for_takes_its_place(story: Story, tmp_path: Path) -> None:
    """A deployment came meanwhile, and while that is watched comes the one that was meant: it is watched, too."""
    world = story.world
    fine = world.upload("fine")
    world.traffic_rule = by_version("none")
    world.deploy(fine)
    world.clock.sleep(5)
    found: list[Version] = []
    world.clock.at(world.clock.now() + 10, lambda: found.append(deployed(story, "worse")))
    code, _ = guard_next(story, tmp_path)
    assert (code, watched(story)[:2]) == (1, [found[0].id, fine.id])


def test_a_wait_that_was_interrupted_goes_on_where_it_was(story: Story, tmp_path: Path) -> None:
    """`guard --next`, killed while it waits; a deployment; `guard --next` again: that deployment is the next one."""
    watch(story.tools())
    killed_while(story, lambda: guard_next(story, tmp_path))
    fresh = deployed(story, "worse")
    story.world.clock.sleep(60)
    _, said = guard_next(story, tmp_path)
    assert f"version {fresh.id[:8]} went live 60 s ago" in said


def test_a_wait_that_ended_is_over(story: Story) -> None:
    """None came in time; what was live then is old news for the next wait."""
    watch(story.tools())
    for _ in range(2):
        with pytest.raises(ProviderUnavailable, match="no new deployment within 60 s"):
            wait_for_next(story.tools(), 60)


def test_what_nobody_watched_for_hours_is_the_next_one(story: Story, tmp_path: Path) -> None:
    """Ctrl-C in the evening, a deployment, and `guard --next` two hours later: what is live is bad by then."""
    worse = deployed(story, "worse")
    story.world.clock.sleep(7_200)
    guard_next(story, tmp_path, within="60s")
    assert watched(story)[0] == worse.id


def test_what_is_live_for_long_is_not_the_next_one(story: Story, tmp_path: Path) -> None:
    """It came two days ago: the next one is waited for, and what watches this one is said."""
    worse = deployed(story, "worse")
    story.world.clock.sleep(2 * 86_400)
    told: list[str] = []
    tools = replace(story.tools(), say=told.append)
    interrupted, *_ = tools.runs.runs("production")
    with pytest.raises(ProviderUnavailable):
        wait_for_next(tools, 60, after=find_newest_known(tools, interrupted))
    wanted = (
        f"{worse.id[:8]} went live 2 d ago, and it is not watched; `backout guard -e production` watches what is live"
    )
    assert any(wanted in line for line in told)


def test_a_rollback_that_was_interrupted_is_finished_first(quick_path: Path, tmp_path: Path) -> None:
    """What is live is bad until then; afterwards the next deployment is waited for all the same."""
    story = Story(quick_path / "journal.sqlite")
    killed_while(story, lambda: watch(story.tools()), "deployments.activate")
    found: list[Version] = []
    story.world.clock.at(story.world.clock.now() + 300, lambda: found.append(deployed(story, "worse")))
    _, said = guard_next(story, tmp_path)
    assert "picking up run rollback-" in said
    assert [made.main for made in story.world.activations][:1] == [story.good.id]
    assert watched(story)[0] == found[0].id
