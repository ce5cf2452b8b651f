"""Rule 15, one truth on every machine: marks are written at the provider and rebuilt from it with an empty journal."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from values import replace

from backout.analysis.history.remark_text import parse
from backout.analysis.history.remarks import find_underneath, is_remark
from backout.analysis.history.stability import find_quarantine, find_stable_mark
from backout.errors import AuthError, BackoutError, ProviderUnavailable
from backout.model.guard.policy import Mode
from backout.model.hold import Hold
from backout.model.identity import Identity
from backout.model.plan import PlanKind, PlanRefused
from backout.model.remark import Code, Remark, RemarkKind
from backout.model.version import Mark
from backout.plan.rollback import Request
from backout.providers.memory import make_steady
from backout.runbook.guard import guard
from backout.runbook.incident.status import read_status
from backout.runbook.observe import observe
from backout.runbook.rollback.remarks import tell_provider
from backout.runbook.rollback.rollback import prepare
from backout.runbook.safety.release import find_standing, release

from line import Story, by_version, equip, roll_back, toolbox, watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backout.model.deployment import Deployment
    from backout.model.incident.incident import Run
    from backout.model.situation import Situation
    from backout.model.version import Version
    from backout.providers.memory import WorldClock
    from backout.runbook.toolbox import Toolbox

    from drillbook import Drillbook, Trial


class Wrong:
    """A machine's clock that goes wrong by so many seconds."""

    def __init__(self, clock: WorldClock, by_s: float) -> None:
        self._clock, self._by_s = clock, by_s

    def now(self) -> float:
        """Return its time."""
        return self._clock.now() + self._by_s

    def sleep(self, seconds: float) -> None:
        """Wait."""
        self._clock.sleep(seconds)


def machine(story: Story, name: str, *, wrong_by_s: float = 0.0) -> Toolbox:
    """Return the tools of another machine; its journal is empty when it is first named."""
    tools = toolbox(story.world, story.path.parent / name / "journal.sqlite", policy=story.policy)
    return replace(tools, clock=Wrong(story.world.clock, wrong_by_s))


def bad_in(situation: Situation, version: Version) -> bool:
    """Whether a situation tells that the version is quarantined."""
    return find_quarantine(situation, version.id, version.code_hash) is not None


def concluded(tools: Toolbox, run: Run) -> dict[str, object]:
    found = tools.runs.result(run.plan.cause or run.id, "conclude")
    assert isinstance(found, dict)
    return dict(found)


def told(deployments: list[Deployment], kind: RemarkKind, version: Version) -> list[Deployment]:
    """Return the deployments that say this of a version."""
    said = [(deployment, parse(deployment.message)) for deployment in deployments]
    return [d for d, r in said if r is not None and r.kind is kind and r.code == Code.of(version)]


def test_rule_15_one_truth_an_empty_journal_knows_what_is_stable(tmp_path: Path) -> None:
    """A machine that never saw the watch rolls back to the version that it proved, without accepting anything."""
    story = Story(tmp_path / "journal.sqlite")
    other = machine(story, "other")
    assert find_stable_mark(observe(other), story.good.id) is not None
    roll_back(other)
    assert story.world.live.sole == story.good.id
    assert bad_in(observe(story.tools()), story.bad)


def test_rule_15_one_truth_two_machines_and_a_double_rollback(tmp_path: Path) -> None:
    """One rolls back by guard; the other, knowing nothing, will not flip back, whatever it is asked."""
    story = Story(tmp_path / "journal.sqlite")
    watch(story.tools())
    other = machine(story, "other")
    for request in (Request(message="again"), Request(message="again", target=story.bad.id, accept_unproven=True)):
        _, refused = prepare(other, request)
        assert isinstance(refused, PlanRefused)
        assert refused.rule == "5 quarantined"
    assert len(story.world.activations) == 1
    found = read_status(other)
    assert found.stable is not None
    assert found.quarantined is None
    assert found.elsewhere is not None
    assert read_status(story.tools()).elsewhere is None
    assert concluded(other, watch(other))["action"] == "stable"  # guard measures it by the limits, not by the bad one
    assert len(story.world.activations) == 1


