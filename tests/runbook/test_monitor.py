"""Monitoring what is live: every deployment is followed, and nothing is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from values import replace

from backout.errors import ProviderUnavailable
from backout.model.guard.connections import ConnectionUse
from backout.model.guard.signals import ServiceState
from backout.model.guard.verdict import CriterionState
from backout.plan.rollback import Request
from backout.report.guard.monitoring import format_line, judge_reading, list_seen
from backout.runbook.probing.monitor import monitor

from line import Story, equip, roll_back

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from backout.model.deployment import Deployment
    from backout.model.guard.monitoring import Reading


class FullDatabase:
    """Port Connections of a database that fills up."""

    def __init__(self) -> None:
        self.used = 3

    def read(self) -> ConnectionUse:
        self.used += 1
        return ConnectionUse(0.0, self.used, 20, 0)


def test_it_shows_a_rollback_from_outside_and_does_nothing_itself(tmp_path: Path) -> None:
    """Bad, then switched by somebody else, then well: each version with its own counts, baseline and criteria."""
    story = Story(tmp_path / "journal.sqlite")
    world = story.world
    tools = equip(story.tools(), connections=FullDatabase())
    events = len(list(tools.journal.events()))
    readings: list[Reading] = []
    world.clock.at(world.clock.now() + 20, lambda: world.deploy(story.good))
    seen, proof = monitor(tools, readings.append, for_s=60, every_s=5)
    bad = [each for each in readings if each.version == story.bad.id]
    assert judge_reading(bad[-1]) == ("bad", "not well: error rate below 1 %")
    assert bad[-1].errors is not None
    assert bad[-1].errors.low > 0.1 > bad[-1].errors.share / 3  # type: ignore[operator]
    assert bad[-1].usual_from == f"of version {story.good.id[:8]}, which it replaced"
    assert readings[-1].version == story.good.id
    assert readings[-1].left == story.bad.id
    assert readings[-1].usual_from.startswith("its own before")
    assert judge_reading(readings[-1]) == ("good", "well")
    assert proof.verified is True
    assert [(each.version, each.errors > 0) for each in seen.versions] == [
        (story.bad.id, True),
        (story.good.id, False),
    ]
    assert seen.fullest is not None
    assert seen.fullest.used > 4
    assert not [call for call in world.calls if "activate" in call or "upload" in call or "put" in call], world.calls
    assert len(list(tools.journal.events())) == events
    assert "errors" in format_line(bad[-1])
    assert any(f"Version {story.good.id[:8]}" in each for each in list_seen(seen))


def test_response_times_of_a_new_version_have_those_of_the_old_one_to_be_compared_with(tmp_path: Path) -> None:
    """The criterion is judged by the same baseline that stands beside the response times."""
    story = Story(tmp_path / "journal.sqlite")
    readings: list[Reading] = []
    monitor(story.tools(), readings.append, for_s=10, every_s=5)
    (found,) = [each for each in readings[-1].criteria if each.name == "response time normal"]
    assert found.state is not CriterionState.NOT_SET_UP, found


def test_a_service_that_is_down_in_between_is_in_what_was_seen(tmp_path: Path) -> None:
    """At the end all is well again; what was seen says that it was not."""
    story = Story(tmp_path / "journal.sqlite")
    world = story.world
    world.deploy(story.good)
    world.clock.sleep(30)
    now = world.clock.now()
    world.clock.at(now + 10, lambda: world.services.update(database=ServiceState.DOWN))
    world.clock.at(now + 20, lambda: world.services.update(database=ServiceState.OK))
    readings: list[Reading] = []
    seen, proof = monitor(story.tools(), readings.append, for_s=50, every_s=1)
    assert proof.verified is True
    assert seen.down == ("database",)
    assert 0 < seen.bad_looks < seen.looks
    assert any(judge_reading(each)[0] == "bad" for each in readings)


class Silent:
    """Port Deployments that answers once, and the counts that never do."""

    def __init__(self, once: Sequence[Deployment]) -> None:
        self.answers = [tuple(once)]

    def history(self) -> tuple[Deployment, ...]:
        if self.answers:
            return self.answers.pop()
        raise ProviderUnavailable("the API does not answer")

    def activate(self, version: str, *, message: str, force: bool = False, immediate: bool = False) -> Deployment:
        raise AssertionError((version, message, force, immediate))


def test_what_cannot_be_read_any_more_is_said(tmp_path: Path) -> None:
    """The last that was read stands, marked; without counts the criteria of the health endpoint go on."""
    story = Story(tmp_path / "journal.sqlite")
    tools = story.tools()
    lost = Silent(tools.deployments.history())
    readings: list[Reading] = []
    seen, proof = monitor(replace(tools, deployments=lost, traffic=None), readings.append, for_s=30, every_s=10)
    assert readings[-1].live_problem == "the API does not answer"
    assert readings[-1].version == story.bad.id
    assert readings[-1].errors is None
    states = {each.name: each.state for each in proof.criteria}
    assert states["health check returns 200"] is CriterionState.PASSED
    assert states["error rate below 1 %"] is CriterionState.NOT_SET_UP
    assert seen.versions[0].requests == 0


def test_it_ends_when_it_is_stopped(tmp_path: Path) -> None:
    """One more reading, and what was seen; nothing is decided by then, which is no verdict."""
    story = Story(tmp_path / "journal.sqlite")
    readings: list[Reading] = []
    _, proof = monitor(story.tools(), readings.append, for_s=None, every_s=60, stopped=lambda: bool(readings))
    assert len(readings) == 2
    assert proof.verified is not True


@pytest.mark.parametrize("for_s", [0.0, 50.0])
def test_a_rollback_is_watched_as_long_as_was_asked(tmp_path: Path, for_s: float) -> None:
    """The criteria are decided long before; what was seen until then is in the result and in the report."""
    story = Story(tmp_path / "journal.sqlite")
    run = roll_back(story.tools(), Request(message="it fails", for_s=for_s))
    result = story.tools().runs.result(run.id, "verify")
    assert isinstance(result, dict)
    lasted = result["ended_at"] - result["started_at"]  # type: ignore[operator]
    (report,) = [text for text in story.world.reports.texts.values() if "Success criteria" in text]
    assert (lasted >= 50) is bool(for_s)
    assert ("seen" in result) is bool(for_s)
    assert ("What was seen afterwards" in report) is bool(for_s)
    assert (" requests failed (0 %)" in report.partition("What was seen")[2]) is bool(for_s)


def test_a_rollback_that_does_not_help_ends_the_watch_at_once(tmp_path: Path) -> None:
    """A failed criterion waits for nobody's fifteen minutes."""
    story = Story(tmp_path / "journal.sqlite")
    world = story.world
    own = world.traffic_rule
    rotten = world.clock.now() + 25

    def rule(second: int, version: str) -> object:
        row = own(second, version)
        return row and (replace(row, errors=row.requests // 2) if second > rotten else row)

    world.traffic_rule = rule  # type: ignore[assignment]
    run = roll_back(story.tools(), Request(message="it fails", for_s=900))
    result = story.tools().runs.result(run.id, "verify")
    assert isinstance(result, dict)
    assert result["verified"] is False
    assert result["ended_at"] - result["started_at"] < 300  # type: ignore[operator]


def test_one_bad_look_late_in_a_long_watch_decides_nothing(tmp_path: Path) -> None:
    """Only at the end of the watch that was asked for is a look the last word."""
    story = Story(tmp_path / "journal.sqlite")
    world = story.world
    now = world.clock.now()
    world.clock.at(now + 620, lambda: world.services.update(database=ServiceState.DOWN))
    world.clock.at(now + 621.5, lambda: world.services.update(database=ServiceState.OK))
    run = roll_back(story.tools(), Request(message="it fails", for_s=900))
    result = story.tools().runs.result(run.id, "verify")
    assert isinstance(result, dict)
    assert result["seen"]["down"] == ["database"]  # type: ignore[index, call-overload]
    assert result["verified"] is True
    assert result["ended_at"] - result["started_at"] >= 890  # type: ignore[operator]
