"""Rule 12, same cause, no effect: what is not the deployment's doing is not rolled back, and not twice."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from values import replace

from backout.errors import ProviderUnavailable
from backout.model.guard.policy import Mode
from backout.model.guard.signals import ServiceState
from backout.model.incident.vendor import VendorIncident
from backout.model.version import Mark
from backout.providers.memory import make_health, make_steady
from backout.runbook.safety.vendor_incidents import ANNOUNCED_LATE_S, KNOWN_FOR_S

from extent import long
from line import SERVICES, Story, by_version, equip, watch
from scripted_server import answer, hang, scripted_server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backout.model.guard.signals import HealthReport
    from backout.model.incident.incident import Run
    from backout.runbook.toolbox import Toolbox

    from drillbook import Drillbook


def incident(started_at: float) -> VendorIncident:
    return VendorIncident(
        "Cloud", "errors in one region", "major", started_at, ("Workers",), "https://status.example/1"
    )


@dataclass
class Vendors:
    """Port VendorStatus that tells one incident, or fails."""

    started_at: float | None
    asked: int = 0

    def incidents(self) -> tuple[VendorIncident, ...]:
        """Tell it."""
        self.asked += 1
        if self.started_at is None:
            raise ProviderUnavailable("no answer", where="https://status.example")
        return (incident(self.started_at),)


def concluded(tools: Toolbox, run: Run) -> dict[str, object]:
    found = tools.runs.result(run.plan.cause or run.id, "conclude")
    assert isinstance(found, dict)
    return dict(found)


@pytest.mark.both_homes
@pytest.mark.rotating("rules on the twin", 4)
@pytest.mark.long
@pytest.mark.parametrize("what", ["incident", long("another part"), long("page down")])
def test_rule_12_same_cause(drillbook: Drillbook, what: str) -> None:
    """On the twin: an incident of the vendor holds the rollback, exit 7; any other page, or none, holds nothing."""
    began = datetime.now(UTC).isoformat()
    part = "Workers" if what == "incident" else "Images"
    open_incident = {
        "name": "Errors in several regions",
        "status": "investigating",
        "impact": "major",
        "started_at": began,
        "shortlink": "https://stspg.example/abc",
        "components": [{"name": part}],
    }
    with scripted_server() as server:
        page = answer({"page": {"name": "Cloudflare"}, "incidents": [open_incident]})
        server.will(hang() if what == "page down" else page)
        pages = f'[environments.production.vendors]\nstatus_pages = ["{server.url}"]\ncomponents = ["Workers"]\n'
        trial = drillbook.trial().replace((r"\[environments.production.guard\]", f"{pages}\n\\g<0>"))
        pushed = trial.make_live(drillbook.bad)
        ended = trial.run("guard", "--json")
        assert len(server.asked) == 1
    if what != "incident":
        assert (ended.code, ended.json["action"]) == (1, "rollback"), ended.err
        assert trial.live() == drillbook.good
        assert ("not measured" in ended.err) is (what == "page down")
        return
    assert ended.code == 7, ended.err
    assert (ended.json["verdict"], ended.json["action"], ended.json["rule"]) == ("regressed", "hold", "12 same cause")
    assert ended.json["why"].startswith("not the deployment")
    assert "https://stspg.example/abc" in ended.json["why"]
    assert trial.tools().deployments.history()[0].id == pushed.id
    assert "https://stspg.example/abc" in trial.reports()[0].read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("after_s", "holds"),
    [
        (-60.0, True),
        (-KNOWN_FOR_S + 600, True),
        (-KNOWN_FOR_S - 600, False),
        (ANNOUNCED_LATE_S / 2, True),
        (ANNOUNCED_LATE_S * 2, False),
    ],
    ids=["a minute before", "this day", "open for days", "announced late", "clearly later"],
)
def test_rule_12_which_incident_may_be_the_cause(tmp_path: Path, after_s: float, holds: bool) -> None:
    """Begun within a day, and not clearly after our first bad request."""
    story = Story(tmp_path / "journal.sqlite")
    vendors = Vendors(story.world.clock.now() + after_s)
    tools = equip(story.tools(), vendors=vendors)
    held = concluded(tools, watch(tools))
    assert (held.get("rule") == "12 same cause") is holds
    assert bool(story.world.activations) is not holds
    assert vendors.asked == 1


def test_rule_12_a_page_that_does_not_answer_holds_nothing(tmp_path: Path) -> None:
    """It is said that it was not measured."""
    story = Story(tmp_path / "journal.sqlite")
    said: list[str] = []
    tools = equip(story.tools(), vendors=Vendors(None), say=said.append)
    watch(tools)
    assert story.world.live.sole == story.good.id
    assert any("vendors' incidents: not measured" in text for text in said)


def test_rule_12_a_healthy_watch_asks_no_page(tmp_path: Path) -> None:
    """Pages are asked at the moment of a decision only, in mode `observe` too: what would be done is the question."""
    story = Story(tmp_path / "journal.sqlite")
    vendors = Vendors(story.world.clock.now())
    tools = equip(story.tools(), vendors=vendors)
    assert concluded(tools, watch(tools, mode=Mode.OBSERVE))["rule"] == "12 same cause"
    assert vendors.asked == 1
    story.world.traffic_rule = make_steady(30)
    story.world.deploy(story.good)
    watch(tools)
    assert vendors.asked == 1


def test_rule_12_an_old_version_that_is_well_beside_it(tmp_path: Path) -> None:
    """In a split the vendor's incident would hit both versions: the new one alone is bad, so it is rolled back."""
    story = Story(tmp_path / "journal.sqlite")
    world = story.world
    canary = world.upload("canary")
    world.traffic_rule = by_version(canary.id)
    world.deploy(story.good)
    world.clock.sleep(600)
    world.deploy((story.good.id, 50.0), (canary.id, 50.0))
    world.clock.sleep(1)
    vendors = Vendors(world.clock.now())
    watch(equip(story.tools(), vendors=vendors))
    assert world.live.sole == story.good.id
    assert not vendors.asked


