"""Rule 8, the world moved: what somebody else made live is never undone by a plan or a verdict from before."""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest
from api_gate import api_gate

from backout.analysis.history.remark_text import parse
from backout.errors import Busy, WorldMoved
from backout.model.incident.incident import RunState
from backout.model.plan import Plan
from backout.model.remark import RemarkKind
from backout.plan.rollback import Request
from backout.runbook.procedures import Actions
from backout.runbook.rollback.rollback import prepare

from line import Story, by_version, roll_back, toolbox, watch
from polling import PATIENCE_S
from streamed import await_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backout.model.deployment import Deployment

    from drillbook import Drillbook

ROLLBACK = ("rollback", "-m", "it fails", "--confirm", "production", "--no-wait", "--json")
NOTHING_YET = b'{"complete_until": 0, "counts": []}'


@pytest.fixture(scope="module")
def hotfix(drillbook: Drillbook) -> str:
    """Return a third version: what a colleague has ready."""
    return drillbook.deploy("good")


@pytest.mark.rotating("rules on the twin", 4)
@pytest.mark.long
def test_rule_08_world_moved(drillbook: Drillbook, hotfix: str) -> None:
    """A hotfix during the watch: the verdict on what was there before is void, exit 6, and the hotfix stays."""
    trial = drillbook.trial()
    traffic = f"{drillbook.stage.twin.ingress_url}/twin/v1"
    with api_gate(traffic) as gate:
        gate.alter = lambda _method, path, body: NOTHING_YET if "/counts" in path else body
        trial.replace((r'url = "[^"]*/twin/v1"', f'url = "{gate.url}"'), (r"health = \{[^\n]*\n", ""))
        trial.make_live(drillbook.bad)
        process = trial.start("guard", "--json")
        await_line(process, '"tick"')
        pushed = trial.make_live(hotfix)
        gate.alter = lambda _method, _path, body: body  # now the evidence comes in
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 6, err
    assert '"action":"void"' in out.splitlines()[-1]
    assert trial.tools().deployments.history()[0].id == pushed.id
    assert trial.newest()["kind"] == "guard"


@pytest.mark.calm
@pytest.mark.long
def test_rule_08_hotfix_between_decision_and_switch(drillbook: Drillbook, hotfix: str) -> None:
    """It is live before the first deployment of the rollback is made: nothing is deployed, exit 6."""
    trial = drillbook.trial()
    trial.make_live(drillbook.bad)
    with api_gate(str(drillbook.stage.twin.api_base_url)) as gate:
        asked = trial.behind(gate.url)
        pushed: list[Deployment] = []

        def push(method: str, path: str) -> None:
            if method == "GET" and "/versions" in path and not pushed:
                pushed.append(drillbook.trial().make_live(hotfix))

        gate.before = push
        ended = asked.run(*ROLLBACK)
        assert (ended.code, ended.json["error"]) == (6, "WorldMoved"), ended.err
        assert gate.posts() == 0
    assert drillbook.trial().tools().deployments.history()[0].id == pushed[0].id
    assert trial.newest()["state"] == "failed"


@pytest.mark.calm
@pytest.mark.long
@pytest.mark.parametrize("post", [1, 2], ids=["before the proof", "before the switch"])
def test_rule_08_hotfix_in_the_last_moment(drillbook: Drillbook, hotfix: str, post: int) -> None:
    """It slips in between our look and our deployment, which the provider cannot refuse: it is put back, exit 6."""
    trial = drillbook.trial()
    trial.make_live(drillbook.bad)
    with api_gate(str(drillbook.stage.twin.api_base_url)) as gate:
        trial.behind(gate.url)
        pushed: list[Deployment] = []

        def push(method: str, path: str) -> None:
            if method == "POST" and "/deployments" in path and gate.posts() == post - 1 and not pushed:
                pushed.append(drillbook.trial().make_live(hotfix))

        gate.before = push
        ended = trial.run(*ROLLBACK)
        assert (ended.code, ended.json["error"]) == (6, "WorldMoved"), ended.err
        assert "put back" in ended.json["what"]
        assert pushed
    live = drillbook.trial().tools().deployments.history()[0]
    assert live.sole == hotfix
    assert live.message.startswith("put back by backout")
    assert trial.newest()["state"] == "failed"


@pytest.mark.both_homes
@pytest.mark.long
@pytest.mark.calm
def test_rule_08_two_operators_at_once(drillbook: Drillbook) -> None:
    """Two machines, two journals, the same command: the good version is live, and nothing went back and forth."""
    first, second = drillbook.trial(), drillbook.trial()
    pushed = first.make_live(drillbook.bad)
    processes = [trial.start(*ROLLBACK) for trial in (first, second)]
    ended = [(process.communicate(timeout=PATIENCE_S), process.returncode) for process in processes]
    codes = sorted(code for _, code in ended)
    assert codes in ([0, 0], [0, 3], [0, 6]), [err for (_, err), _ in ended]  # 3: it came when all was done
    after = [d for d in first.tools().deployments.history() if d.created_at > pushed.created_at]
    assert after[0].sole == drillbook.good
    served = [next(s.version for s in d.shares if s.percentage == 100) for d in reversed(after)]
    assert served == sorted(served, key=[drillbook.bad, drillbook.good].index)  # the bad one never came back
    switches = [d for d in after if (r := parse(d.message)) is not None and r.kind is RemarkKind.ROLLBACK]
    said = [json.loads(out.splitlines()[-1]) for (out, _), code in ended if code == 0]
    assert len(switches) == sum(not each.get("already", False) for each in said)  # it came when all was done, too


