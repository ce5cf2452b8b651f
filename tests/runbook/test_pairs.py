"""Paired probes on the memory World: the version before is asked beside the new one, by the rules of a proof."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from crashing import Crash, dies_at
from journal_engines import on_both
from shifted import ASKED, ME, Paired, denied, gone
from values import replace

from backout.analysis.shifts import Pairs
from backout.errors import AuthError, ProviderUnavailable, Refused
from backout.model.guard.fetched import Fetched
from backout.model.guard.policy import Expectation, Mode
from backout.model.guard.probes import PairedAnswer, VersionAnswer
from backout.model.plan import PlanKind
from backout.model.steps.guard import WatchStep
from backout.model.version import Mark
from backout.runbook.guard.guard import plan
from backout.runbook.probing.pairs import PairedProbe

from extent import sampled
from line import equip, watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backout.model.version import Version
    from backout.runbook.toolbox import Toolbox

    Route = Callable[[str, str], Fetched | int | None]

PATIENCE_S, PAIRED_S, AGAIN_S = 60.0, 60.0, 120.0
"""As docs/config.md promises."""


@pytest.mark.parametrize("route", [gone, denied])
def test_a_version_that_answers_worse_than_the_one_before_is_rolled_back(tmp_path: Path, route: Route) -> None:
    """404 for everything, or our own credentials let in no more, while no visitor's request fails."""
    story = Paired(tmp_path / "journal.sqlite", route)
    watch(story.tools())
    found = story.concluded()
    assert found["action"] == "rollback"
    assert "were asked side by side" in str(found["why"])
    assert story.pairs() == [{story.bad.id: 100.0, story.good.id: 0.0}]
    assert story.world.live.sole == story.good.id
    assert len(story.world.activations) == 1
    assert [m.version for m in story.tools().marks.marks("production") if m.mark is Mark.QUARANTINED] == [story.bad.id]


def test_what_is_answered_worse_is_asked_again(tmp_path: Path) -> None:
    """One of six requests that may be sent: with an equal turn for each, a minute would not be enough to be sure."""
    paths = ("/", "/a", "/app", "/b", "/c", "/d")
    guard = replace(ASKED, synthetic=paths, checks=())
    story = Paired(tmp_path / "journal.sqlite", lambda name, _version: 404 if name == "/app" else 200, guard)
    watch(story.tools())
    found = story.concluded()
    assert found["action"] == "rollback"
    assert "(first: /app)" in str(found["why"])


def test_both_that_fail_are_not_the_deployment(tmp_path: Path) -> None:
    """Credentials that ran out: the version before lets them in no more either; nothing is rolled back."""
    story = Paired(tmp_path / "journal.sqlite", denied)
    story.world.route_rule = lambda name, _version: 401 if name == ME.name else 200
    watch(story.tools())
    found = story.concluded()
    assert found["action"] == "hold"
    assert "the version before it, asked the same, fails as well" in str(found["why"])
    assert not story.world.activations


def test_a_page_that_moved_is_told_only(tmp_path: Path) -> None:
    """301 to a page of the same host that answers well: healthy, and the shift stands beside."""
    moved = Fetched(301, {"location": "/new"}, ends=200, hops=1)
    story = Paired(tmp_path / "journal.sqlite", lambda name, _version: moved if name == "/app" else 200)
    watch(story.tools())
    assert story.concluded()["action"] == "stable"
    assert len(story.pairs()) == 1


def test_a_page_that_is_gone_for_good_is_told_only(tmp_path: Path) -> None:
    """410 from one of guard's own requests: an API that was retired, as from visitors'; nobody is asked."""
    story = Paired(tmp_path / "journal.sqlite", lambda name, _version: 410 if name == "/app" else 200)
    watch(story.tools())
    assert story.concluded()["action"] == "stable"
    assert story.pairs() == []


def held(story: Paired, why: str) -> None:
    """The watch ended held, and says why both were not asked."""
    said: list[str] = []
    watch(replace(story.tools(), say=said.append))
    found = story.concluded()
    assert found["action"] == "hold"
    assert why in str(found["why"])
    assert any(why in text for text in said)
    assert not story.world.activations


def test_a_guard_that_only_observes_asks_nothing(tmp_path: Path) -> None:
    """And says so."""
    story = Paired(tmp_path / "journal.sqlite", gone, replace(ASKED, mode=Mode.OBSERVE))
    held(story, "guard only observes, so it deploys nothing")
    assert story.pairs() == []