def test_rule_15_one_truth_a_quarantine_that_left_the_list_is_not_forgotten(tmp_path: Path) -> None:
    """A guard saw another machine's quarantine; after ten deployments more, this machine still obeys it."""
    story = Story(tmp_path / "journal.sqlite")
    world = story.world
    world.traffic_rule = make_steady(30)
    third = world.upload("third")
    world.deploy(third)
    watch(story.tools(), for_s=25)
    world.deploy(story.good)
    world.clock.sleep(60)
    roll_back(machine(story, "other"), Request(message="it was bad after all", target=third.id))
    watch(story.tools(), for_s=25)
    for number in range(11):
        world.clock.sleep(700)
        world.deploy(world.upload(f"later {number}"))
    _, refused = prepare(story.tools(), Request(message="again", target=story.good.id))
    assert isinstance(refused, PlanRefused)
    assert refused.rule == "5 quarantined"
    told_here = [mark for mark in story.tools().marks.marks("production") if mark.version == story.good.id]
    assert [mark.mark for mark in told_here] == [Mark.STABLE, Mark.QUARANTINED]


def test_rule_15_one_truth_a_reupload_is_known_under_its_new_id(tmp_path: Path) -> None:
    """The other machine's guard says so at once, and rolls it back on evidence; the first machine agrees."""
    story = Story(tmp_path / "journal.sqlite")
    watch(story.tools())
    world, other = story.world, machine(story, "other")
    world.clock.sleep(7 * 3600)
    again = world.upload("again", code="bad")
    world.traffic_rule = by_version(again.id)
    world.deploy(again)
    world.clock.sleep(2)
    assert find_standing(other, again.id).bad is not None
    assert read_status(other).quarantined is not None
    plan = guard.plan(other, mode=Mode.ACT, for_s=60)
    assert plan.step("watch").args["known_bad"] is not None
    assert watch(other).plan.kind is PlanKind.ROLLBACK
    assert world.live.sole == story.good.id
    assert bad_in(observe(story.tools()), again)


@pytest.mark.parametrize("by", [0, 1])
@pytest.mark.parametrize("wrong_by_s", [-40.0, 0.0, 40.0])
def test_rule_15_one_truth_a_release_right_after_a_rollback_wins(tmp_path: Path, wrong_by_s: float, by: int) -> None:
    """On every machine, whichever made the marks, and however wrong the clock of the one that did."""
    story = Story(tmp_path / "journal.sqlite")
    first, second = machine(story, "first", wrong_by_s=wrong_by_s), machine(story, "second", wrong_by_s=-wrong_by_s)
    roll_back(first)
    machines = (first, second, story.tools(), machine(story, "third"))
    assert all(bad_in(observe(tools), story.bad) for tools in machines)
    lifting = machines[by]
    found = find_standing(lifting, story.bad.id)
    assert found.bad is not None
    story.world.clock.sleep(0.5)
    release(lifting, found.situation, found.bad, "the upstream was to blame")
    assert not any(bad_in(observe(tools), story.bad) for tools in machines)
    story.world.clock.sleep(0.5)
    story.world.deploy(story.bad)
    roll_back(lifting)  # and a rollback right after the release wins again
    assert all(bad_in(observe(tools), story.bad) for tools in machines)


@pytest.mark.parametrize("wrong_by_s", [-40.0, 40.0])
def test_rule_15_one_truth_a_release_that_stays_in_the_journal_wins_here(tmp_path: Path, wrong_by_s: float) -> None:
    """Marks at the provider are switched off: this machine still reads its release after what it lifts."""
    story = Story(tmp_path / "journal.sqlite")
    tools = replace(machine(story, "own", wrong_by_s=wrong_by_s), provider_marks=False)
    roll_back(story.tools())
    count = len(story.world.all_deployments)
    found = find_standing(tools, story.bad.id)
    assert found.bad is not None
    assert release(tools, found.situation, found.bad, "mended").deployment is None
    assert not bad_in(observe(tools), story.bad)
    assert len(story.world.all_deployments) == count


def healthy(tmp_path: Path) -> Story:
    """Return the story in which the second version is well."""
    story = Story(tmp_path / "journal.sqlite")
    story.world.traffic_rule = make_steady(2000)
    return story


