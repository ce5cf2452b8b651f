"""A holdback on the memory World: a cut-over is a split for its first minutes, then whole again, whatever crashes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from crashing import Crash, dies_at
from journal_engines import on_both
from values import replace

from backout.analysis.history.marks import read_marks
from backout.analysis.history.remark_text import parse
from backout.analysis.history.stability import find_newcomer
from backout.model.guard.policy import Mode
from backout.model.incident.incident import RunState
from backout.model.plan import PlanKind
from backout.model.remark import Remark, RemarkKind
from backout.model.version import Mark, VersionId, VersionMark
from backout.plan.ramp import AT_LEAST_S, HOLDBACK_S
from backout.providers.memory import make_steady, quiet
from backout.runbook.guard.guard import may_go_on
from backout.runbook.observe import observe

from extent import sampled
from line import POLICY, Story, watch

if TYPE_CHECKING:
    from pathlib import Path

    from backout.model.guard.signals import Counts

HELD_BACK = replace(POLICY, guard=replace(POLICY.guard, holdback=10.0))


class HeldBack(Story):
    """A proven version and a cut-over to the next one, whose requests fail at `error_rate`."""

    error_rate = 0.0

    def __init__(self, path: Path, per_s: int = 3000) -> None:
        super().__init__(path, HELD_BACK)
        self.per_s = per_s
        self.world.traffic_rule = self.traffic

    def traffic(self, second: int, version: str) -> Counts | None:
        """Split the requests as the deployment of that second does."""
        live = self.world.live_at(second)
        share = next((s.percentage for s in live.shares if s.version == version), 0.0) if live else 0.0
        rate = self.error_rate if version == self.bad.id else 0.0
        return make_steady(round(self.per_s * share / 100), error_rate=rate)(second, version) if share else None

    def shares(self) -> list[dict[str, float]]:
        """Return what the deployments that moved traffic gave to whom, oldest first."""
        return [{s.version: s.percentage for s in d.shares if s.percentage} for d in self.world.activations]

    def both(self) -> dict[str, float]:
        """Return the shares of the first minutes."""
        return {self.bad.id: 90.0, self.good.id: 10.0}


@pytest.fixture
def story(tmp_path: Path) -> HeldBack:
    return HeldBack(tmp_path / "journal.sqlite")


def test_the_old_version_keeps_a_part_for_the_first_minutes(story: HeldBack) -> None:
    """90 and 10, then everything again; the last watch marks it stable, and every machine reads the steps as ours."""
    watch(story.tools())
    assert story.shares() == [story.both(), {story.bad.id: 100.0}]
    held, whole = story.world.activations
    assert AT_LEAST_S <= whole.created_at - held.created_at <= HOLDBACK_S + 5
    marks = [mark.version for mark in story.tools().marks.marks("production") if mark.mark is Mark.STABLE]
    assert marks[-1] == story.bad.id
    kinds = [run.plan.kind for run in story.tools().runs.runs("production")[:4]]
    assert kinds == [PlanKind.GUARD, PlanKind.RAMP, PlanKind.GUARD, PlanKind.RAMP]
    read = read_marks(tuple(reversed(story.world.all_deployments)))
    steps = [d for d in read if (said := parse(d.message)) is not None and said.kind is RemarkKind.RAMP]
    assert [step.doubt for step in steps] == [None, None]


def test_a_bad_version_goes_straight_back(story: HeldBack) -> None:
    """It is told from the old one beside it; nothing is left of the split, and the right one is quarantined."""
    story.error_rate = 0.2
    run = watch(story.tools())
    assert run.plan.kind is PlanKind.ROLLBACK
    assert story.shares() == [story.both(), {story.good.id: 100.0}]
    bad = [mark.version for mark in story.tools().marks.marks("production") if mark.mark is Mark.QUARANTINED]
    assert bad == [story.bad.id]


def test_the_version_that_is_held_back_is_no_newcomer(story: HeldBack) -> None:
    """A person who rolls back in these minutes leaves the new version."""
    story.world.activations.clear()
    story.world.before_call = None
    seen: list[str] = []
    story.world.clock.at(story.world.clock.now() + 20, lambda: seen.append(find_newcomer(observe(story.tools()))))
    watch(story.tools())
    assert seen == [story.bad.id]


def test_a_quiet_night_ends_with_everything_where_it_was_deployed(story: HeldBack) -> None:
    """Nobody came, so nothing is known of either: the cut-over is made whole again, and the watch says that."""
    story.world.traffic_rule = quiet
    watch(replace(story.tools(), health=None))
    assert story.shares() == [story.both(), {story.bad.id: 100.0}]


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.ASK])
def test_only_an_armed_guard_holds_back(story: HeldBack, mode: Mode) -> None:
    """The other modes watch the cut-over as it is."""
    watch(story.tools(), mode=mode)
    assert story.shares() == []


def test_a_schema_that_the_old_version_does_not_know_forbids_it(story: HeldBack) -> None:
    """Rule 4, as for any traffic that an older version gets; that is said, and the cut-over is watched."""
    story.world.migrate("0002_more")
    said: list[str] = []
    watch(replace(story.tools(), say=said.append))
    assert story.shares() == []
    assert any("no holdback" in text for text in said)


def test_secrets_that_changed_with_the_cut_over_forbid_it(story: HeldBack) -> None:
    """Rule 7: only the provider tells, when it refuses the step; the cut-over is watched as it is, to its end."""
    world = story.world
    proof = VersionMark(Mark.STABLE, VersionId(story.bad.id), None, world.clock.now(), "guard-x", "healthy")
    story.tools().marks.mark("production", proof, actor="ops@host")
    story.bad = world.upload("with a new key", secrets={"KEY": "new"})
    world.deploy(story.bad)
    world.clock.sleep(2)
    world.activations.clear()
    said: list[str] = []
    watch(replace(story.tools(), say=said.append))
    assert story.shares() == []
    assert any("no holdback" in text and "secrets changed" in text for text in said)
    marks = [mark.version for mark in story.tools().marks.marks("production") if mark.mark is Mark.STABLE]
    assert marks[-1] == story.bad.id


def test_a_cut_over_that_is_older_is_left_alone(story: HeldBack) -> None:
    """Its first minutes are over."""
    story.world.clock.sleep(130)
    watch(story.tools(), for_s=200)
    assert story.shares() == []


@pytest.mark.proof
@on_both
def test_crash_while_the_old_version_is_held_back(quick_path: Path) -> None:
    """Whatever the moment: each step once, in its order."""
    for moment in sampled(1200, 300, 80):
        story = HeldBack(quick_path / f"{moment}.sqlite", per_s=100_000)
        if not dies_at(story, moment + 1, watch):
            break
        runs = story.tools().runs.runs("production")
        if not runs[0].state.is_over:
            assert may_go_on(runs[0]), moment
        if not (runs[0].state.is_over and story.shares()):
            watch(story.tools())
        assert story.shares() == [story.both(), {story.bad.id: 100.0}], moment


def not_held_back(story: HeldBack, why: str) -> None:
    """The cut-over is watched as it is, and guard says why."""
    said: list[str] = []
    watch(replace(story.tools(), say=said.append))
    assert all(story.world.live.sole == d.sole for d in story.world.activations), story.shares()
    assert any("no holdback" in text and why in text for text in said), said


def test_a_version_that_nobody_proved_gets_nothing_back(story: HeldBack) -> None:
    """Rule 5: the hotfix of a version that failed unwatched; no robot gives that traffic unless the policy says so."""
    world = story.world
    fix = world.upload("hotfix")
    world.deploy(fix)
    world.clock.sleep(2)
    world.activations.clear()
    not_held_back(story, "no watch of it ever ended healthy")
    assert story.shares() == []


@pytest.mark.parametrize("accepts", [False, True])
def test_a_version_that_is_questioned_gets_nothing_back(story: HeldBack, accepts: bool) -> None:
    """Rule 5: it was stable, and it answers otherwise since; only a person gives it traffic, whatever is unproven."""
    story.policy = replace(HELD_BACK, guard=replace(HELD_BACK.guard, accept_unproven=accepts))
    at = story.world.clock.now()
    doubt = VersionMark(Mark.QUESTIONED, VersionId(story.good.id), None, at, "guard-x", "it is 404")
    story.tools().marks.mark("production", doubt, actor="ops@host")
    not_held_back(story, "questioned")
    assert story.shares() == []


def test_what_a_person_left_by_hand_gets_nothing_back(story: HeldBack) -> None:
    """Back to the version before in the provider's console: the one that was left gets no traffic, proven or not."""
    world = story.world
    mark = VersionMark(Mark.STABLE, VersionId(story.bad.id), None, world.clock.now(), "guard-x", "healthy")
    story.tools().marks.mark("production", mark, actor="ops@host")
    world.deploy(story.good)
    world.clock.sleep(2)
    world.activations.clear()
    not_held_back(story, "was live before version")
    assert story.shares() == []


