"""The World itself: its clock, its hooks before and after each call, and what happens in it."""

from __future__ import annotations

import pytest

from backout.errors import ProviderUnavailable, Refused
from backout.model.guard.signals import HealthReport, Reach, ServiceState
from backout.providers.memory import World, make_steady


class Crash(BaseException):
    """The process dies here."""


def calls_of(world: World) -> list[str]:
    """Make every call that the ports offer, and return their names."""
    version = world.versions.recent()[0].id
    world.versions.detail(version)
    world.deployments.history()
    world.deployments.activate(version, message="x")
    world.secrets.names()
    world.traffic.read(0, 1)
    world.health.look()
    world.logs.read(0.0, 1.0)
    world.schema.read()
    world.connections.read()
    world.reports.write("r-1", "name", "text")
    world.reports.of_run("r-1")
    return world.calls


def test_every_call_goes_through_the_hooks() -> None:
    """Once before and once after, by its name; arranging is no call."""
    world = World()
    world.deploy(world.upload())
    before: list[str] = []
    after: list[str] = []
    world.before_call, world.after_call = before.append, after.append
    made = calls_of(world)
    assert before == after == made
    assert len(set(made)) == len(made) == 12


def test_a_crash_before_a_call_has_no_effect_and_one_after_it_has() -> None:
    """As a kill between the request and the answer."""
    world = World()
    version = world.upload()
    world.deploy(world.upload())

    def crash(name: str) -> None:
        if name == "deployments.activate":
            raise Crash

    world.before_call = crash
    with pytest.raises(Crash):
        world.deployments.activate(version.id, message="x")
    assert world.activations == []
    world.before_call, world.after_call = None, crash
    with pytest.raises(Crash):
        world.deployments.activate(version.id, message="x")
    assert [d.message for d in world.activations] == ["x"]
    assert world.deployments.history()[0].message == "x"


def test_a_provider_can_be_down_for_a_while() -> None:
    """With a hook and the clock."""
    world = World()
    world.deploy(world.upload())
    until = world.clock.now() + 5

    def down(name: str) -> None:
        if name.startswith("deployments") and world.clock.now() < until:
            raise ProviderUnavailable("down")

    world.before_call = down
    with pytest.raises(ProviderUnavailable):
        world.deployments.history()
    assert world.traffic.read(0, 1).counts == ()
    world.clock.sleep(5)
    assert len(world.deployments.history()) == 1


def test_what_is_scheduled_happens_at_its_time_while_somebody_sleeps() -> None:
    """In order of time, even when an event schedules another; the clock never goes back."""
    world = World(1000.0)
    seen: list[tuple[str, float]] = []
    world.clock.at(1003, lambda: seen.append(("late", world.clock.now())))
    world.clock.at(1001, lambda: world.clock.at(1002, lambda: seen.append(("nested", world.clock.now()))))
    world.clock.sleep(10)
    assert seen == [("nested", 1002.0), ("late", 1003.0)]
    world.clock.move_to(5)
    world.clock.sleep(-1)
    assert world.clock.now() == 1010.0


def test_health_follows_the_services_and_the_version() -> None:
    """The default rule tells the services; without a deployment nobody is there; a rule may tell versions apart."""
    world = World()
    assert world.health.look().reach is Reach.UNREACHABLE
    world.deploy(good := world.upload("good"))
    world.services = {"database": ServiceState.OK, "email": ServiceState.DEGRADED}
    report = world.health.look()
    assert (report.status, report.overall, report.version) == (200, ServiceState.DEGRADED, good.id)
    world.services["database"] = ServiceState.DOWN
    assert world.health.look().is_down
    world.services["database"] = ServiceState.OK
    bad, healthy = world.upload("bad"), world.health_rule
    sick = HealthReport(0.0, Reach.TIMED_OUT)
    world.health_rule = lambda at, version: sick if version == bad.id else healthy(at, version)
    assert not world.health.look().is_down
    assert world.health.look(bad.id).is_down


def test_traffic_is_split_among_the_versions_that_serve() -> None:
    """A version at 0 % has none; both of a split have."""
    world = World()
    one, two = world.upload("one"), world.upload("two")
    world.traffic_rule = make_steady(5)
    world.deploy((one.id, 100.0), (two.id, 0.0))
    start = int(world.clock.now())
    world.clock.sleep(4)
    world.deploy((one.id, 90.0), (two.id, 10.0))
    world.clock.sleep(6)
    counts = world.traffic.read(start, start + 10).counts
    assert {c.second - start for c in counts if c.version == one.id} == set(range(9))
    assert {c.second - start for c in counts if c.version == two.id} == set(range(4, 9))


def test_a_storage_migration_in_between_refuses() -> None:
    """In both directions of time."""
    world = World()
    world.deploy(old := world.upload("old"))
    world.deploy(world.upload("new", storage_migration=1))
    with pytest.raises(Refused, match="storage migration"):
        world.deployments.activate(old.id, message="x", force=True)


def test_versions_inherit_secrets_and_a_new_secret_is_a_version_of_the_same_code() -> None:
    """As with `wrangler secret put`; values show nowhere."""
    world = World()
    world.deploy(first := world.upload("one", secrets={"A": "canary-value"}))
    made = world.put_secret("B", "canary-value")
    second = world.versions.detail(made.main)
    assert (second.code_hash, second.secret_names) == (first.code_hash, ("A", "B"))
    assert world.upload("two").secret_names == ("A", "B")
    assert "canary" not in repr(world.builds)


def test_a_list_without_details_is_the_default() -> None:
    """So that nobody relies on what a real list leaves out."""
    world = World()
    version = world.upload("one", secrets={"A": "x"})
    assert world.versions.recent()[0].code_hash is None
    world.lists_details = True
    assert world.versions.recent() == (version,)