ASKING = replace(ASKED, mode=Mode.ASK)


def test_a_guard_that_asks_deploys_nothing_unasked(tmp_path: Path) -> None:
    """Mode ask without a terminal: held, with the reason, and with what to type for the next time."""
    story = Paired(tmp_path / "journal.sqlite", gone, ASKING)
    before = len(story.world.all_deployments)
    held(story, "guard deploys nothing unasked (mode = ask)")
    assert len(story.world.all_deployments) == before
    assert "type `backout guard -e production --mode ask --next` on a terminal" in str(story.concluded()["options"])


@pytest.mark.parametrize(
    ("typed", "why"), [(True, "were asked side by side"), (False, "a person said no"), (None, "ask was not typed")]
)
def test_a_guard_that_asks_waits_for_nobody(tmp_path: Path, typed: bool | None, why: str) -> None:
    """Mode ask on a terminal: the watch goes on until somebody types, and nothing is deployed before that."""
    story = Paired(tmp_path / "journal.sqlite", gone, ASKING)
    asked: list[tuple[str, str, int]] = []

    def consent(question: str, word: str) -> bool | None:
        asked.append((question, word, len(story.pairs())))
        return typed if len(asked) > 3 else None

    watch(equip(story.tools(), consent=consent, confirm=lambda _plan: False))
    assert len(asked) > 3
    assert {pairs for _, _, pairs in asked} == {0}
    assert story.bad.id[:8] in asked[0][0]
    assert len(story.pairs()) == (typed is True)
    tools = story.tools()
    watched = tools.runs.result(tools.runs.runs("production")[0].id, "watch")
    assert isinstance(watched, dict)
    assert why in f"{watched['decision']['reason']} {watched['not_asked']}"  # type: ignore[index,call-overload]
    assert (story.concluded()["action"], len(story.world.activations)) == ("hold", 0)


def test_a_person_is_not_asked_again_for_what_was_deployed_already(tmp_path: Path) -> None:
    """Said yes, then the process died: the watch that is taken up goes on asking both versions."""
    story = Paired(tmp_path / "journal.sqlite", gone, ASKING)

    def die(name: str) -> None:
        if name == "deployments.deploy":
            raise Crash

    story.world.after_call = die
    with pytest.raises(Crash):
        watch(equip(story.tools(), consent=lambda _question, _word: True))
    story.world.after_call = None
    watch(equip(story.tools(), consent=lambda _question, _word: None, confirm=lambda _plan: True))
    assert story.concluded()["action"] == "rollback"
    assert len(story.pairs()) == 1


def test_requests_that_cannot_be_sent_are_why_nobody_was_asked(tmp_path: Path) -> None:
    """Their credentials are gone, say: the hold names that, and what to do."""
    story = Paired(tmp_path / "journal.sqlite", gone)
    error = ProviderUnavailable("no credentials", hint="export API_TOKEN=...")

    class Mute:
        def __getattr__(self, name: str) -> object:
            return getattr(story.world.health, name)

        def fetch(self, *_args: object, **_named: object) -> Fetched:
            raise error

    story.world.route_rule = lambda _name, version: 404 if version == story.bad.id else 200
    tools = equip(story.tools(), pairing=Mute())  # type: ignore[arg-type]
    watch(tools)
    found = story.concluded()
    assert found["action"] == "hold"
    assert "both versions were not asked: the requests are not sent: no credentials" in str(found["why"])
    assert "export API_TOKEN=..." in str(found["options"])


def test_a_permission_that_lacks_is_why_nobody_was_asked(tmp_path: Path) -> None:
    """The token may read and not deploy: the hold says so, with what to type."""
    story = Paired(tmp_path / "journal.sqlite", gone)

    def deny(name: str) -> None:
        if name == "deployments.deploy":
            raise AuthError("the token may not deploy", hint="backout doctor")

    story.world.before_call = deny
    watch(story.tools())
    found = story.concluded()
    assert "both versions were not asked: the token may not deploy" in str(found["why"])
    assert "backout doctor" in str(found["options"])