def test_rule_15_one_truth_a_remark_is_not_a_deployment(tmp_path: Path) -> None:
    """It moves no traffic, voids no watch of others, and the deployment underneath is the one that is live."""
    story = healthy(tmp_path)
    world, live = story.world, story.world.live
    other, seen = machine(story, "other"), []
    world.clock.at(world.clock.now() + 10, lambda: seen.append(watch(story.tools(), for_s=5)))
    assert concluded(other, watch(other, for_s=30))["action"] == "stable"
    assert concluded(story.tools(), seen[0])["action"] == "stable"
    (said,) = told(world.all_deployments, RemarkKind.STABLE, story.bad)  # the second one found it there
    history = other.deployments.history()
    assert is_remark(next(d for d in history if d.id == said.id))
    assert find_underneath(history).id == live.id
    assert observe(other).live.id == live.id
    assert not world.activations


def test_rule_15_one_truth_a_mark_that_stands_is_renewed_after_a_migration_only(tmp_path: Path) -> None:
    """The provider lists ten deployments, so a mark costs one only when it says something new."""
    story = healthy(tmp_path)
    for _ in range(3):
        assert concluded(story.tools(), watch(story.tools(), for_s=20))["action"] == "stable"
    assert len(told(story.world.all_deployments, RemarkKind.STABLE, story.bad)) == 1
    story.world.clock.sleep(1)
    story.world.migrate("0002_more")
    story.world.clock.sleep(1)
    watch(story.tools(), for_s=20)
    assert len(told(story.world.all_deployments, RemarkKind.STABLE, story.bad)) == 2


@pytest.mark.parametrize(
    "error", [AuthError("no permission", where="memory"), ProviderUnavailable("down", where="memory")]
)
def test_rule_15_one_truth_what_cannot_be_written_changes_no_verdict(tmp_path: Path, error: BackoutError) -> None:
    """Marked stable here only, and that is said."""
    story, said = healthy(tmp_path), []

    def fail(call: str) -> None:
        if call == "deployments.deploy":
            raise error

    story.world.before_call = fail
    tools = replace(story.tools(), say=said.append)
    found = concluded(tools, watch(tools, for_s=20))
    assert found["action"] == "stable"
    assert found["provider_mark"] == {"deployment": None, "problem": str(error)}
    assert any("other machines do not know it" in text for text in said)
    assert find_stable_mark(observe(tools), story.bad.id) is not None


def test_rule_15_one_truth_a_lost_answer_is_looked_for(tmp_path: Path) -> None:
    """The provider took the remark and its answer got lost: it is found, and not written twice."""
    story = healthy(tmp_path)

    def lose(call: str) -> None:
        if call == "deployments.deploy":
            raise ProviderUnavailable("no answer", where="memory")

    story.world.after_call = lose
    found = concluded(story.tools(), watch(story.tools(), for_s=20))
    (made,) = told(story.world.all_deployments, RemarkKind.STABLE, story.bad)
    assert found["provider_mark"] == {"deployment": made.id, "problem": None}


def only_observes(tools: Toolbox) -> Toolbox:
    return replace(tools, policy=replace(tools.policy, guard=replace(tools.policy.guard, mode=Mode.OBSERVE)))


def switched_off(tools: Toolbox) -> Toolbox:
    return replace(tools, provider_marks=False)


def held(tools: Toolbox) -> Toolbox:
    class Held:
        def read(self, environment: str) -> Hold:
            return Hold(
                tools.clock.now() + 3600, f"{environment}: quiet, please", "ops", tools.clock.now(), "this host"
            )

        def write(self, environment: str, hold: Hold) -> None:
            raise AssertionError(environment, hold)

    return equip(tools, holds=Held())


@pytest.mark.parametrize("arranged", [only_observes, switched_off, held])
def test_rule_15_one_truth_nothing_is_written_where_it_is_not_wanted(
    tmp_path: Path, arranged: Callable[[Toolbox], Toolbox]
) -> None:
    """Guard that only observes, a configuration that keeps marks here, a hold: stable in the journal alone."""
    story = healthy(tmp_path)
    tools = arranged(story.tools())
    count = len(story.world.all_deployments)
    assert concluded(tools, watch(tools, for_s=20))["action"] == "stable"
    assert len(story.world.all_deployments) == count
    assert find_stable_mark(observe(story.tools()), story.bad.id) is not None


