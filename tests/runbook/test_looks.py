"""What guard looks at itself, on the memory World: connections and synthetic requests, before and in a watch."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from values import replace

from backout.errors import ProviderUnavailable
from backout.model.guard.connections import ConnectionUse
from backout.model.guard.fetched import Fetched
from backout.model.guard.policy import SyntheticCheck
from backout.model.guard.signals import Criticality
from backout.model.plan import PlanKind
from backout.providers.memory import make_steady
from backout.runbook.guard import next_deployment

from line import POLICY, SERVICES, Story, equip, watch

if TYPE_CHECKING:
    from pathlib import Path

    from backout.model.guard.policy import Policy
    from backout.runbook.toolbox import Toolbox

SENT = replace(POLICY, guard=replace(POLICY.guard, synthetic=("/app", "/api"), synthetic_every_s=1.0))


class Killed(BaseException):
    """The process is gone."""


def story_of(path: Path, policy: Policy = POLICY) -> Story:
    """Return a story in which no request fails."""
    path.mkdir(exist_ok=True)
    story = Story(path / "journal.sqlite", policy)
    story.world.traffic_rule = make_steady(30)
    return story


def tools_of(story: Story, **more: object) -> Toolbox:
    world = story.world
    return equip(story.tools(), connections=world.connections, sender=world.health, **more)  # type: ignore[arg-type]


def fill(story: Story, after_s: float = 5.0, used: int = 98) -> None:
    """Have the connections run out so many seconds from now."""
    begins = story.world.clock.now() + after_s
    story.world.connection_rule = lambda at: ConnectionUse(at, used if at >= begins else 31, 100)


def decision(tools: Toolbox) -> dict[str, object]:
    run = next(run for run in tools.runs.runs("production") if run.plan.kind is PlanKind.GUARD)
    watched = tools.runs.result(run.id, "watch")
    assert isinstance(watched, dict)
    assert isinstance(watched["decision"], dict)
    return watched["decision"]


def test_connections_that_run_out_after_the_deployment_are_rolled_back(tmp_path: Path) -> None:
    """Without one failed request: seen with room, then full in three looks in a row; the report says so."""
    story = story_of(tmp_path)
    fill(story)
    tools = tools_of(story)
    watch(tools)
    assert story.world.live.sole == story.good.id
    found = decision(tools)
    assert found["cause"] == "connections"
    assert found["reason"] == "98 of 100 connections in use, 31 before, in the last 3 looks"
    (text,) = story.world.reports.texts.values()
    assert "no database connections left" in text
    assert "98 of 100 connections in use, 31 before" in text


def test_what_was_usual_between_deployments_is_remembered(tmp_path: Path) -> None:
    """A guard that waits looks at the database: full before is not the deployment, and room before is known at once."""
    for before, acts in ((31, True), (90, False)):
        story = Story(tmp_path / f"{before}.sqlite")
        world, tools = story.world, tools_of(story)
        world.traffic_rule = make_steady(30)
        world.connection_rule = lambda at, before=before: ConnectionUse(at, before, 100)  # type: ignore[misc]
        with closing(next_deployment.lives(tools, 5.0)) as found:
            for _ in range(8):
                next(found)
        world.deploy(world.upload("third"))
        world.connection_rule = lambda at: ConnectionUse(at, 98, 100)
        world.clock.sleep(2)
        watch(tools)
        assert bool(world.activations) is acts
        assert f"98 of 100 connections in use, {before} before" in str(decision(tools)["reason"])


def test_a_degradable_database_is_not_acted_on(tmp_path: Path) -> None:
    """What may fail may run out of connections."""
    policy = replace(POLICY, services={**SERVICES, "database": Criticality.DEGRADABLE})
    story = story_of(tmp_path, policy)
    fill(story)
    watch(tools_of(story))
    assert not story.world.activations


def test_a_database_that_does_not_tell_is_one_remark(tmp_path: Path) -> None:
    """The watch ends as it would have, and says once that connections are not watched."""
    story = story_of(tmp_path)
    said: list[str] = []

    def silent(name: str) -> None:
        if name == "connections.read":
            raise ProviderUnavailable("no answer", where="database")

    story.world.before_call = silent
    run = watch(tools_of(story, say=said.append))
    other = story_of(tmp_path / "other")
    usual = watch(other.tools())
    assert tools_of(story).runs.result(run.id, "conclude") == other.tools().runs.result(usual.id, "conclude")
    assert len([text for text in said if "connections are not watched" in text]) == 1


@pytest.mark.parametrize("at_s", [8, 18, 24])
def test_a_watch_that_was_killed_goes_on_with_its_looks(tmp_path: Path, at_s: int) -> None:
    """Room was seen before the crash, full looks before and after it: together they are three in a row."""
    story = story_of(tmp_path)
    fill(story)
    begun = story.world.clock.now()

    def die(_tick: object) -> None:
        if story.world.clock.now() >= begun + at_s:
            raise Killed

    with pytest.raises(Killed):
        watch(tools_of(story, watching=die))
    tools = tools_of(story)
    watch(tools)
    found = decision(tools)
    assert (found["verdict"], found["cause"]) == ("regressed", "connections")
    assert float(str(found["at"])) <= begun + 35
    assert story.world.live.sole == story.good.id


def test_synthetic_requests_find_a_sick_version_that_nobody_visits(tmp_path: Path) -> None:
    """Every second answer of one path is a 500, health says ok, no request came: rolled back on the probes alone."""
    story = story_of(tmp_path, SENT)
    world = story.world
    world.traffic_rule = lambda _second, _version: None
    asked: list[str] = []

    def route(path: str, version: str) -> int:
        asked.append(path)
        return 500 if version == story.bad.id and path == "/api" and len(asked) % 4 == 2 else 200

    world.route_rule = route
    tools = tools_of(story)
    watch(tools)
    found = decision(tools)
    assert (found["verdict"], found["cause"], found["requests"]) == ("regressed", "health", 0)
    assert "probes failed against 1 %" in str(found["reason"])
    assert {"/app", "/api"} == set(asked)
    assert world.live.sole == story.good.id


def test_an_answer_that_the_team_does_not_expect_counts_as_a_failed_probe(tmp_path: Path) -> None:
    """A page that answers 200 without its word, every second time, on a version that nobody visits: rolled back."""
    check = SyntheticCheck("/app", word="welcome")
    story = story_of(tmp_path, replace(SENT, guard=replace(SENT.guard, synthetic=(), checks=(check,))))
    world = story.world
    world.traffic_rule = lambda _second, _version: None
    asked: list[str] = []

    def route(name: str, version: str) -> Fetched:
        asked.append(name)
        bad = version == story.bad.id and len(asked) % 2 == 1
        return Fetched(200, body="an empty page" if bad else "welcome")

    world.route_rule = route
    tools = tools_of(story)
    watch(tools)
    found = decision(tools)
    assert (found["verdict"], found["cause"]) == ("regressed", "health")
    assert world.live.sole == story.good.id
    assert set(asked) == {"/app"}
    (text,) = world.reports.texts.values()
    assert "request /app failed in" in text
    assert "without the word 'welcome'" in text


def test_synthetic_requests_come_no_faster_than_probes_between_deployments(tmp_path: Path) -> None:
    """Then they only learn what is usual."""
    story = story_of(tmp_path, SENT)
    tools = tools_of(story)
    story.world.calls.clear()
    with closing(next_deployment.lives(tools, 0.5)) as found:
        for _ in range(41):
            next(found)
    assert story.world.calls.count("health.fetch") == pytest.approx(10, abs=1)
    assert story.world.calls.count("connections.read") == 2


def test_looks_need_no_counts(tmp_path: Path) -> None:
    """Rule 13: counts that are estimates forbid acting on counts, not on a database that has no connections left."""
    story = story_of(tmp_path)
    fill(story)
    story.world.traits = replace(story.world.traits, sampled=True)
    watch(tools_of(story))
    assert story.world.live.sole == story.good.id