def test_a_hold_says_what_asking_came_to() -> None:
    """Visitors are answered 404, and guard's own requests are not: asked the same, both are alike."""
    tally = Pairs()
    assert tally.sentence == ""
    fine, worse = VersionAnswer(200, ""), VersionAnswer(404, "")
    tally.add([PairedAnswer(1.0, "/app", fine, fine)] * 3)
    assert tally.sentence == "asked the same 3 times, which is not enough to tell the two versions apart"
    tally.add([PairedAnswer(1.0, "/app", fine, fine)] * 9)
    assert tally.sentence == "asked the same 12 times, both versions answered alike"
    tally.add([PairedAnswer(1.0, "/app", worse, fine)] * 2)
    assert "this version answered worse 2 times" in tally.sentence


def test_who_answered_must_be_known(tmp_path: Path) -> None:
    """An application that does not say which version answers: nothing is concluded from its answers."""
    story = Paired(tmp_path / "journal.sqlite", gone)
    story.names_itself = False
    held(story, "the application does not say which version answered")
    assert len(story.pairs()) == 1


def test_an_answer_may_say_itself_who_gave_it(tmp_path: Path) -> None:
    """A header with the id of the version is enough, also where /health names none."""
    story = Paired(tmp_path / "journal.sqlite", gone)
    story.names_itself = False
    route = story.world.route_rule
    story.world.route_rule = lambda name, version: Fetched(
        int(str(route(name, version))), {"x-version": version if story.pairs() else story.world.live.main}
    )
    with pytest.raises(Refused, match="cannot be proved"):  # the proof of a target wants more than that
        watch(story.tools())
    tools = story.tools()
    found = next(run for run in tools.runs.runs("production") if run.plan.kind is PlanKind.GUARD)
    watched = tools.runs.result(found.id, "watch")
    assert isinstance(watched, dict)
    assert (watched["verdict"], watched["not_asked"]) == ("regressed", "")


def test_a_hold_stops_it(tmp_path: Path) -> None:
    """Rule 10: nothing is deployed automatically."""
    story = Paired(tmp_path / "journal.sqlite", gone)
    live = story.world.live
    story.world.clock.sleep(1)
    story.world.deploy((story.bad.id, 100.0), message="[backout hold until=2027-01-15T20:00:00Z] migrating")
    assert live.main == story.bad.id
    watch(story.tools())
    assert story.concluded()["action"] == "hold"
    assert story.pairs() == []


def test_a_schema_that_the_old_version_does_not_know_forbids_it(tmp_path: Path) -> None:
    """Rule 4: its answers would say nothing about the new version."""
    story = Paired(tmp_path / "journal.sqlite", gone)
    story.world.migrate("0002_more")
    held(story, "may not be asked")
    assert story.pairs() == []


def test_what_is_declared_as_intended_is_not_asked(tmp_path: Path) -> None:
    """`guard.expect`: the page may be gone."""
    expected = replace(ASKED, checks=(), expect=(Expectation("GET", "/app", (404,)),))
    story = Paired(tmp_path / "journal.sqlite", gone, expected)
    watch(story.tools())
    assert story.concluded()["action"] == "stable"
    assert story.pairs() == []


def test_what_a_watch_was_started_with_is_known_when_it_is_taken_up_again(tmp_path: Path) -> None:
    """`--expect`, then the process dies: the second one has no flag, and still knows what was meant."""
    story = Paired(tmp_path / "journal.sqlite", gone, replace(ASKED, checks=()))
    meant = (Expectation("GET", "/app", (404,)),)
    tools = story.tools()
    begun = replace(tools, policy=replace(tools.policy, guard=replace(tools.policy.guard, expect=meant)))

    def die(name: str) -> None:
        if name == "health.fetch":
            raise Crash

    story.world.before_call = die
    with pytest.raises(Crash):
        watch(begun)
    story.world.before_call = None
    watch(story.tools())
    assert story.concluded()["action"] == "stable"


def test_a_hotfix_that_slips_in_is_put_back(tmp_path: Path) -> None:
    """Rule 8: between the look and the deployment somebody deployed; that is live again, and nothing else is done."""
    story = Paired(tmp_path / "journal.sqlite", gone)
    world = story.world
    fix = world.upload("hotfix")

    def slip_in(name: str) -> None:
        if name == "deployments.deploy":
            world.before_call = None
            world.deploy(fix)

    world.before_call = slip_in
    watch(story.tools())
    assert world.live.sole == fix.id
    assert world.live.message.startswith("put back by backout")


