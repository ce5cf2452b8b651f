"""What fuzzing the provider found, each once in the small: lost answers, late lists, and a hotfix at that moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from values import replace

from backout.analysis.history.remark_text import parse
from backout.errors import PartlyDone, ProviderUnavailable, WorldMoved
from backout.model.guard.policy import Mode
from backout.model.incident.incident import RunState
from backout.model.plan import PlanKind
from backout.model.remark import RemarkKind
from backout.runbook.guard import guard
from backout.runbook.procedures import Actions

from line import Story, roll_back, watch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from backout.model.deployment import Cohort, Deployment, Share
    from backout.model.version import Version
    from backout.ports import Deployments
    from backout.providers.memory import World


class Killed(BaseException):
    """The process is dead."""


class LateList:
    """The World's deployments, listed as they were some seconds ago."""

    def __init__(self, world: World, late_s: float) -> None:
        self._world = world
        self._late_s = late_s

    def history(self) -> tuple[Deployment, ...]:
        """Return what was there then."""
        known = self._world.deployments.history()
        return tuple(d for d in known if d.created_at <= self._world.clock.now() - self._late_s) or known[-1:]

    def activate(self, version: str, *, message: str, force: bool = False, immediate: bool = False) -> Deployment:
        """Switch at once."""
        return self._world.deployments.activate(version, message=message, force=force)

    def deploy(
        self, shares: Sequence[Share], *, message: str, force: bool = False, cohorts: Sequence[Cohort] = ()
    ) -> Deployment:
        """Deploy at once."""
        return self._world.deployments.deploy(shares, message=message, force=force, cohorts=cohorts)


def lose(story: Story, call: str, *, first: Callable[[], object] = lambda: None, times: int = 1) -> None:
    """Let `first` happen just before the next such call takes effect, and lose its answer."""
    left = [times]

    def before(name: str) -> None:
        if name == call and left[0]:
            first()

    def after(name: str) -> None:
        if name == call and left[0]:
            left[0] -= 1
            raise ProviderUnavailable("no usable answer; it is unknown whether the request took effect")

    story.world.before_call, story.world.after_call = before, after


def hotfix(story: Story) -> Version:
    """Let a colleague deploy the mended version."""
    mended = story.world.upload("hotfix")
    story.world.deploy(mended)
    story.world.clock.sleep(0.1)
    return mended


def switches(story: Story) -> int:
    """Return how often a rollback was deployed."""
    said = [parse(deployment.message) for deployment in story.world.all_deployments]
    return sum(1 for remark in said if remark is not None and remark.kind is RemarkKind.ROLLBACK)


def test_a_list_that_is_late_is_not_taken_for_a_switch_that_never_happened(quick_path: Path) -> None:
    """The process died right after the switch; the run that is resumed at once waits until a list could show it."""
    story = Story(quick_path / "journal.sqlite")
    story.world.clock.sleep(10)
    late: Deployments = LateList(story.world, 3.0)

    def die(name: str) -> None:
        if name == "deployments.activate":
            raise Killed

    story.world.after_call = die
    with pytest.raises(Killed):
        roll_back(replace(story.tools(), deployments=late))
    story.world.after_call = None
    assert switches(story) == 1
    roll_back(replace(story.tools(), deployments=late))
    assert switches(story) == 1
    assert story.world.live.sole == story.good.id


@pytest.mark.parametrize("call", ["deployments.deploy", "deployments.activate"])
def test_a_hotfix_under_a_deployment_without_an_answer_is_put_back(quick_path: Path, call: str) -> None:
    """It came between our look and our deployment, and the answer was lost: what we undid is live again at once."""
    story = Story(quick_path / "journal.sqlite")
    mended: list[Version] = []
    lose(story, call, first=lambda: mended.append(hotfix(story)))
    with pytest.raises(WorldMoved, match="put back"):
        roll_back(story.tools())
    assert story.world.live.sole == mended[0].id