@pytest.mark.parametrize("crashes", [False, True])
def test_rule_15_one_truth_a_hotfix_under_a_remark_is_put_back(tmp_path: Path, crashes: bool) -> None:
    """Somebody deploys between the look at what is live and the remark: it is not undone, after a crash neither."""
    story = healthy(tmp_path)
    world = story.world
    hotfix: list[Version] = []

    class Crash(BaseException):
        """The process dies here."""

    def slip_in(call: str) -> None:
        if call == "deployments.deploy" and not hotfix:
            hotfix.append(world.upload("hotfix"))
            world.deploy(hotfix[0], message="hotfix")

    def die(call: str) -> None:
        if crashes and call == "deployments.deploy":
            world.after_call = None
            raise Crash

    world.before_call, world.after_call = slip_in, die
    try:
        watch(story.tools(), for_s=20)
    except Crash:
        watch(story.tools(), for_s=20)
    assert world.live.sole == hotfix[0].id
    assert find_underneath(story.tools().deployments.history()).sole == hotfix[0].id


@pytest.mark.parametrize("silence_s", [0.0, 3.0])
def test_rule_15_one_truth_a_hotfix_under_a_remark_whose_answer_was_lost_is_put_back(
    tmp_path: Path, silence_s: float
) -> None:
    """The provider took the remark, which undid the hotfix; its answer never came, nor did the list for a moment."""
    story = healthy(tmp_path)
    world = story.world
    hotfix: list[Version] = []
    silent_until = 0.0

    def slip_in(call: str) -> None:
        if call == "deployments.deploy" and not hotfix:
            hotfix.append(world.upload("hotfix"))
            world.deploy(hotfix[0], message="hotfix")

    def lose(call: str) -> None:
        nonlocal silent_until
        if call == "deployments.deploy" and not silent_until:
            silent_until = world.clock.now() + silence_s
            raise ProviderUnavailable("no answer")
        if call == "deployments.history" and world.clock.now() < silent_until:
            raise ProviderUnavailable("no answer")

    world.before_call, world.after_call = slip_in, lose
    watch(story.tools(), for_s=20)
    assert world.live.sole == hotfix[0].id


def test_rule_15_one_truth_remarks_never_stand_in_the_way(tmp_path: Path) -> None:
    """A hold upon a hold pushed what is live out of the provider's list: a rollback is possible all the same."""
    story = Story(tmp_path / "journal.sqlite")
    for _ in range(12):
        story.world.deploy(story.bad, message=str(Remark(RemarkKind.HOLD, text="lifted")))
    roll_back(story.tools())
    assert story.world.live.sole == story.good.id
    assert bad_in(observe(machine(story, "other")), story.bad)


@pytest.mark.parametrize("reason", ["proof", "identity"])
def test_rule_15_one_truth_a_remark_obeys_the_rules_of_a_change(tmp_path: Path, reason: str) -> None:
    """Nothing is written while another machine proves a target, nor where the identity is another one."""
    story = healthy(tmp_path)
    tools = story.tools()
    if reason == "identity":
        other = SimpleNamespace(read=lambda: Identity(account_id="theirs"))
        tools = equip(tools, pinned=Identity(account_id="ours"), identities=other)
    else:
        proof = str(Remark(RemarkKind.PROVE, "rollback-elsewhere"))
        story.world.deploy((story.bad.id, 100.0), (story.good.id, 0.0), message=proof)
    remark = Remark(RemarkKind.STABLE, "guard-1", code=Code.of(story.bad), text="well")
    made = tell_provider(tools, remark, observe(tools).live.id)
    assert made.deployment is None
    assert ("is rolling back just now" if reason == "proof" else "not the environment") in made.problem
    assert not told(story.world.all_deployments, RemarkKind.STABLE, story.bad)


# --- the program on the twin ---------------------------------------------------------------------------------------

WHY = ("-m", "it fails", "--confirm", "production", "--json")


def only_good(trial: Trial) -> Deployment:
    """Let the provider list nothing but the good version, so that a watch of it compares it with the limits alone."""
    return [trial.make_live(trial.book.good) for _ in range(trial.book.listed)][-1]


def listed(trial: Trial, version: str) -> dict[str, object]:
    """Return what `deployments list` says of a version."""
    found = trial.run("deployments", "list", "--json").json["deployments"]
    versions = [each for deployment in found for each in deployment["versions"]]
    return dict(next(each for each in versions if each["version"] == version))