def test_an_answer_that_was_lost_makes_no_second_deployment(tmp_path: Path) -> None:
    """The provider took it, and its answer never came."""
    story = Paired(tmp_path / "journal.sqlite", gone)

    def lose(name: str) -> None:
        if name == "deployments.deploy":
            story.world.after_call = None
            raise ProviderUnavailable("no answer")

    story.world.after_call = lose
    watch(story.tools())
    assert story.concluded()["action"] == "rollback"
    assert len(story.pairs()) == 1


@pytest.mark.proof
@on_both
def test_crash_while_both_are_asked(quick_path: Path) -> None:
    """Whatever the moment: one deployment that asks, one switch back, one report."""
    for moment in sampled(400, 80, 20):
        story = Paired(quick_path / f"{moment}.sqlite", gone)
        if not dies_at(story, moment + 1, watch):
            break
        newest = story.tools().runs.runs("production")[0]
        if not (newest.plan.kind is PlanKind.ROLLBACK and newest.state.is_over):
            watch(story.tools())
        assert story.world.live.sole == story.good.id, moment
        assert len(story.pairs()) == 1, moment
        assert len(story.world.activations) == 1, moment
        assert len(story.world.reports.texts) == 1, moment


def test_asking_goes_on_for_its_time_although_it_is_not_wanted_in_between(tmp_path: Path) -> None:
    """Evidence that hovers around what is needed stops nothing; after a minute it is over, by one deployment."""
    story = Paired(tmp_path / "journal.sqlite", gone)
    probe, pairs = asking(story), []
    for second in range(70):
        pairs.append(len(probe.tick(wanted=second % 3 == 0)))
        story.world.clock.sleep(1)
    assert sum(pairs[:60]) > 50
    assert sum(pairs[62:]) == 0
    assert len(story.pairs()) == 1


@pytest.mark.parametrize("takes_s", [0.0, 30.0])
def test_a_deployment_may_take_its_time_to_reach_what_answers(tmp_path: Path, takes_s: float) -> None:
    """Until then the new version answers in place of the old one; what counts is time, not how often that was seen."""
    story = Paired(tmp_path / "journal.sqlite", gone)
    world, route, health = story.world, story.route, story.health

    def reached(version: str) -> str:
        made = [each for each in world.all_deployments if len(each.shares) > 1]
        return version if not made or world.clock.now() >= made[0].created_at + takes_s else world.live.main

    world.route_rule = lambda name, version: route(name, reached(version))
    world.health_rule = lambda now, version: health(now, reached(version))
    watch(story.tools(), for_s=120)
    assert story.concluded()["action"] == "rollback"
    assert len(story.pairs()) == 1


def asking(story: Paired) -> PairedProbe:
    """Return the paired probe of a watch that has begun."""
    tools = story.tools()
    run = tools.journal.submit(plan(tools, mode=Mode.ACT, for_s=60), actor="ops@host", reason="why")
    found = tools.runs.find(run)
    assert found is not None
    return PairedProbe(tools, found.plan.arguments(WatchStep), run, Mode.ACT)


def test_what_never_answers_is_given_up_after_a_while(tmp_path: Path) -> None:
    """The deployment does not arrive: a minute of trying, two seconds apart, and then the reason."""
    story = Paired(tmp_path / "journal.sqlite", gone)
    world, health = story.world, story.health
    world.health_rule = lambda now, _version: health(now, world.live.main)
    probe, asked = asking(story), 0
    while probe.goes_on and asked < 500:
        probe.tick(wanted=True)
        world.clock.sleep(1)
        asked += 1
    assert PATIENCE_S - 2 <= asked <= PATIENCE_S + 5
    assert world.calls.count("health.fetch") <= PATIENCE_S + 20
    assert probe.obstacle is not None
    assert "did not answer within 60 s" in probe.obstacle.why


def test_a_second_suspicion_is_asked_about_too(tmp_path: Path) -> None:
    """Both let our credentials in no more, which is not the deployment; minutes later a page is gone, and that is."""
    story = Paired(tmp_path / "journal.sqlite", denied)
    begun = story.world.clock.now()

    def bad(name: str, version: str) -> int:
        is_gone = name == "/app" and story.world.clock.now() >= begun + 200
        return 404 if is_gone else denied(name, version)

    story.bad_route = bad
    route = story.world.route_rule
    story.world.route_rule = lambda name, version: 401 if name == ME.name else route(name, version)
    watch(story.tools(), for_s=500)
    found = story.concluded()
    assert found["action"] == "rollback", found["why"]
    assert "(first: /app)" in str(found["why"])
    assert len(story.pairs()) == 1