def test_a_hotfix_under_a_proof_that_a_killed_process_made_is_put_back(quick_path: Path) -> None:
    """Nobody could look at once; the resumed run does before anything else."""
    story = Story(quick_path / "journal.sqlite")
    mended: list[Version] = []

    def before(name: str) -> None:
        if name == "deployments.deploy" and not mended:
            mended.append(hotfix(story))

    def after(name: str) -> None:
        if name == "deployments.deploy":
            raise Killed

    story.world.before_call, story.world.after_call = before, after
    with pytest.raises(Killed):
        roll_back(story.tools())
    assert story.world.live.main == story.bad.id
    story.world.before_call = story.world.after_call = None
    with pytest.raises(WorldMoved, match="put back"):
        roll_back(story.tools())
    assert story.world.live.sole == mended[0].id


def test_a_run_whose_switch_never_happened_ends_when_the_world_moved(quick_path: Path) -> None:
    """The list reaches back to before the run and has no switch of it: there is nothing to resume for ever."""
    story = Story(quick_path / "journal.sqlite")

    def lost(name: str) -> None:
        if name == "deployments.activate":
            raise ProviderUnavailable("no usable answer")

    story.world.before_call = lost
    with pytest.raises(PartlyDone):
        roll_back(story.tools())
    story.world.before_call = None
    mended = hotfix(story)
    with pytest.raises(WorldMoved):
        roll_back(story.tools())
    assert story.tools().runs.runs("production")[0].state is RunState.FAILED
    assert story.world.live.sole == mended.id


def test_what_is_not_live_any_more_is_not_verified(quick_path: Path) -> None:
    """A hotfix after the switch: the verification ends at once, proves nothing, and no second hop follows."""
    story = Story(quick_path / "journal.sqlite")
    mended: list[Version] = []

    def after(name: str) -> None:
        if name == "deployments.activate":
            story.world.clock.at(story.world.clock.now() + 8.0, lambda: mended.append(hotfix(story)))

    story.world.after_call = after
    run = watch(story.tools())
    assert run.plan.kind is PlanKind.ROLLBACK
    verified = story.tools().runs.result(run.id, "verify")
    assert isinstance(verified, dict)
    assert verified["verified"] is None
    assert "took its place" in str(verified["summary"])
    assert story.world.live.sole == mended[0].id


def test_what_cannot_be_read_at_the_end_is_not_verified(quick_path: Path) -> None:
    """All criteria are met, and nobody can say what is live: no proof."""
    story = Story(quick_path / "journal.sqlite")
    switched: list[float] = []

    def before(name: str) -> None:
        # read back is right after the switch; what fails is every look later than that
        if name == "deployments.history" and switched and story.world.clock.now() > switched[0] + 1.0:
            raise ProviderUnavailable("no usable answer")

    def after(name: str) -> None:
        if name == "deployments.activate":
            switched.append(story.world.clock.now())

    story.world.before_call, story.world.after_call = before, after
    run = roll_back(story.tools())
    verified = story.tools().runs.result(run.id, "verify")
    assert isinstance(verified, dict)
    assert verified["verified"] is None
    assert "could not be read" in str(verified["summary"])


def test_a_list_older_than_the_deployment_is_no_other_deployment(quick_path: Path) -> None:
    """Guard and the switch read again: a late list voids no verdict, and no run ends because of it."""
    story = Story(quick_path / "journal.sqlite")
    tools = story.tools()
    plan = guard.plan(tools, mode=Mode.ACT, for_s=60)
    run = tools.journal.submit(plan, actor="guard", reason=plan.why)
    late: Deployments = LateList(story.world, 4.0)  # the deployment is two seconds old
    ended = tools.journal.drive(run, Actions(replace(tools, deployments=late)), actor="guard")
    assert ended.plan.kind is PlanKind.ROLLBACK
    assert story.world.live.sole == story.good.id


def test_a_switch_that_is_listed_needs_no_answer(quick_path: Path) -> None:
    """Alone at night nobody resumes a run: the list shows that it was made, so the rollback goes on and is verified."""
    story = Story(quick_path / "journal.sqlite")
    lose(story, "deployments.activate")
    run = watch(story.tools())
    assert (run.plan.kind, run.state) == (PlanKind.ROLLBACK, RunState.DONE)
    assert (switches(story), story.world.live.sole) == (1, story.good.id)
    verified = story.tools().runs.result(run.id, "verify")
    assert isinstance(verified, dict)
    assert verified["verified"] is True