def test_rule_08_nothing_is_deployed_over_a_hotfix(tmp_path: Path) -> None:
    """It is live before the plan's first step: the look before that step finds it, and not a trace of ours is left."""
    story = Story(tmp_path / "journal.sqlite")
    world, tools = story.world, story.tools()
    _, plan = prepare(tools, Request(message="it fails"))
    assert isinstance(plan, Plan)
    run = tools.journal.submit(plan, actor="ops@host", reason="it fails")
    pushed = world.deploy(world.upload("hotfix"))
    with pytest.raises(WorldMoved, match="on which this plan rests"):
        tools.journal.drive(run, Actions(tools), actor="ops@host")
    assert world.live is pushed
    assert not {"deployments.deploy", "deployments.activate"} & set(world.calls)


def test_rule_08_another_machine_proves_its_target(tmp_path: Path) -> None:
    """Its target stands at 0 % since less than two minutes: Busy, and nothing is deployed; later it is forgotten."""
    story = Story(tmp_path / "journal.sqlite")
    world = story.world
    world.deploy((story.bad.id, 100.0), (story.good.id, 0.0), message="[backout rollback-0aa0bb0c prove] at 0 %")
    with pytest.raises(Busy, match="rollback-0aa0bb0c of another machine"):
        roll_back(story.tools())
    assert story.tools().runs.runs("production")[0].state is RunState.FAILED
    assert not world.activations
    world.clock.sleep(121)
    roll_back(story.tools())
    assert world.live.sole == story.good.id


def slip_in(story: Story, call: str, deploy: Callable[[], object]) -> None:
    """Have something deployed right before the next call of that name reaches the platform."""

    def before(name: str) -> None:
        if name == call:
            story.world.before_call = None
            deploy()

    story.world.before_call = before


@pytest.mark.parametrize("call", ["deployments.deploy", "deployments.activate"])
def test_rule_08_what_slipped_in_is_put_back(tmp_path: Path, call: str) -> None:
    """Whatever of ours undid it, the proof or the switch: the hotfix serves again, and the run has ended."""
    story = Story(tmp_path / "journal.sqlite")
    world = story.world
    hotfix = world.upload("hotfix")
    slip_in(story, call, lambda: world.deploy((hotfix.id, 90.0), (story.good.id, 10.0), message="canary of the fix"))
    with pytest.raises(WorldMoved, match="put back"):
        roll_back(story.tools())
    assert [(share.version, share.percentage) for share in world.live.shares] == [
        (hotfix.id, 90.0),
        (story.good.id, 10.0),
    ]
    assert world.live.message.endswith(": canary of the fix")
    assert story.tools().runs.runs("production")[0].state is RunState.FAILED


@pytest.mark.parametrize("what", ["the same bad version", "the same good version"])
def test_rule_08_what_served_the_same_is_not_put_back(tmp_path: Path, what: str) -> None:
    """The bad version pushed again, or another machine's rollback to the same target: ours changed nothing of worth."""
    story = Story(tmp_path / "journal.sqlite")
    world = story.world
    served = story.bad if what == "the same bad version" else story.good
    slip_in(story, "deployments.activate", lambda: world.deploy(served))
    run = roll_back(story.tools())
    assert run.state is RunState.DONE
    assert world.live.sole == story.good.id


def test_rule_08_a_newer_deployment_is_not_put_back_over(tmp_path: Path) -> None:
    """What slipped in was already replaced by somebody else: theirs stays, and nothing of ours is claimed."""
    story = Story(tmp_path / "journal.sqlite")
    world = story.world
    hotfix, better = world.upload("hotfix"), world.upload("better")
    slip_in(story, "deployments.activate", lambda: world.deploy(hotfix))

    def after(name: str) -> None:
        if name == "deployments.activate":
            world.deploy(better)

    world.after_call = after
    with pytest.raises(WorldMoved):
        roll_back(story.tools())
    assert world.live.sole == better.id


@pytest.mark.parametrize("call", ["deployments.deploy", "deployments.activate"])
def test_rule_08_two_guards_on_one_deployment(tmp_path: Path, call: str) -> None:
    """Two machines decide the same: whoever proves its target first goes on, the other ends; the good one is live."""
    story = Story(tmp_path / "journal.sqlite")
    world = story.world
    (tmp_path / "elsewhere").mkdir()
    other = toolbox(world, tmp_path / "elsewhere" / "journal.sqlite", policy=story.policy)

    def act() -> None:
        with pytest.raises(Busy) if call == "deployments.activate" else nullcontext():
            watch(other)

    slip_in(story, call, act)
    with pytest.raises(WorldMoved) if call == "deployments.deploy" else nullcontext():
        watch(story.tools())
    assert world.live.sole == story.good.id
    assert len([d for d in world.activations if (remark := parse(d.message)) and remark.auto]) == 1


def test_rule_08_a_new_bad_deployment_is_judged_by_itself(tmp_path: Path) -> None:
    """The hotfix is bad too: only a watch that started on it rolls it back."""
    story = Story(tmp_path / "journal.sqlite")
    world = story.world
    hotfix = world.upload("hotfix")
    world.traffic_rule = by_version(hotfix.id)
    world.clock.at(world.clock.now() + 7, lambda: world.deploy(hotfix))
    run = watch(story.tools())
    concluded = story.tools().runs.result(run.id, "conclude")
    assert isinstance(concluded, dict)
    assert concluded["action"] == "void"
    watch(story.tools())
    assert world.live.sole == story.good.id
