"""Rule 17, hold after rollback: the same code pushed again is not guarded into production silently."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from values import replace

from backout.analysis.history.stability import find_stable_mark
from backout.errors import ProviderRejected
from backout.model.guard.policy import OnInconclusive
from backout.model.incident.notice import Delivery, Notice, NoticeKind
from backout.model.plan import PlanKind
from backout.providers.memory import make_steady, quiet
from backout.runbook.observe import observe
from backout.runbook.safety.release import find_standing, release

from line import POLICY, Story, by_version, watch

if TYPE_CHECKING:
    from pathlib import Path

    from backout.model.incident.incident import Run
    from backout.model.version import Version
    from backout.runbook.toolbox import Toolbox

    from drillbook import Drillbook, Trial


@dataclass
class Ears:
    """A notifier, and a person at the terminal, who remember what they were told."""

    notices: list[Notice] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def tell(self, notice: Notice) -> None:
        """Remember a notice."""
        self.notices.append(notice)

    def flush(self, within_s: float) -> Delivery:
        """Nothing waits."""
        return Delivery()

    def known_bad(self) -> set[str]:
        """Return the keys of the notices that quarantined code is live again."""
        return {notice.key for notice in self.notices if notice.kind is NoticeKind.KNOWN_BAD}


def rolled_back(tmp_path: Path, **policy: object) -> tuple[Story, Ears]:
    """Return the story after guard rolled the bad version back, and later, when it may act again."""
    story = Story(tmp_path / "journal.sqlite", replace(POLICY, guard=replace(POLICY.guard, **policy)))  # type: ignore[arg-type]
    watch(story.tools())
    assert story.world.live.sole == story.good.id
    story.world.clock.sleep(7 * 3600)
    return story, Ears()


def tools_of(story: Story, ears: Ears) -> Toolbox:
    return replace(story.tools(), notifier=ears, say=ears.said.append)


def pushed_again(story: Story, *, code: str = "bad", git_sha: str = "", healthy: bool = True) -> Version:
    """Upload code under a new id, as a re-run of the pipeline does, and deploy it."""
    again = story.world.upload("again", code=code, git_sha=git_sha)
    story.world.traffic_rule = make_steady(2000) if healthy else by_version(again.id)
    story.world.deploy(again)
    story.world.clock.sleep(2)
    return again


def concluded(story: Story, run: Run) -> dict[str, object]:
    found = story.tools().runs.result(run.plan.cause or run.id, "conclude")
    assert isinstance(found, dict)
    return dict(found)


def test_rule_17_hold_after_rollback_healthy_is_held(tmp_path: Path) -> None:
    """The same code under a new id does well: said at once, watched, never marked stable, held with the way out."""
    story, ears = rolled_back(tmp_path)
    again = pushed_again(story)
    found = concluded(story, watch(tools_of(story, ears)))
    assert (found["action"], found["rule"]) == ("hold", "17 hold after rollback")
    assert any(f"backout deployments release {again.id}" in str(option) for option in found["options"])  # type: ignore[attr-defined]
    assert len(ears.known_bad()) == 1
    assert any("quarantined code is live again" in said and again.id in said for said in ears.said)
    assert find_stable_mark(observe(story.tools()), again.id) is None
    assert story.world.live.sole == again.id


def test_rule_17_hold_after_rollback_regressed_is_rolled_back(tmp_path: Path) -> None:
    """On evidence it is left again, for the proven version."""
    story, ears = rolled_back(tmp_path)
    pushed_again(story, healthy=False)
    run = watch(tools_of(story, ears))
    assert run.plan.kind is PlanKind.ROLLBACK
    assert story.world.live.sole == story.good.id
    assert len(ears.known_bad()) == 1


@pytest.mark.parametrize("policy", [OnInconclusive.HOLD, OnInconclusive.ACCEPT])
def test_rule_17_hold_after_rollback_inconclusive_is_held(tmp_path: Path, policy: OnInconclusive) -> None:
    """Nobody came, so nothing is known: no policy accepts quarantined code."""
    story, ears = rolled_back(tmp_path, on_inconclusive=policy)
    pushed_again(story)
    story.world.traffic_rule = quiet
    found = concluded(story, watch(tools_of(story, ears)))
    assert (found["action"], found["rule"]) == ("hold", "17 hold after rollback")


def test_rule_17_hold_after_rollback_by_commit(tmp_path: Path) -> None:
    """A rebuild of the same commit has another hash and is the same code; a proven build of it is not."""
    story = Story(tmp_path / "journal.sqlite")
    world, sha = story.world, "abcdef1234567890abcdef1234567890abcdef12"
    first = world.upload("first", git_sha=sha)
    world.traffic_rule = by_version(first.id)
    world.deploy(first)
    world.clock.sleep(2)
    watch(story.tools())
    assert world.live.sole == story.good.id
    world.clock.sleep(7 * 3600)
    ears = Ears()
    pushed_again(story, code="built on another day", git_sha=sha[:9])
    assert concluded(story, watch(tools_of(story, ears)))["rule"] == "17 hold after rollback"
    assert len(ears.known_bad()) == 1
    assert find_standing(story.tools(), sha).bad is not None
    assert find_standing(story.tools(), "1234567").bad is None


def test_rule_17_hold_after_rollback_until_released(tmp_path: Path) -> None:
    """A release, during the watch too, lets a healthy end count again: for the code, under every id."""
    story, ears = rolled_back(tmp_path)
    again = pushed_again(story)
    world = story.world

    def lift() -> None:
        found = find_standing(story.tools(), again.id)
        assert found.bad is not None
        assert release(story.tools(), found.situation, found.bad, "the upstream was to blame").deployment is not None

    world.clock.at(world.clock.now() + 20, lift)
    found = concluded(story, watch(tools_of(story, ears)))
    assert found["action"] == "stable", found
    assert find_standing(story.tools(), story.bad.id).bad is None
    third = pushed_again(story)
    assert find_standing(story.tools(), third.id).bad is None


def test_rule_17_hold_after_rollback_unreadable_code(tmp_path: Path) -> None:
    """The code of what is live cannot be read: that is said, and it is not blessed while anything is quarantined."""
    story, ears = rolled_back(tmp_path)
    again = pushed_again(story)

    def refused(call: str) -> None:
        if call == "versions.detail":
            raise ProviderRejected("no", status=404, where="memory")

    story.world.before_call = refused
    found = concluded(story, watch(tools_of(story, ears)))
    assert found["action"] == "hold"
    assert "cannot be read" in str(found["why"])
    assert any("is not known" in said and again.id in said for said in ears.said)
    assert not ears.known_bad()


def quick(trial: Trial) -> Trial:
    """Return the trial with a short watch."""
    return trial.replace((r'watch = "\d+s"', 'watch = "8s"'))


@pytest.mark.both_homes
@pytest.mark.long
def test_rule_17_hold_after_rollback(drillbook: Drillbook) -> None:
    """The program: CI runs again with the same bad code, under a new id and with an empty journal: exit 3, then 1."""
    book = drillbook
    trial = quick(book.trial())
    trial.make_live(book.good)
    trial.make_live(book.bad)
    reason = ("-m", "it fails", "--confirm", "production", "--json")
    assert trial.run("rollback", "--no-wait", *reason).code == 0
    again = book.deploy_bad_again()
    assert trial.live() == again not in (book.good, book.bad)
    other = quick(book.trial()).forget_marks()
    asked = other.run("deployments", "check", again, "--json")
    assert (asked.code, asked.json["allowed"]) == (3, False)
    # It fails on one route of several, so a short quiet watch may say any of the three; none of them is a silent yes.
    ended = other.run("guard", "--json")
    assert "quarantined code is live again" in ended.err
    record = json.loads(ended.out.splitlines()[-1])
    if record["verdict"] == "regressed":
        assert record["action"] in ("rollback", "hold", "refused")
        assert ended.code in (1, 3)
    else:
        assert (ended.code, record["action"], record["rule"]) == (3, "hold", "17 hold after rollback")
