"""Rule 6 where the application does not name its version: the target is asked at the URL of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from values import replace

from backout.errors import BackoutError, ProviderUnavailable, Refused, Unmeasured
from backout.model.guard.fetched import Fetched
from backout.model.guard.policy import SyntheticCheck
from backout.model.guard.signals import HealthReport, Reach, ServiceState
from backout.providers.memory import make_health, make_steady
from backout.wiring.boundary import add_boundaries

from line import SERVICES, Story, equip, roll_back

if TYPE_CHECKING:
    from pathlib import Path

    from backout.plan.rollback import Request
    from backout.runbook.toolbox import Toolbox

WELL = dict.fromkeys(SERVICES, ServiceState.OK)


@dataclass
class OwnUrl:
    """The health endpoint of a version at its own URL."""

    report: HealthReport
    asked: list[SyntheticCheck] = field(default_factory=list)

    def look(self, version: str | None = None) -> HealthReport:
        assert version is None
        return self.report

    def fetch(self, path: str, version: str | None = None, *, check: SyntheticCheck | None = None) -> Fetched:
        assert version is None
        self.asked.append(check or SyntheticCheck(path))
        return Fetched(200, {"content-type": "text/html"}, "")


@dataclass
class Nameless(Story):
    """A World in which no version says who answers."""

    said: list[str] = field(default_factory=list)
    own: OwnUrl | BackoutError = field(default_factory=lambda: OwnUrl(make_health(0.0, WELL, version=None)))

    def __post_init__(self) -> None:
        """Deploy as every story does, then forget the names."""
        super().__post_init__()
        self.world.health_rule = lambda now, _version: make_health(now, WELL, version=None)

    def tools(self, crash_point: Any = None) -> Toolbox:
        return equip(super().tools(crash_point), say=self.said.append, open_version=self.open)

    def open(self, version: str) -> OwnUrl:
        assert version == self.good.id
        if isinstance(self.own, BackoutError):
            raise self.own
        return self.own

    def proof(self) -> Any:
        run = roll_back(self.tools())
        assert self.world.live.sole == self.good.id
        return self.tools().runs.result(run.id, "prove")

    def refusal(self, request: Request | None = None) -> str:
        with pytest.raises(Refused) as caught:
            roll_back(self.tools(), request)
        assert self.world.live.sole == self.bad.id
        return caught.value.what


@pytest.fixture
def story(quick_path: Path) -> Nameless:
    return Nameless(quick_path / "journal.sqlite")


def test_rule_06_a_target_that_does_not_name_itself_is_asked_at_its_own_url(story: Nameless) -> None:
    """The URL says who answers; what it does not prove is said with it."""
    proof = story.proof()
    assert proof["proved"] is True
    assert "asked at its own URL (which proves its code and bindings, not the route" in proof["why"]
    assert any("the application does not say which version answered" in text for text in story.said)


def test_rule_06_a_target_that_is_sick_there_gets_no_traffic(story: Nameless) -> None:
    """A critical service that is down on it alone, and a broken answer."""
    sick = make_health(0.0, {**WELL, "database": ServiceState.DOWN}, version=None)
    for report, why in (
        (sick, "database is down on it"),
        (HealthReport(0.0, Reach.UNREADABLE, 500), "it answers 500"),
    ):
        story.own = OwnUrl(report)
        assert why in story.refusal()


@pytest.mark.parametrize("status", [301, 400, 403, 404])
def test_rule_06_an_answer_that_may_be_about_the_other_name_proves_nothing(story: Nameless, status: int) -> None:
    """Redirects to the domain, unknown hosts and logins are neither good nor bad."""
    story.own = OwnUrl(HealthReport(0.0, Reach.UNREADABLE, status))
    assert "cannot be proved before the switch" in story.refusal()
    assert f"it answers {status}" in story.refusal()


@pytest.mark.parametrize(
    "error",
    [
        Unmeasured("version URLs are off (preview_urls in wrangler's file)"),
        ProviderUnavailable("the API does not answer"),
    ],
)
def test_rule_06_a_version_without_a_url_cannot_be_proved(story: Nameless, error: BackoutError) -> None:
    """Why is said; a person may still accept it."""
    story.own = error
    assert error.what in story.refusal()


def test_rule_06_no_credential_is_sent_to_another_host(story: Nameless) -> None:
    """Checks that need one are left out; the others are asked."""
    story.world.traffic_rule = make_steady(30)
    checks = (SyntheticCheck("/open"), SyntheticCheck("/account", credentials=("Authorization",)))
    tools = story.tools()
    guard = replace(tools.policy.guard, checks=checks)
    roll_back(replace(tools, policy=replace(tools.policy, guard=guard)))
    assert isinstance(story.own, OwnUrl)
    assert {check.path for check in story.own.asked} == {"/open"}


def test_rule_06_a_target_that_names_itself_is_asked_through_the_route(story: Nameless) -> None:
    """Which proves more."""
    story.world.health_rule = lambda now, version: make_health(now, WELL, version=version)
    story.own = Unmeasured("nobody asks")
    assert "its own URL" not in story.proof()["why"]


class Unforeseen:
    """A health endpoint whose reader meets what nobody foresaw."""

    def look(self, version: str | None = None) -> HealthReport:
        raise KeyError(version)


def test_rule_06_a_mistake_there_is_no_proof_and_ends_nothing(story: Nameless) -> None:
    """In finding the URL, or in reading what answers."""

    def fail(version: str) -> OwnUrl:
        raise OverflowError(version)

    for opener in (fail, lambda _version: Unforeseen()):
        tools = add_boundaries(equip(story.tools(), open_version=opener))
        with pytest.raises(Refused, match="cannot be proved before the switch"):
            roll_back(tools)
