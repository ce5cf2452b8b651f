"""Guard between deployments on the memory World: it tells when what is live begins to fail, and changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from cli_shell import Stream, make_shell
from values import replace

from backout.cli.guard.live import Live
from backout.errors import AuthError, ProviderUnavailable
from backout.model.incident.incident import Event, RunState
from backout.model.incident.notice import NoticeKind
from backout.providers.memory import make_steady
from backout.runbook.guard.follow import wait_for_unwatched
from backout.runbook.incident.report import trace_causes
from backout.runbook.safety.aside import make_way

from line import Story, by_version, watch

if TYPE_CHECKING:
    from pathlib import Path

    from backout.model.incident.notice import Notice

DAY = 86_400.0


class Crash(BaseException):
    """Kills the process at a moment that the test chose."""


@dataclass
class Days:
    """A healthy version that was watched, and days of traffic after it."""

    path: Path
    after_s: float = 9 * DAY
    story: Story = field(init=False)
    seen: list[Event] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Watch the version to the end."""
        self.story = Story(self.path)
        self.story.world.traffic_rule = make_steady(10)
        watch(self.story.tools(), for_s=30)
        self.story.world.clock.sleep(self.after_s)
        self.story.world.notices.clear()

    def follow(self, for_s: float = 600.0) -> None:
        """Follow until a new deployment comes, `for_s` later."""
        world = self.story.world
        world.clock.at(world.clock.now() + for_s, lambda: world.deploy(world.upload("next")))
        self.follow_on()

    def follow_on(self) -> None:
        """Follow as a fresh process."""
        wait_for_unwatched(replace(self.story.tools(), say=self.said.append), self.seen.append)

    def fail_at(self, after_s: float, share: float = 0.05) -> None:
        """Have that share of all requests fail from then on."""
        self.at(after_s, lambda: setattr(self.story.world, "traffic_rule", make_steady(10, error_rate=share)))

    def at(self, after_s: float, event: object) -> None:
        """Let something happen."""
        world = self.story.world
        world.clock.at(world.clock.now() + after_s, event)  # type: ignore[arg-type]

    @property
    def changes(self) -> list[Notice]:
        """What was told."""
        return [notice for notice in self.story.world.notices if notice.kind is NoticeKind.CHANGED]


@pytest.fixture
def days(quick_path: Path) -> Days:
    return Days(quick_path / "journal.sqlite")


def test_trouble_long_after_a_deployment_is_told_and_nothing_is_done(days: Days) -> None:
    """One notice, one event: since when, how much, what to type. Nothing is deployed, and no run begins."""
    runs = len(days.story.tools().runs.runs("production"))
    days.fail_at(100)
    days.follow()
    (notice,) = days.changes
    assert notice.title == (
        "production: errors rose at 08:12 to 5 % (SLO 1 %), 9 d after the deployment of version "
        f"{days.story.bad.id[:8]}: no deployment explains it"
    )
    for part in ("requests failed (5", "evidence", "Live, as read back at", days.story.bad.id, "a person's decision"):
        assert part in notice.text, part
    assert notice.next == ("backout status -e production", "backout rollback --dry-run -e production")
    assert (notice.facts["change"], notice.facts["cause"], notice.facts["version"]) == (
        "began",
        "errors",
        days.story.bad.id,
    )
    (event,) = days.seen
    assert (event.kind, event.run, event.data["sentence"]) == ("change.began", "", notice.title)
    assert list(days.story.tools().journal.events(kind="change.*")) == [event]
    assert not days.story.world.activations
    assert len(days.story.tools().runs.runs("production")) == runs


def test_the_failures_of_the_version_before_are_not_usual_of_the_one_that_mended_it(quick_path: Path) -> None:
    """A fifth of all requests failed until a person deployed the next version; when that fails as much, it is told."""
    story = Story(quick_path / "journal.sqlite")  # its bad version is live
    story.world.clock.sleep(300)
    mended = story.world.upload("mended")
    story.world.deploy(mended)
    ended = watch(story.tools(), for_s=30)
    assert story.tools().runs.result(ended.id, "watch")["verdict"] != "regressed"  # type: ignore[index,call-overload]
    world, seen = story.world, list[Event]()
    world.clock.at(world.clock.now() + 100, lambda: setattr(world, "traffic_rule", by_version(mended.id)))
    world.clock.at(world.clock.now() + 700, lambda: world.deploy(world.upload("next")))
    wait_for_unwatched(story.tools(), seen.append)
    (event,) = seen
    assert (event.kind, event.data["version"], event.data["limit"]) == ("change.began", mended.id, 0.01)
    assert float(str(event.data["share"])) > 0.1


def test_its_end_is_told_too(days: Days) -> None:
    """Half an hour of errors: one notice at its beginning, one after its end."""
    days.fail_at(100)
    days.fail_at(1900, 0.0)
    days.follow(3600)
    assert [notice.facts["change"] for notice in days.changes] == ["began", "ended"]
    assert [event.kind for event in days.seen] == ["change.began", "change.ended"]
    assert "errors are back at 0 %" in days.changes[1].title
    assert days.changes[1].next == ("backout status -e production",)


