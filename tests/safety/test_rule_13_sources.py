"""Rule 13, sources: estimates and old counts are advice; a source that is lost is said and told; health counts on."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from api_gate import api_gate
from values import replace

from backout.errors import AuthError, ProviderUnavailable
from backout.model.guard.policy import Mode
from backout.model.guard.signals import ServiceState, SourceTraits
from backout.model.incident.notice import Delivery, Notice, NoticeKind
from backout.providers.memory import make_health, make_steady
from backout.runbook.guard.guard import plan

from line import SERVICES, Story, by_version, watch

if TYPE_CHECKING:
    from pathlib import Path

    from backout.errors import BackoutError
    from backout.model.guard.signals import Counts, CountsPage, HealthReport
    from backout.model.incident.incident import Run
    from backout.ports import Traffic
    from backout.runbook.toolbox import Toolbox

    from drillbook import Drillbook


@dataclass
class Heard:
    """What was said, and the port Notifier that keeps what was told."""

    said: list[str] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)

    def tell(self, notice: Notice) -> None:
        """Keep it."""
        self.notices.append(notice)

    def flush(self, within_s: float) -> Delivery:
        """Nothing waits."""
        return Delivery(delivered=len(self.notices))

    def lost(self) -> list[Notice]:
        """Return the notices that a source is no ground for acting any more."""
        return [notice for notice in self.notices if notice.kind is NoticeKind.SOURCE_LOST]

    def listening(self, tools: Toolbox) -> Toolbox:
        """Return tools that speak to this one."""
        return replace(tools, notifier=self, say=self.said.append)


def result(tools: Toolbox, run: Run, action: str) -> dict[str, object]:
    found = tools.runs.result(run.plan.cause or run.id, action)
    assert isinstance(found, dict)
    return dict(found)


EXACT = SourceTraits("closed", 0.0, sampled=False, has_status=True, has_version=True)


@dataclass(frozen=True)
class Closed:
    """Port Traffic that cannot be read."""

    error: BackoutError
    traits: SourceTraits = EXACT

    def read(self, since: int, until: int) -> CountsPage:
        """Raise the error."""
        raise self.error


def test_rule_13_no_watch_begins_without_the_sources_credentials(tmp_path: Path) -> None:
    """They are missing or refused: said before the watch, not taken for silence; other trouble passes and is said."""
    story, heard = Story(tmp_path / "journal.sqlite"), Heard()
    tools = heard.listening(story.tools())
    with pytest.raises(AuthError, match="no key"):
        plan(replace(tools, traffic=Closed(AuthError("no key"))), mode=Mode.ACT, for_s=60)
    assert plan(replace(tools, traffic=Closed(ProviderUnavailable("no answer"))), mode=Mode.ACT, for_s=60).steps
    assert any("does not answer yet: no answer" in said for said in heard.said)


def late(story: Story, *, error_rate: float = 0.3, after_s: float = 10.0) -> None:
    """Have the bad version fail some seconds after now, so that a watch sees good counts first."""
    since, bad = story.world.clock.now() + after_s, story.bad.id
    sick, well = by_version(bad, error_rate=error_rate), make_steady(30)
    story.world.traffic_rule = lambda second, version: (sick if second >= since else well)(second, version)


@pytest.mark.long
def test_rule_13_sources(drillbook: Drillbook) -> None:
    """On the twin: in the middle of the watch the source says that it estimates: nothing is done, and that is said."""
    with api_gate(f"{drillbook.stage.twin.ingress_url}/twin/v1") as gate:
        trial = drillbook.trial().replace((r'url = "[^"]*/twin/v1"', f'url = "{gate.url}"'))
        trial.make_live(drillbook.good)
        pushed = trial.make_live(drillbook.bad)
        asked: list[str] = []

        def estimate(_method: str, path: str, body: bytes) -> bytes:
            if "/counts" not in path:
                return body
            asked.append(path)
            page = json.loads(body)
            # First the preflight asks, then the baseline; the third look begins the watch, with nothing to judge yet.
            if len(asked) == 3:
                return json.dumps({**page, "counts": [], "complete_until": 0}).encode()
            return json.dumps({**page, "sampled": len(asked) == 4}).encode()

        gate.alter = estimate
        ended = trial.run("guard", "--json")
    assert ended.code == 3, ended.err
    assert (ended.json["verdict"], ended.json["action"], ended.json["rule"]) == ("regressed", "hold", "13 sources")
    assert "estimates" in ended.json["why"]
    assert "nothing is done automatically on these counts" in ended.err
    assert trial.tools().deployments.history()[0].id == pushed.id


@pytest.mark.parametrize(
    "traits",
    [{"sampled": True}, {"lag_s": 30.0}, {"has_version": False}, {"has_status": False}],
    ids=lambda traits: next(iter(traits)),
)
def test_rule_13_what_a_source_declares(tmp_path: Path, traits: dict[str, object]) -> None:
    """Sampled, slow, without versions or statuses: its verdict is advice."""
    story = Story(tmp_path / "journal.sqlite")
    story.world.traits = replace(story.world.traits, **traits)  # type: ignore[arg-type]
    tools = story.tools()
    held = result(tools, watch(tools), "conclude")
    assert held["rule"] == "13 sources"
    assert "advice" in str(held["why"])
    assert not story.world.activations


def halve(story: Story) -> None:
    """Take the bad version back, and give it half of the traffic a while later."""
    rule, story.world.traffic_rule = story.world.traffic_rule, make_steady(30)
    story.world.deploy(story.good)
    story.world.clock.sleep(900)
    story.world.deploy((story.good.id, 50.0), (story.bad.id, 50.0))
    story.world.activations.clear()
    since = story.world.clock.now()
    story.world.traffic_rule = lambda second, name: (rule if second >= since else make_steady(30))(second, name)
    story.world.clock.sleep(2)


@pytest.mark.parametrize("has_choice", [True, False])
def test_rule_13_labels_that_a_visitor_may_choose_are_advice(tmp_path: Path, has_choice: bool) -> None:
    """In a split alone: in a cut-over nobody can choose a version; and health needs no labels."""
    story = Story(tmp_path / "journal.sqlite")
    story.world.traits = replace(story.world.traits, has_choice=has_choice)
    halve(story)
    tools = story.tools()
    concluded = result(tools, watch(tools), "conclude")
    assert concluded["action"] == ("rollback" if has_choice else "hold")
    assert bool(story.world.activations) is has_choice
    if has_choice:
        return
    assert concluded["rule"] == "13 sources"
    assert "does not see which requests chose their version" in str(concluded["why"])
    story.world.deploy(story.bad)
    story.world.clock.sleep(2)
    again = story.tools()
    assert result(again, watch(again), "conclude")["action"] == "rollback"


@dataclass
class Keyed:
    """Port Traffic in which a visitor whose key leads to one version sends it what fails, three times a second."""

    inner: Traffic
    victim: str
    takes_keyed: bool = True

    @property
    def traits(self) -> SourceTraits:
        """Those of the World."""
        return self.inner.traits

    def count_keyed(self, *, wanted: bool) -> None:
        """Count the visitor, or leave the visitor out."""
        self.takes_keyed = wanted

    def read(self, since: int, until: int) -> CountsPage:
        """Return what the World counts, and the visitor."""
        page = self.inner.read(since, until)
        return replace(page, counts=tuple(map(self._add, page.counts)))

    def _add(self, row: Counts) -> Counts:
        if row.version != self.victim:
            return row
        if self.takes_keyed:
            return replace(row, requests=row.requests + 3, errors=row.errors + 3)
        return replace(row, chosen=3)


@pytest.mark.parametrize(
    ("is_split", "sticky", "acts"), [(True, False, False), (True, True, True), (False, False, True)]
)
def test_rule_13_a_visitors_key_is_no_evidence_in_a_split(
    tmp_path: Path, is_split: bool, sticky: bool, acts: bool
) -> None:
    """Unless the team says that keys are its own; in a cut-over a key chooses nothing, so that it counts."""
    story, heard = Story(tmp_path / "journal.sqlite"), Heard()
    story.policy = replace(story.policy, guard=replace(story.policy.guard, sticky=sticky))
    if is_split:
        halve(story)
    story.world.traffic_rule = make_steady(30)
    tools = heard.listening(story.tools())
    source = Keyed(tools.traffic, story.bad.id)  # type: ignore[arg-type]
    run = watch(replace(tools, traffic=source))
    assert (result(tools, run, "watch")["verdict"] == "regressed") is acts
    assert bool(story.world.activations) is acts
    assert source.takes_keyed
    assert any("guard.sticky = true" in said for said in heard.said) is not acts
    assert any("whose version was chosen by a header" in said for said in heard.said) is not acts


def test_rule_13_sampling_downgrades_for_the_rest_of_the_watch(tmp_path: Path) -> None:
    """One page of estimates, and exact ones afterwards: told once, journalled, and the verdict stays advice."""
    story = Story(tmp_path / "journal.sqlite")
    world, heard = story.world, Heard()
    late(story)
    world.clock.at(world.clock.now() + 3, lambda: setattr(world, "sampled", True))
    world.clock.at(world.clock.now() + 4.5, lambda: setattr(world, "sampled", False))
    tools = heard.listening(story.tools())
    run = watch(tools)
    assert result(tools, run, "watch")["verdict"] == "regressed"
    assert "estimates" in str(result(tools, run, "watch")["downgraded"])
    assert result(tools, run, "conclude")["rule"] == "13 sources"
    assert not world.activations
    assert sum("nothing is done automatically" in text for text in heard.said) == 1
    assert len(heard.lost()) == 1
    progress = [event.data for event in tools.journal.events(run=run.id, kind="step.progress")]
    assert any(data.get("sampled") for data in progress)
    (text,) = world.reports.texts.values()
    assert "Nothing is done automatically on the counts" in text


def test_rule_13_a_resumed_watch_still_knows(tmp_path: Path) -> None:
    """Estimates before a crash are among the counts after it."""
    story = Story(tmp_path / "journal.sqlite")
    world = story.world
    late(story)
    world.clock.at(world.clock.now() + 3, lambda: setattr(world, "sampled", True))
    world.clock.at(world.clock.now() + 4.5, lambda: setattr(world, "sampled", False))
    crash_at = world.clock.now() + 6

    class Crash(Exception):
        pass

    def crash(name: str) -> None:
        if name == "traffic.read" and world.clock.now() >= crash_at:
            world.before_call = None
            raise Crash

    world.before_call = crash
    with pytest.raises(Exception, match="stopped in step"):
        watch(story.tools())
    tools = story.tools()
    assert result(tools, watch(tools), "conclude")["rule"] == "13 sources"
    assert not world.activations


def test_rule_13_a_baseline_of_estimates(tmp_path: Path) -> None:
    """What is normal was estimated: the comparison is advice."""
    story = Story(tmp_path / "journal.sqlite")
    story.world.sampled = True
    story.world.clock.at(story.world.clock.now() + 0.5, lambda: setattr(story.world, "sampled", False))
    tools = story.tools()
    late(story, after_s=3)
    assert result(tools, watch(tools), "conclude")["rule"] == "13 sources"


def test_rule_13_old_counts(tmp_path: Path) -> None:
    """A source that falls 40 s behind what it declares: by the time it shows the errors they are advice."""
    story = Story(tmp_path / "journal.sqlite")
    world, heard = story.world, Heard()
    began = int(world.clock.now())
    world.counted_until = began - 40
    for second in range(1, 90):
        world.clock.at(began + second, lambda second=second: setattr(world, "counted_until", began + second - 40))
    tools = heard.listening(story.tools())
    held = result(tools, watch(tools), "conclude")
    assert held["rule"] == "13 sources"
    assert "nothing newer than 30 s" in str(held["why"])
    assert len(heard.lost()) == 1
    assert not world.activations


def test_rule_13_a_source_that_comes_back(tmp_path: Path) -> None:
    """Lost for longer than 30 s: said and told once. When it is back and shows what happened, guard may act again."""
    story = Story(tmp_path / "journal.sqlite")
    world, heard = story.world, Heard()
    began = world.clock.now()

    def silent(name: str) -> None:
        if name == "traffic.read" and began + 1 < world.clock.now() < began + 40:
            raise ProviderUnavailable("no answer")

    late(story, after_s=2)
    world.before_call = silent
    tools = heard.listening(story.tools())
    watch(tools)
    assert world.live.sole == story.good.id
    (notice,) = heard.lost()
    assert notice.at - began > 30
    assert "the source of counts is up to date again" in heard.said


def test_rule_13_health_needs_no_counts(tmp_path: Path) -> None:
    """A critical service that goes down is seen by the probes: estimates and a lost source do not matter."""
    story = Story(tmp_path / "journal.sqlite")
    world = story.world
    world.sampled = True
    world.traffic_rule = make_steady(30)
    services = dict.fromkeys(SERVICES, ServiceState.OK)

    def health(at: float, version: str) -> HealthReport:
        down = {"database": ServiceState.DOWN} if version == story.bad.id else {}
        return make_health(at, {**services, **down}, version=version)

    world.health_rule = health
    watch(story.tools())
    assert world.live.sole == story.good.id
