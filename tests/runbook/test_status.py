"""What `status` calls well: nothing that is down, and nothing that could not be measured."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from values import replace

from backout.errors import ProviderUnavailable
from backout.model.checkup import Check, should
from backout.model.drill import DrillAction, DrillPlace, DrillResult, Expected, Measured
from backout.model.guard.answers import AnswerClass
from backout.model.guard.signals import HealthReport, Reach, ServiceHealth, ServiceState, SourceTraits
from backout.model.hint import NO_HINT
from backout.providers.memory import make_steady
from backout.report.guard.run_end import describe_end
from backout.runbook.incident.drills import record_end, record_start
from backout.runbook.incident.status import read_status

from line import Story, by_version, equip, watch

if TYPE_CHECKING:
    from pathlib import Path

    from backout.model.guard.signals import Counts, CountsPage
    from backout.runbook.incident.status import Status

OK, DOWN, UNKNOWN = ServiceState.OK, ServiceState.DOWN, ServiceState.UNKNOWN


@pytest.fixture
def story(tmp_path: Path) -> Story:
    """Return a World in which all is well by now."""
    found = Story(tmp_path / "journal.sqlite")
    found.world.deploy(found.good)
    found.world.clock.sleep(2)
    return found


class Lost:
    """Port Traffic of a source that does not answer."""

    traits = SourceTraits("lost", 0.0, sampled=False, has_status=True, has_version=True)

    def read(self, since: int, until: int) -> CountsPage:
        raise ProviderUnavailable(f"no answer for {since} to {until}")


def says(story: Story, status: int = 200, reach: Reach = Reach.ANSWERED, **services: ServiceState) -> Status:
    rows = tuple(ServiceHealth(name, state) for name, state in services.items())
    story.world.health_rule = lambda at, _version: HealthReport(at, reach, status, services=rows)
    return read_status(story.tools())


def test_a_critical_service_that_is_down_is_a_trouble_whatever_the_endpoint_answers(story: Story) -> None:
    """It answers 200 and calls itself ok: the service counts; one that may degrade, and is down, does not."""
    found = says(story, database=DOWN, storage=OK, email=DOWN)
    assert "database is down" in found.troubles
    assert not any("email" in trouble for trouble in found.troubles)
    assert "billing is down" in says(story, database=OK, storage=OK, billing=DOWN).troubles  # nobody classified it


def test_what_could_not_be_measured_is_not_well(story: Story) -> None:
    """An answer that cannot be read, a critical service of which nothing is said, a source that does not answer."""
    assert says(story, database=OK, storage=OK, email=OK).unmeasured == ()
    assert says(story, reach=Reach.UNREADABLE).unmeasured == (
        "health is not measured: it answers 200, and that is no health report",
    )
    found = says(story, database=UNKNOWN, email=OK)
    assert found.unmeasured == ("nothing is known of service database", "nothing is known of service storage")
    says(story, database=OK, storage=OK)
    assert read_status(replace(story.tools(), traffic=Lost())).unmeasured == ("the source of counts is lost",)


def test_what_a_trial_has_put_there_is_a_trouble(story: Story) -> None:
    """Its code answers on an empty database, and no process may drive it any more; until that is put back."""
    tools, bad, good = story.tools(), story.bad.id, story.good.id
    tools.deployments.activate(bad, message="trial by backout: old code", force=True)
    assert "what is live is a trial's" in str(read_status(tools).troubles)
    tools.deployments.activate(good, message="trial by backout: put back what was live", force=True)
    assert "trial's" not in str(read_status(tools).troubles)


def test_without_a_health_endpoint_nothing_is_missed(story: Story) -> None:
    """What is not set up is said apart."""
    tools = replace(story.tools(), health=None, traffic=None)
    assert read_status(tools).unmeasured == ()


def test_requests_that_take_half_a_minute_are_a_trouble(story: Story) -> None:
    """One in ten hangs for 35 s and none fails: not well, whatever nobody compared; a single slow one is no trouble."""
    slow = 239
    world = story.world
    own = world.traffic_rule

    def rule(second: int, version: str) -> Counts | None:
        row = own(second, version)
        return row and replace(row, latency={90: row.requests - row.requests // 10, slow: row.requests // 10})

    world.clock.sleep(20)
    well = says(story, database=OK, storage=OK, email=OK)
    assert not any("too long" in trouble for trouble in well.troubles)
    world.traffic_rule = rule
    world.clock.sleep(120)
    found = says(story, database=OK, storage=OK, email=OK)
    assert any("requests took far too long in the last minutes (p99 3" in trouble for trouble in found.troubles)


def test_it_says_what_the_newest_watch_and_rollback_came_to(story: Story) -> None:
    """Done is not well: the verdict stands behind it, and whether the rollback was verified."""
    story.world.deploy(story.bad)
    story.world.clock.sleep(2)
    watch(story.tools())
    found = read_status(story.tools())
    assert found.guard is not None
    assert found.rollback is not None
    assert describe_end(found.guard, found.ends[found.guard.id]) == "regressed, rolled back"
    assert describe_end(found.rollback, found.ends[found.rollback.id]) == "verified"


class Stopped(BaseException):
    """Somebody pressed Ctrl-C, twice."""


def test_a_watch_that_nobody_drives_any_more_is_a_trouble(story: Story) -> None:
    """Its deployment is live, and no guard looks at it; picked up and ended, all is well again."""
    world = story.world
    world.deploy(world.upload("fine"))
    world.clock.sleep(2)
    world.traffic_rule = make_steady(30)

    def stop(name: str) -> None:
        if name == "health.look":
            raise Stopped

    world.before_call = stop
    with pytest.raises(Stopped):
        watch(story.tools(), for_s=25)
    world.before_call = None
    world.clock.sleep(60)
    assert "was interrupted, and the deployment is no longer watched" in str(read_status(story.tools()).troubles)
    watch(story.tools(), for_s=25)
    assert "interrupted" not in str(read_status(story.tools()).troubles)


def test_a_watch_that_was_held_by_a_rule_is_a_trouble_while_it_is_live(story: Story) -> None:
    """Guard was refused its rollback: a person has to decide, until something else is live."""
    world = story.world
    world.deploy(world.upload("another"))
    world.migrate("20261125000000_drop_column")
    world.traffic_rule = by_version(world.live.main)
    world.clock.sleep(2)
    ended = watch(story.tools())
    world.traffic_rule = make_steady(30)
    world.clock.sleep(400)
    (trouble,) = [each for each in read_status(story.tools()).troubles if ended.id in each]
    assert trouble.startswith(f"{ended.id} was refused a rollback, and a person has to decide: ")
    world.deploy(story.good)
    assert ended.id not in str(read_status(story.tools()).troubles)


@pytest.mark.parametrize(("share", "words", "is_trouble"), [(1.0, True, True), (0.6, True, False), (0.3, False, False)])
def test_nearly_everything_answered_404_is_a_trouble(story: Story, share: float, words: bool, is_trouble: bool) -> None:
    """No request failed, and nobody gets what they came for: never a tick; a part of it is named."""
    world, own = story.world, story.world.traffic_rule

    def rule(second: int, version: str) -> Counts | None:
        row = own(second, version)
        return row and replace(row, classes={AnswerClass.NOT_FOUND: round(row.requests * share)})

    world.traffic_rule = rule
    world.clock.sleep(300)
    found = says(story, database=OK, storage=OK, email=OK)
    assert found.traffic is not None
    assert ("404 (not found)" in found.traffic.unlike_words) is words
    assert found.traffic.is_unlike is is_trouble
    assert ("answered 404 (not found)" in str(found.troubles)) is is_trouble


def test_after_a_repair_it_says_when_the_last_request_failed(story: Story) -> None:
    """The five minutes still hold the failures: how long ago the last one was, and what was answered well since."""
    world = story.world
    well, sick = make_steady(30), make_steady(30, error_rate=0.2)
    now = world.clock.now()
    world.traffic_rule = lambda second, version: (sick if second < now + 30 else well)(second, version)
    world.clock.sleep(30)
    broken = says(story, database=OK, storage=OK, email=OK)
    (trouble,) = [trouble for trouble in broken.troubles if "requests failed" in trouble]
    assert re.search(r"failed in the last 5 min, the last one \d\.\d s ago$", trouble)
    world.clock.sleep(90)
    found = says(story, database=OK, storage=OK, email=OK)
    (trouble,) = [trouble for trouble in found.troubles if "requests failed" in trouble]
    assert re.search(r"the last one 9\d s ago; 2,[67]\d\d answered well since$", trouble)
    assert found.traffic is not None
    assert found.traffic.last_error_s == pytest.approx(91, abs=3)


@pytest.mark.parametrize(
    ("found", "trouble", "unmeasured"),
    [
        (should("objects").ok("the bucket keeps versions"), None, None),
        (should("objects").missing("no snapshot of the bucket was taken yet", NO_HINT), "no snapshot", None),
        (ProviderUnavailable("no answer from the store"), None, "the bucket could not be looked at"),
    ],
)
def test_whether_the_past_of_the_objects_is_kept(
    story: Story, found: Check | ProviderUnavailable, trouble: str | None, unmeasured: str | None
) -> None:
    """A past that is not kept is a trouble; a bucket that does not answer is not measured."""

    def check() -> Check:
        if isinstance(found, ProviderUnavailable):
            raise found
        return found

    status = read_status(equip(story.tools(), check_objects=check))
    assert [trouble in each for each in status.troubles] == [True] if trouble else status.troubles == ()
    assert (unmeasured in status.unmeasured) if unmeasured else status.unmeasured == ()
    assert status.objects == (found if isinstance(found, Check) else str(found))
    assert read_status(story.tools()).objects is None


def test_the_newest_drill_that_passed_is_shown(story: Story) -> None:
    """On the twin, whatever the environment is called."""
    tools = story.tools()
    before = read_status(tools)
    assert before.drill is None
    measured = Measured(DrillAction.ROLLBACK, rto_s=2.0)
    result = DrillResult(
        "throws", DrillPlace.TWIN, Expected(DrillAction.ROLLBACK), measured, (), tools.clock.now(), 30.0
    )
    record_start(tools.journal, "drill-1", "throws", DrillPlace.TWIN, actor=tools.actor)
    record_end(tools.journal, "drill-1", result, actor=tools.actor)
    found = read_status(tools)
    assert found.drill is not None
    assert found.drill.name == "throws"
    assert (found.guard, found.rollback, found.unfinished) == (before.guard, before.rollback, before.unfinished)
