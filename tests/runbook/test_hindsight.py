"""Today's detector over past deployments, on the memory World: what it would have done, and whether that was right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from values import replace

from backout.analysis.hindsight.hindsight import Truth
from backout.model.guard.policy import Mode
from backout.plan.rollback import Request
from backout.providers.memory import make_steady
from backout.report.guard.hindsight import describe_hindsight, format_text, make_record
from backout.runbook.hindsight.hindsight import look_again
from backout.runbook.safety.release import find_standing, release

from line import POLICY, Story, by_version, roll_back, watch

if TYPE_CHECKING:
    from pathlib import Path

    from backout.analysis.hindsight.hindsight import Hindsight, Judged

OBSERVE = replace(POLICY, guard=replace(POLICY.guard, mode=Mode.OBSERVE))
MONTH_S = 30 * 86_400


def seen(story: Story, *, since_s: float = MONTH_S) -> Hindsight:
    return look_again(story.tools(), since=story.world.clock.now() - since_s)


def of(found: Hindsight, version: str) -> Judged:
    return next(each for each in found.judged if each.trial.version == version)


def test_what_guard_rolled_back_itself_proves_nothing(tmp_path: Path) -> None:
    """Rolled back and quarantined by guard: it would do it again, in the same second, and that makes it no truth."""
    story = Story(tmp_path / "journal.sqlite")
    run = watch(story.tools())
    found = seen(story)
    bad, good = of(found, story.bad.id), of(found, story.good.id)
    watched = story.tools().runs.result(run.plan.cause, "watch")
    assert isinstance(watched, dict)
    assert bad.rolled_back_at is not None
    assert bad.rolled_back_at <= float(watched["decision"]["at"])  # type: ignore[index,call-overload,arg-type]
    assert (bad.truth, good.truth, good.rolled_back_at) == (Truth.UNKNOWN, Truth.UNKNOWN, None)
    assert bad.why == "guard rolled it back itself, and whether that was right was never recorded"
    assert describe_hindsight(found).startswith("would have rolled back 1 of 2, not known; bad requests saved: ")
    told = make_record(found)
    assert (told["real"], told["false"], told["unknown"]) == (0, 0, 1)
    assert found.missed == ()


def test_guards_own_word_is_none_on_another_machine_either(tmp_path: Path) -> None:
    """The journal there is empty, and the provider tells who rolled back: a robot or a person."""
    story = Story(tmp_path / "journal.sqlite")
    watch(story.tools())
    story.path = tmp_path / "other.sqlite"
    assert of(seen(story), story.bad.id).truth is Truth.UNKNOWN
    story.world.clock.sleep(600)
    again = story.world.upload("again")
    story.world.deploy(again)
    story.world.clock.sleep(60)
    roll_back(story.tools(), Request(message="it fails", accept_unproven=True))
    story.path = tmp_path / "third.sqlite"
    assert (of(seen(story), again.id).truth, of(seen(story), again.id).why) == (Truth.BAD, "quarantined: it fails")


def test_a_stable_mark_of_guards_own_is_no_proof(tmp_path: Path) -> None:
    """A version that lived for ten minutes and was called healthy: a stricter detector is not thereby wrong."""
    story = Story(tmp_path / "journal.sqlite")
    assert of(seen(story), story.good.id).truth is Truth.UNKNOWN
    assert of(seen(story), story.good.id).why == "a newer version replaced it before it was marked"


def test_what_a_person_rolled_back_later_counts_what_it_would_have_saved(tmp_path: Path) -> None:
    """Guard only observed: what was served between its verdict and the person's rollback would have been saved."""
    story = Story(tmp_path / "journal.sqlite", policy=OBSERVE)
    watch(story.tools())
    story.world.clock.sleep(600)
    roll_back(story.tools(), Request(message="it fails"))
    case = of(seen(story), story.bad.id)
    assert case.truth is Truth.BAD
    assert case.saved == pytest.approx(6 * 610, rel=0.05)
    told = make_record(seen(story))
    assert (told["real"], told["false"], told["bad_requests_saved"]) == (1, 0, case.saved)


def test_a_stricter_policy_leaves_it_and_that_is_a_miss(tmp_path: Path) -> None:
    """The policy is today's: one that needs ten thousand bad requests rolls nothing back, and says what it missed."""
    story = Story(tmp_path / "journal.sqlite", policy=OBSERVE)
    watch(story.tools())
    roll_back(story.tools())
    story.policy = replace(POLICY, guard=replace(POLICY.guard, min_bad=10_000))
    found = seen(story)
    assert [each.trial.version for each in found.missed] == [story.bad.id]
    assert describe_hindsight(found) == "would have rolled back none of 2; 1 bad version would have been left"
    assert "left alone, but it was bad" in format_text(found)


def test_a_released_version_was_no_real_one(tmp_path: Path) -> None:
    """A person lifted the quarantine: the rollback was wrong."""
    story = Story(tmp_path / "journal.sqlite")
    watch(story.tools())
    found = find_standing(story.tools(), story.bad.id)
    assert found.bad is not None
    release(story.tools(), found.situation, found.bad, "the load test was to blame")
    again = seen(story)
    assert of(again, story.bad.id).truth is Truth.GOOD
    assert "1 of 2, false" in describe_hindsight(again)
    assert "False alarm: its quarantine was lifted" in format_text(again).replace("\n    ", " ")


def test_replaced_by_a_newer_version_is_not_known(tmp_path: Path) -> None:
    """Nobody marked it and a newer one came: it is said that nobody knows."""
    story = Story(tmp_path / "journal.sqlite", policy=OBSERVE)
    watch(story.tools())
    story.world.clock.sleep(60)
    newer = story.world.upload("newer")
    story.world.traffic_rule = by_version(story.bad.id)
    story.world.deploy(newer)
    story.world.clock.sleep(2)
    found = seen(story)
    assert of(found, story.bad.id).truth is Truth.UNKNOWN
    assert "1 of 2, not known" in describe_hindsight(found)
    assert not of(found, newer.id).counted
    assert "of 1 deployment no request is kept" in found.notes[0]


def test_a_split_is_judged_beside_the_old_version(tmp_path: Path) -> None:
    """The share of the new version is the deployment's; more traffic for the same version is no further trial."""
    story = Story(tmp_path / "journal.sqlite", policy=OBSERVE)
    world = story.world
    world.deploy(story.good)
    world.traffic_rule = make_steady(30)
    world.clock.sleep(900)
    canary = world.upload("canary")
    world.traffic_rule = by_version(canary.id)
    world.deploy((story.good.id, 90.0), (canary.id, 10.0))
    watch(story.tools())
    world.deploy(canary)
    world.clock.sleep(5)
    (case,) = [each for each in seen(story).judged if each.trial.version == canary.id]
    assert (case.trial.split, case.trial.old) == (0.1, story.good.id)
    assert case.rolled_back_at is not None


def test_since_leaves_out_what_came_before(tmp_path: Path) -> None:
    """Only what was deployed since then is judged."""
    story = Story(tmp_path / "journal.sqlite")
    watch(story.tools())
    story.world.clock.sleep(3600)
    assert seen(story, since_s=60).judged == ()
    assert describe_hindsight(seen(story, since_s=60)) == "would have rolled back none of 0"


def test_the_page_fits_80_columns(tmp_path: Path) -> None:
    """The sentence, then each case."""
    story = Story(tmp_path / "journal.sqlite")
    watch(story.tools())
    lines = format_text(seen(story), width=80).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("Guard on production since ")
    assert lines[1].startswith("would have rolled back 1 of 2, not known")