def test_days_without_trouble_tell_nothing(days: Days) -> None:
    """Errors below the SLO are nothing, and neither is a new deployment."""
    days.fail_at(100, 0.008)
    days.follow(7200)
    assert (days.changes, days.seen) == ([], [])


@pytest.mark.parametrize("call", ["traffic.read", "notifier.tell", "deployments.history"])
def test_a_guard_that_was_killed_goes_on_where_it_was(days: Days, quick_path: Path, call: str) -> None:
    """Killed again and again, also while it tells: what a guard that lives tells, told and recorded once."""
    alive = Days(quick_path / "alive.sqlite")
    alive.fail_at(100)
    alive.follow(900)
    world = days.story.world
    calls = 0

    def die(name: str) -> None:
        nonlocal calls
        calls += name == call
        if name == call and calls % 7 == 1:
            raise Crash

    days.fail_at(100)
    world.before_call = die
    world.clock.at(world.clock.now() + 900, lambda: world.deploy(world.upload("next")))
    for _ in range(500):
        try:
            days.follow_on()
        except Crash:
            continue
        break
    (notice,) = days.changes
    found = ("since", "decided_at", "bad", "requests")
    assert [notice.facts[name] for name in found] == [alive.changes[0].facts[name] for name in found]
    assert len(list(days.story.tools().journal.events(kind="change.*"))) == 1


def test_estimates_are_said_to_be_estimates(days: Days) -> None:
    """The rate of false alarms does not hold for them."""
    days.story.world.sampled = True
    days.fail_at(100)
    days.follow()
    (notice,) = days.changes
    assert "The counts are estimates" in notice.text
    assert days.seen[0].data["estimates"] is True


def test_a_person_sees_it_on_the_terminal(days: Days, tmp_path: Path) -> None:
    """One line, as the notice's title has it; nothing on stdout."""
    days.fail_at(100)
    days.follow()
    output = make_shell(tmp_path).output
    Live(output, "guard", stream=True).event(days.seen[0])
    assert isinstance(output.stderr, Stream)
    assert isinstance(output.stdout, Stream)
    assert str(days.seen[0].data["sentence"]) in output.stderr.getvalue()
    assert output.stdout.getvalue() == ""


def test_what_began_within_a_day_of_a_deployment_may_come_from_it(quick_path: Path) -> None:
    """Nothing else is claimed then."""
    days = Days(quick_path / "journal.sqlite", after_s=3600.0)
    days.fail_at(100)
    days.follow()
    (notice,) = days.changes
    assert "explains" not in notice.title
    assert "The last deployment was 62 min before; its watch is over." in notice.text


def test_a_source_that_is_silent_is_said_once_and_is_no_trouble(days: Days) -> None:
    """What could not be measured is neither bad nor good."""
    world = days.story.world

    def silent(name: str) -> None:
        if name == "traffic.read":
            raise ProviderUnavailable("no answer")

    world.before_call = silent
    days.at(300, lambda: setattr(world, "before_call", None))
    days.follow()
    assert [text for text in days.said if "source of counts" in text] == [
        "the source of counts does not answer, so changes are not seen: no answer",
        "the source of counts answers again",
    ]
    assert days.changes == []


def test_a_token_that_is_refused_stops_no_look_at_the_source(days: Days) -> None:
    """It is said once; what is live is looked at all the same, and deployments are seen again with a valid token."""
    world = days.story.world

    def refused(name: str) -> None:
        if name == "deployments.history":
            raise AuthError("the token has expired")

    days.at(50, lambda: setattr(world, "before_call", refused))
    days.at(500, lambda: setattr(world, "before_call", None))
    days.fail_at(100)
    days.follow()
    assert [text for text in days.said if "token" in text] == [
        "the provider refuses the token (the token has expired), so new deployments are not seen"
    ]
    (notice,) = days.changes
    assert notice.at < world.clock.now() - 150, "told while the token was refused"


def test_a_watch_that_gave_way_for_nothing_is_begun_again(quick_path: Path) -> None:
    """A person's rollback ended it, and then could not be made: the deployment is live still, and has no watch."""
    story = Story(quick_path / "journal.sqlite")

    def die(name: str) -> None:
        if name == "health.look":
            raise Crash

    story.world.before_call = die
    with pytest.raises(Crash):
        watch(story.tools())
    story.world.before_call = None
    tools = story.tools()
    given_up = tools.runs.runs("production")[0]
    make_way(tools.runs, tools.clock, "production", actor="ops@host", to="rollback: it fails")
    assert tools.runs.runs("production")[0].state is RunState.ABORTED
    began = story.world.clock.now()
    wait_for_unwatched(story.tools())
    assert story.world.clock.now() - began < 60
    again = watch(story.tools())
    assert (
        trace_causes(tools.runs, again.id)[0].plan.step("watch").args["deployment"]
        == (given_up.plan.step("watch").args["deployment"])
    )