@pytest.mark.both_homes
@pytest.mark.rotating("rules on the twin", 4)
@pytest.mark.long
def test_rule_15_one_truth(drillbook: Drillbook) -> None:
    """Two machines with empty journals: what guard marks and a person leaves on one is known on the other."""
    first, second = (drillbook.trial().forget_marks() for _ in range(2))
    only_good(first)
    blessed = first.run("guard", "--early", "--json")
    assert (blessed.code, blessed.json["action"]) == (0, "stable"), blessed.err
    carried_by = blessed.json["provider_mark"]["deployment"]
    assert carried_by is not None
    assert blessed.json["deployment_id"] != carried_by

    shown = second.run("deployments", "list", "--json").json["deployments"]
    assert [d["remark"] for d in shown if d["deployment_id"] == carried_by] == ["stable"]
    assert "stable" in second.run("deployments", "list").out
    status = second.run("status", "--json").json
    assert (status["stable"], status["deployment_id"]) == (True, blessed.json["deployment_id"])

    second.make_live(drillbook.bad)
    assert second.run("deployments", "check", drillbook.bad, "--json").code == 0
    left = second.run("rollback", "--no-wait", *WHY)  # the target is proven, by the other machine
    assert (left.code, left.json["live_version"]) == (0, drillbook.good), left.err
    again = first.run("rollback", "--no-wait", *WHY)  # a double rollback was done, and does not return to what was left
    assert (again.code, again.json["already"], again.json["live_version"]) == (0, True, drillbook.good)
    wished = first.run("rollback", drillbook.bad, "--no-wait", "--accept-unproven", *WHY)
    assert (wished.code, wished.json["rule"]) == (3, "5 quarantined")
    assert first.live() == drillbook.good
    elsewhere = first.run("status", "--json").json["rollback_elsewhere"]
    assert (elsewhere["run_id"], elsewhere["automatic"]) == (left.json["run_id"], False)
    assert "on another machine" in first.run("status").out

    reuploaded = drillbook.deploy_bad_again()
    third = drillbook.trial().forget_marks().replace((r'watch = "\d+s"', 'watch = "6s"'))
    for machine_ in (first, third):
        assert listed(machine_, reuploaded)["quarantined"] is True
        asked = machine_.run("deployments", "check", reuploaded, "--json")
        assert (asked.code, asked.json["allowed"], asked.json["why"]) == (3, False, "it fails")
        assert asked.json["quarantined_by"]
    watched = third.run("guard", "--observe", "--json")
    assert "quarantined code is live again" in watched.err
    assert json.loads(watched.out.splitlines()[-1])["action"] != "stable"

    lifted = third.run("deployments", "release", reuploaded, *WHY)
    assert (lifted.code, lifted.json["provider_mark"]["problem"]) == (0, None), lifted.err
    for machine_ in (first, second, third):
        assert machine_.run("deployments", "check", reuploaded, "--json").code == 0
        assert listed(machine_, drillbook.bad)["quarantined"] is False
    assert third.live() == reuploaded
    assert third.run("deployments", "release", reuploaded, *WHY).code == 3  # nothing is left to lift


@pytest.mark.both_homes
@pytest.mark.calm
def test_rule_15_one_truth_check_of_what_nobody_knows(drillbook: Drillbook) -> None:
    """A commit that was never built is allowed; a word that names nothing is a usage error."""
    trial = drillbook.trial().forget_marks()
    asked = trial.run("deployments", "check", "--commit", "0f" * 20, "--json")
    assert (asked.code, asked.json["allowed"], asked.json["versions"]) == (0, True, [])
    assert asked.json["schema"] == "backout.check/1"
    assert trial.run("deployments", "check", "nonsense").code == 2
    assert trial.run("deployments", "check").code == 2


@pytest.mark.both_homes
@pytest.mark.rotating("rules on the twin", 4)
@pytest.mark.long
def test_rule_15_one_truth_marks_may_stay_here(drillbook: Drillbook) -> None:
    """`provider_marks = false` writes nothing at the provider."""
    trial = drillbook.trial().forget_marks().replace((r"\[journal\]\n", "[journal]\nprovider_marks = false\n"))
    live = only_good(trial)
    ended = trial.run("guard", "--early", "--json")
    assert (ended.code, ended.json["action"]) == (0, "stable"), ended.json["why"]
    assert ended.json["provider_mark"] == {"deployment": None, "problem": None}
    assert trial.tools().deployments.history()[0].id == live.id