def broken(story: Story, *, since: float, service: str = "database") -> Callable[[float, str], HealthReport]:
    """Return the rule of health in which a service is down from a time on, whatever is live."""
    services = dict.fromkeys(SERVICES, ServiceState.OK)

    def rule(at: float, version: str) -> HealthReport:
        state = ServiceState.DOWN if at >= since else ServiceState.OK
        return make_health(at, {**services, service: state}, version=version)

    story.world.traffic_rule = make_steady(30)
    return rule


def test_rule_12_still_down_after_the_rollback(tmp_path: Path) -> None:
    """Up before, down within the watch: rolled back once; still down after: said, and not tried again."""
    story = Story(tmp_path / "journal.sqlite")
    older = story.world.upload("older")
    story.tools().marks.mark(
        "production",
        replace(stable_mark(story), version=older.id, code_hash=older.code_hash, run="guard-0"),
        actor="ops@host",
    )
    story.world.health_rule = broken(story, since=story.world.clock.now() + 4)
    said: list[str] = []
    tools = replace(story.tools(), say=said.append)
    run = watch(tools)
    assert [deployment.main for deployment in story.world.activations] == [story.good.id]
    settled = tools.runs.result(run.id, "settle")
    assert isinstance(settled, dict)
    assert settled["why"] == "still down after the rollback: not the deployment (database)"
    assert any("still down after the rollback" in text for text in said)
    assert tools.marks.find_mark("production", story.good.id, Mark.QUARANTINED) is None
    (text,) = story.world.reports.texts.values()
    assert "still down after the rollback: not the deployment" in text


def stable_mark(story: Story) -> object:
    mark = story.tools().marks.find_mark("production", story.good.id, Mark.STABLE)
    assert mark is not None
    return mark


@pytest.mark.parametrize("requests_fail", [False, True])
def test_rule_12_down_before_the_deployment(tmp_path: Path, *, requests_fail: bool) -> None:
    """It was down before already: nothing is rolled back, whatever the policy says about doubt, or requests say."""
    story = Story(tmp_path / "journal.sqlite")
    world = story.world
    world.deploy(story.good)
    world.health_rule = broken(story, since=world.clock.now())
    watch(story.tools(), for_s=10)
    world.deploy(story.bad)
    if requests_fail:  # only since the deployment: hardly anybody came in the seconds before
        world.traffic_rule = by_version(story.bad.id, error_rate=0.9)
    world.clock.sleep(2)
    tools = story.tools()
    held = concluded(tools, watch(tools))
    assert held["action"] == "hold"
    assert "not the deployment: service database was down before it already" in str(held["why"])
    assert not world.activations


def test_rule_12_both_versions_alike(tmp_path: Path) -> None:
    """Errors on both sides of a split are not the new version's."""
    story = Story(tmp_path / "journal.sqlite")
    world = story.world
    world.deploy((story.good.id, 50.0), (story.bad.id, 50.0))
    now = world.clock.now()
    sick, well = make_steady(30, error_rate=0.3), make_steady(30)
    world.traffic_rule = lambda second, version: (sick if second >= now else well)(second, version)
    world.clock.sleep(1)
    tools = story.tools()
    held = concluded(tools, watch(tools))
    assert held["action"] == "hold", json.dumps(held)
    assert not world.activations
