"""The look back at guard's watches on the memory World: what it wanted, what people did, and when it may act alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from values import replace

from backout.analysis.hindsight.track_record import Advice, Outcome, TrackRecord
from backout.config.schema.guard import Guard
from backout.errors import ProviderUnavailable
from backout.model.guard.policy import GuardPolicy, Mode
from backout.model.version import Mark, VersionMark
from backout.plan.rollback import Request
from backout.providers.memory import make_steady
from backout.report.guard.track_record import format_text, make_record
from backout.runbook.hindsight.track_record import look_back

from line import POLICY, Story, by_version, roll_back, watch

if TYPE_CHECKING:
    from pathlib import Path


OBSERVE = replace(POLICY, guard=replace(POLICY.guard, mode=Mode.OBSERVE))
BAD_PER_S = 6
BUSY = make_steady(1000)
"""Enough in a minute to tell "as good as before" from "twice as bad"."""


@pytest.fixture
def story(tmp_path: Path) -> Story:
    """A proven version, and a bad one just deployed; guard only observes."""
    return Story(tmp_path / "journal.sqlite", policy=OBSERVE)


def observed(story: Story, last: int | None = None) -> TrackRecord:
    return look_back(story.tools(), last)


def push(story: Story, name: str, *, bad: bool = False) -> str:
    """Upload and deploy a version from outside, ten minutes later."""
    story.world.clock.sleep(600)
    version = story.world.upload(name)
    story.world.traffic_rule = by_version(version.id) if bad else BUSY
    story.world.deploy(version)
    story.world.clock.sleep(2)
    return version.id


def test_before_the_first_watch_there_is_nothing_to_tell(tmp_path: Path) -> None:
    """An empty journal: no verdicts, no cases, too few."""
    story = Story(tmp_path / "journal.sqlite", policy=OBSERVE)
    story.path = tmp_path / "other.sqlite"
    found = observed(story)
    assert (found.watches, found.cases, found.advice) == ((), (), Advice.TOO_FEW)
    assert format_text(found) == "Guard has finished no watch of production yet."
    assert make_record(found)["since"] is None


def test_rolled_back_by_hand_after_the_verdict(story: Story) -> None:
    """Guard wanted it gone and only observed; a person did it ten minutes later, and that cost so many bad requests."""
    watched = watch(story.tools())
    assert story.world.live.sole == story.bad.id
    story.world.clock.sleep(600)
    roll_back(story.tools(), Request(message="it fails"))
    found = observed(story)
    (case,) = found.cases
    assert (case.watch.run, case.watch.version, case.outcome) == (watched.id, story.bad.id, Outcome.BY_HAND)
    assert case.watch.action == "hold"
    assert 600 <= case.live_after_verdict_s <= 630
    assert case.errors == pytest.approx(BAD_PER_S * case.live_after_verdict_s, rel=0.05)
    assert found.held_by == {"observe": 1}
    assert (found.missed, found.unwatched, found.false_alarms) == ((), 0, ())
    told = make_record(found)
    assert (told["would_have_rolled_back"], told["rolled_back_by_hand"], told["rolled_back"]) == (1, 1, 0)
    assert told["bad_requests_after_verdict"] == case.errors
    assert told["verdicts"] == {"healthy": 1, "regressed": 1, "inconclusive": 0, "unmeasured": 0, "void": 0}


def test_a_rollback_with_another_tool_counts_as_well(story: Story) -> None:
    """What was made live again is an older version: it need not have been backout that did it."""
    watch(story.tools())
    story.world.clock.sleep(60)
    story.world.deploy(story.good)
    story.world.clock.sleep(60)
    (case,) = observed(story).cases
    assert case.outcome is Outcome.BY_HAND
    assert 60 <= case.live_after_verdict_s < 61 + 30


def test_a_day_later_it_had_other_reasons(story: Story) -> None:
    """A rollback 25 hours after the verdict is none of it; the version stayed live, and one day of it is counted."""
    watch(story.tools())
    story.world.clock.sleep(25 * 3600)
    story.world.traffic_rule = make_steady(30)  # a World makes up a day of seconds at once: keep it short
    story.world.deploy(story.good)
    (case,) = observed(story).cases
    assert case.outcome is Outcome.STAYED
    assert case.live_after_verdict_s == 86_400.0


def test_a_newer_version_instead(story: Story) -> None:
    """The team mended it: no rollback, and nothing was missed."""
    watch(story.tools())
    push(story, "mended")
    found = observed(story)
    assert [case.outcome for case in found.cases] == [Outcome.FORWARD]
    assert (found.missed, found.unwatched) == ((), 0)


def test_a_false_alarm_stayed_live_and_was_healthy_later(story: Story) -> None:
    """Nobody did anything, and a later watch of the same version is healthy; what it cost is no cost of waiting."""
    watch(story.tools())
    story.world.traffic_rule = make_steady(30)
    story.world.clock.sleep(1200)
    later = watch(story.tools())
    found = observed(story)
    (case,) = found.cases
    assert case.outcome is Outcome.STAYED
    assert case.false_alarm == f"it stayed live, and run {later.id} found it healthy"
    assert found.cost == ()
    assert make_record(found)["bad_requests_after_verdict"] is None


def test_a_false_alarm_was_released_by_a_person(story: Story) -> None:
    """Guard rolled it back; a person lifts the quarantine."""
    story.policy = POLICY
    watch(story.tools())
    tools = story.tools()
    mark = VersionMark(Mark.RELEASED, story.bad.id, story.bad.code_hash, tools.clock.now(), "", "a scanner's requests")
    tools.marks.mark("production", mark, actor="ops@host")
    found = observed(story)
    assert [case.outcome for case in found.cases] == [Outcome.ROLLED_BACK]
    assert [case.false_alarm for case in found.false_alarms] == ["a person released it: a scanner's requests"]
    assert (found.advice, found.why) == (Advice.ARMED, ("1 of 1 alarm false, as far as is known",))


def test_missed(story: Story) -> None:
    """A person rolls back what guard called healthy: missed. A version that no watch saw: unwatched."""
    story.world.deploy(story.good)
    fine = push(story, "fine at first")
    watched = watch(story.tools())
    story.world.clock.sleep(600)
    story.world.deploy(story.good)
    push(story, "never watched")
    story.world.clock.sleep(60)
    story.world.deploy(story.good)
    found = observed(story)
    assert [(each.version, each.verdict, each.run) for each in found.missed] == [(fine, "healthy", watched.id)]
    assert found.unwatched == 2  # the story's bad one, too
    assert found.cases == ()
    assert "missed: rolled back by a person; guard had said healthy" in " ".join(format_text(found).split())


def test_the_whole_history_in_one_report(story: Story) -> None:
    """Observed and rolled back by hand, rolled back by itself, held, healthy: each is counted once."""
    watch(story.tools())
    watch(story.tools())  # a second look at the same deployment is the same case
    roll_back(story.tools(), Request(message="it fails"))
    push(story, "fine")
    watch(story.tools())
    push(story, "bad again", bad=True)
    armed = watch(story.tools(), mode=Mode.ACT)
    push(story, "bad once more", bad=True)
    held = watch(story.tools(), mode=Mode.ACT)  # one automatic rollback in six hours
    found = observed(story)
    assert [case.outcome for case in found.cases] == [Outcome.BY_HAND, Outcome.ROLLED_BACK, Outcome.STAYED]
    assert [case.watch.run for case in found.cases][1:] == [armed.plan.cause, held.id]
    assert found.held_by == {"observe": 1, "9 once": 1}
    assert make_record(found)["rolled_back"] == 1
    assert found.verdicts["regressed"] == 4
    assert len(found.watches) == 6
    assert (found.missed, found.unwatched, found.false_alarms) == ((), 0, ())
    lines = format_text(found).splitlines()
    assert max(map(len, lines)) <= 80
    assert any("would have rolled back     2  held: 1 by observe, 1 by 9 once" in line for line in lines)
    assert "Too early to say: 20 watches are needed for a judgement; there are 6 so far." in lines


def test_the_last_watches_only(story: Story) -> None:
    """--last takes the newest."""
    watch(story.tools())
    push(story, "fine")
    newest = watch(story.tools())
    found = observed(story, 1)
    assert [each.run for each in found.watches] == [newest.id]
    assert found.cases == ()


def test_without_the_provider_the_journal_tells(story: Story) -> None:
    """The provider lists its newest ten deployments, or does not answer: what the journal saw is enough."""
    watch(story.tools())
    story.world.clock.sleep(120)
    roll_back(story.tools(), Request(message="it fails"))
    for number in range(12):
        push(story, f"later {number}")
    assert [case.outcome for case in observed(story).cases] == [Outcome.BY_HAND]

    def silent(name: str) -> None:
        if name.startswith(("deployments", "versions")):
            raise ProviderUnavailable("no answer")

    story.world.before_call = silent
    found = observed(story)
    assert [case.outcome for case in found.cases] == [Outcome.BY_HAND]
    assert "no answer" in found.notes[0]


def test_looking_back_changes_nothing(story: Story) -> None:
    """Only reading calls, and not one event in the journal."""
    watch(story.tools())
    before = list(story.tools().journal.events())
    story.world.calls.clear()
    observed(story)
    assert list(story.tools().journal.events()) == before
    assert set(story.world.calls) <= {"deployments.history", "versions.recent", "traffic.read"}


def test_arming_is_explicit(story: Story) -> None:
    """Observing is the default; twenty good watches give the advice to arm, and guard still only observes."""
    assert Guard().mode is Mode.OBSERVE
    assert GuardPolicy().mode is Mode.OBSERVE
    watch(story.tools())
    roll_back(story.tools(), Request(message="it fails"))
    for number in range(18):
        push(story, f"fine {number}")
        watch(story.tools())
    found = observed(story)
    assert (len(found.watches), found.advice) == (20, Advice.ARM)
    assert 'backout.toml, [environments.production.guard]: { mode = "act" }' in " ".join(format_text(found).split())
    bad = push(story, "bad", bad=True)
    switches = len(story.world.activations)
    ended = watch(story.tools())
    assert ended.plan.step("conclude").args["mode"] == "observe"
    assert story.world.live.sole == bad
    assert len(story.world.activations) == switches