def test_what_stays_suspected_is_asked_about_ever_more_rarely(tmp_path: Path) -> None:
    """A minute, then pauses of 2, 4, 8, 16 minutes: no site feels it, and by one deployment."""
    story = Paired(tmp_path / "journal.sqlite", gone)
    probe, times = asking(story), list[int]()
    for second in range(3600):
        if probe.tick(wanted=second < 10, suspected=("GET /app",)):
            times.append(second)
        story.world.clock.sleep(1)
    starts = [now for before, now in zip([-1000, *times], times, strict=False) if now - before > AGAIN_S / 2]
    assert [round((b - a - PAIRED_S) / AGAIN_S) for a, b in pairwise(starts)] == [1, 2, 4, 8]
    assert len(story.pairs()) == 1


def slipped_in(story: Paired) -> Version:
    """Return a hotfix that somebody deploys between guard's look and its deployment."""
    world = story.world
    fix = world.upload("hotfix")

    def slip_in(name: str) -> None:
        if name == "deployments.deploy":
            world.before_call = None
            world.deploy(fix)

    world.before_call = slip_in
    return fix


def test_a_hotfix_is_put_back_although_nobody_saw_the_answer(tmp_path: Path) -> None:
    """The provider took it, its answer never came, and the list did not either for a while."""
    story = Paired(tmp_path / "journal.sqlite", gone)
    world = story.world
    fix = slipped_in(story)
    silent_until = 0.0

    def lose(name: str) -> None:
        nonlocal silent_until
        if name == "deployments.deploy" and not silent_until:
            silent_until = world.clock.now() + 12
            raise ProviderUnavailable("no answer")
        if name == "deployments.history" and world.clock.now() < silent_until:
            raise ProviderUnavailable("no answer")

    world.after_call = lose
    watch(story.tools())
    assert world.live.sole == fix.id


def test_a_hotfix_is_put_back_by_the_watch_that_is_taken_up_again(tmp_path: Path) -> None:
    """Killed right after the deployment that undid it; whether both are still to be asked does not matter then."""
    story = Paired(tmp_path / "journal.sqlite", gone)
    world = story.world
    fix = slipped_in(story)

    def die(name: str) -> None:
        if name == "deployments.deploy":
            raise Crash

    world.after_call = die
    with pytest.raises(Crash):
        watch(story.tools())
    world.after_call = None
    story.bad_route = lambda _name, _version: 200
    watch(story.tools())
    assert world.live.sole == fix.id


def probed(story: Paired, tools: Toolbox) -> str:
    """Return why both are not asked, "" where they are."""
    run = tools.journal.submit(plan(tools, mode=Mode.ACT, for_s=60), actor="ops@host", reason="why")
    found = tools.runs.find(run)
    assert found is not None
    asking = PairedProbe(tools, found.plan.arguments(WatchStep), run, Mode.ACT)
    asking.tick(wanted=True)
    assert bool(story.pairs()) is (asking.obstacle is None)
    return asking.obstacle.why if asking.obstacle is not None else ""


def test_a_way_back_is_not_judged_by_the_version_that_a_person_left(tmp_path: Path) -> None:
    """Back in the provider's console: what the newer version had and this one has not is no regression."""
    story = Paired(tmp_path / "journal.sqlite", gone)
    story.world.deploy(story.good)
    story.world.clock.sleep(2)
    assert "this is a way back" in probed(story, story.tools())


def test_an_old_configuration_deploys_nothing(tmp_path: Path) -> None:
    """Rule 1: what is live came from a commit that the working copy of backout.toml does not know."""
    story = Paired(tmp_path / "journal.sqlite", gone)
    story.bad = story.world.upload("newer", git_sha="abcdef1234567890")
    story.world.deploy(story.bad)
    story.world.clock.sleep(2)

    class Older:
        def contains(self, _commit: str) -> bool:
            return False

    assert "older than what is live" in probed(story, equip(story.tools(), checkout=Older()))  # type: ignore[arg-type]