@pytest.mark.parametrize("ramp", [(), (50.0, 100.0)])
def test_a_holdback_that_was_held_is_made_whole_by_the_next_watch(story: HeldBack, ramp: tuple[float, ...]) -> None:
    """A hold while both serve leaves the split; a person ends the hold, and the watch that guard asks for ends it."""
    world = story.world
    story.policy = replace(HELD_BACK, guard=replace(HELD_BACK.guard, ramp=ramp))
    hold = str(Remark(RemarkKind.HOLD, until=world.clock.now() + 600, text="migrating"))
    shares = tuple(story.both().items())
    world.clock.at(world.clock.now() + 20, lambda: world.deploy(*shares, message=hold))
    watch(story.tools())
    assert [s for s in story.shares() if s == {story.bad.id: 100.0}] == []
    world.clock.sleep(700)
    watch(story.tools())
    assert world.live.sole == story.bad.id


def test_a_guard_that_was_stopped_before_it_held_back_watches_what_was_deployed(story: HeldBack) -> None:
    """Killed just before the step, taken up again when it is too late for it: the cut-over is watched all the same."""

    def die(name: str) -> None:
        if name == "deployments.deploy":
            raise Crash

    story.world.before_call = die
    with pytest.raises(Crash):
        watch(story.tools())
    story.world.before_call = None
    story.world.clock.sleep(200)
    said: list[str] = []
    ended = watch(replace(story.tools(), say=said.append))
    assert (ended.plan.kind, ended.state) == (PlanKind.GUARD, RunState.DONE)
    assert story.shares() == []
    assert any("no holdback" in text for text in said)
