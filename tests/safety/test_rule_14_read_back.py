"""Rule 14, read back: "live" is what the provider lists, and "verified" what the version left does not answer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from api_gate import api_gate
from values import replace

from backout.errors import WorldMoved
from backout.model.deployment import Share
from backout.model.guard.policy import Criteria
from backout.model.guard.signals import Counts, CountsPage
from backout.model.incident.incident import RunState
from backout.model.version import VersionId
from backout.providers.memory import make_steady
from backout.runbook.safety.checks import READ_AGAIN_S

from line import POLICY, Story, roll_back
from polling import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backout.model.deployment import Deployment
    from backout.model.incident.incident import Run
    from backout.runbook.toolbox import Toolbox

    from drillbook import Drillbook, Trial

ROLLBACK = ("rollback", "-m", "it fails", "--confirm", "production", "--json")


def without_newest(body: bytes, number: int) -> bytes:
    """Return a list of deployments as it was so many deployments ago."""
    answer: dict[str, Any] = json.loads(body)
    listed = sorted(answer["result"]["deployments"], key=lambda each: each["created_on"], reverse=True)
    return json.dumps({**answer, "result": {**answer["result"], "deployments": listed[number:]}}).encode()


@pytest.mark.rotating("rules on the twin", 4)
@pytest.mark.long
@pytest.mark.parametrize("stale", [2, 1000], ids=["for a moment", "for good"])
def test_rule_14_read_back(drillbook: Drillbook, stale: int) -> None:
    """On the twin: the POST succeeds, and the list shows what was live before.

    It is asked again for a few seconds. When the switch appears it is reported; when it never does, the command ends
    with exit 6, and nothing is called live.
    """
    trial = drillbook.trial()
    trial.make_live(drillbook.bad)
    with api_gate(str(drillbook.stage.twin.api_base_url)) as gate:
        trial.behind(gate.url)
        shown: list[str] = []

        def old_list(method: str, path: str, body: bytes) -> bytes:
            if method != "GET" or "/deployments" not in path or gate.posts() < 2 or len(shown) >= stale:
                return body
            shown.append(path)
            return without_newest(body, 1)

        gate.alter = old_list
        ended = trial.run(*ROLLBACK, "--no-wait")
        assert gate.posts() == 2  # the proof and the switch: nothing is switched twice
    assert len(shown) >= 2
    if stale == 2:
        assert ended.code == 0, ended.err
        assert ended.json["live_version"] == drillbook.good
        return
    assert (ended.code, ended.json["error"]) == (6, "WorldMoved"), ended.err
    assert f"says that {drillbook.bad} at 100 %" in ended.json["what"]
    assert "live_version" not in ended.out
    assert "Now live" not in ended.err
    assert trial.newest()["state"] == "failed"


@pytest.mark.long
def test_rule_14_the_version_left_still_answers(drillbook: Drillbook) -> None:
    """On the twin: the good version is live and well, and requests still reach the bad one: not verified, exit 1."""
    with api_gate(f"{drillbook.stage.twin.ingress_url}/twin/v1") as gate:
        trial = drillbook.trial().replace(
            (r'url = "[^"]*/twin/v1"', f'url = "{gate.url}"'), (r'watch = "\d+s"', 'watch = "8s"')
        )
        trial.make_live(drillbook.bad)

        def still_there(_method: str, path: str, body: bytes) -> bytes:
            if "/counts" not in path:
                return body
            page = json.loads(body)
            rows = [dict(row, version=drillbook.bad, requests=1, errors=0, canceled=0) for row in page["counts"]]
            return json.dumps({**page, "counts": [*page["counts"], *rows]}).encode()

        gate.alter = still_there
        ended = trial.run(*ROLLBACK)
    assert ended.code == 1, ended.err
    assert ended.json["verified"] is False
    assert ended.json["live_version"] == drillbook.good
    states = {criterion["name"]: criterion["state"] for criterion in ended.json["criteria"]}
    assert states["no requests reach the replaced version"] == "failed"
    assert states["health check returns 200"] == "passed"


@pytest.mark.both_homes
@pytest.mark.calm
@pytest.mark.long
def test_rule_14_a_colleagues_split_is_not_verified(drillbook: Drillbook) -> None:
    """After the switch somebody gives the bad version a share again: exit 7, and it is said."""
    trial = drillbook.trial().replace((r'for = "\d+s"', 'for = "20s"'), (r"below = 0.05", "below = 0.0001"))
    trial.make_live(drillbook.bad)
    process = trial.start(*ROLLBACK)
    until(lambda: is_read_back(trial), PATIENCE_S, "the good version was read back")
    shares = [Share(VersionId(version), 50.0) for version in (drillbook.good, drillbook.bad)]
    split = drillbook.trial().tools().deployments.deploy(shares, message="a colleague's split")
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 7, err
    assert json.loads(out.splitlines()[-1])["verified"] is None
    assert split.id in err


def is_read_back(trial: Trial) -> bool:
    """Whether a rollback of this trial has seen that its target alone is live."""
    runs = trial.tools().runs
    return any(runs.result(run.id, "read_back") is not None for run in runs.runs("production")[:1])


def stale(story: Story, *, lists: int, then: Callable[[], object] = lambda: None) -> None:
    """Have the provider's list not know the switch for so many reads."""
    world = story.world
    hidden: list[Deployment] = []
    left = [lists]

    def before(name: str) -> None:
        if name == "deployments.history" and world.activations and left[0] > 0 and not hidden:
            hidden.append(world.all_deployments.pop())

    def after(name: str) -> None:
        if name == "deployments.history" and hidden:
            left[0] -= 1
            world.all_deployments.append(hidden.pop())
            if not left[0]:
                then()

    world.before_call, world.after_call = before, after


def verified(tools: Toolbox, run: Run) -> object:
    found = tools.runs.result(run.id, "verify")
    assert isinstance(found, dict)
    return found["verified"]


@pytest.mark.parametrize("lists", [1, 5, 10])
def test_rule_14_an_old_list_is_read_again(tmp_path: Path, lists: int) -> None:
    """What was live before the POST is listed for a few seconds more: one switch, and the truth in the end."""
    story = Story(tmp_path / "journal.sqlite")
    stale(story, lists=lists)
    tools = story.tools()
    run = roll_back(tools)
    read = tools.runs.result(run.id, "read_back")
    assert isinstance(read, dict)
    assert read["version"] == story.good.id
    assert read["deployment"] == story.world.activations[0].id
    assert len(story.world.activations) == 1


def test_rule_14_a_list_that_stays_old_ends_the_run(tmp_path: Path) -> None:
    """After five seconds nothing is claimed: the run has ended, and what is live is asked anew."""
    story = Story(tmp_path / "journal.sqlite")
    stale(story, lists=1000)
    began = story.world.clock.now()
    with pytest.raises(WorldMoved, match="the provider says"):
        roll_back(story.tools())
    assert READ_AGAIN_S <= story.world.clock.now() - began < READ_AGAIN_S + 2
    tools = story.tools()
    (run,) = [r for r in tools.runs.runs("production") if r.id.startswith("rollback")]
    assert run.state is RunState.FAILED
    assert tools.runs.result(run.id, "read_back") is None
    assert len(story.world.activations) == 1


def test_rule_14_another_version_is_live_after_the_switch(tmp_path: Path) -> None:
    """Somebody deployed right after us: theirs is what is live, and ours is not claimed."""
    story = Story(tmp_path / "journal.sqlite")
    hotfix = story.world.upload("hotfix")

    def after(name: str) -> None:
        if name == "deployments.activate":
            story.world.deploy(hotfix)

    story.world.after_call = after
    with pytest.raises(WorldMoved, match=f"{hotfix.id} at 100 %"):
        roll_back(story.tools())
    assert story.world.live.sole == hotfix.id


@pytest.mark.parametrize(("stays_s", "outcome"), [(10, True), (1000, False)])
def test_rule_14_the_left_versions_count_must_fall_to_zero(tmp_path: Path, stays_s: int, outcome: bool) -> None:
    """Little traffic: the bad version answered its last request 30 s ago or longer, or nothing is verified."""
    criteria = Criteria(error_rate_for_s=20, watch_s=120, old_version_quiet_s=30)
    story = Story(tmp_path / "journal.sqlite", policy=replace(POLICY, criteria=criteria))
    world, bad = story.world, story.bad.id
    began = world.clock.now()
    world.traffic_rule = make_steady(2)

    class Edge:
        """Port Traffic of an edge on which some places still serve the bad version."""

        traits = world.traits

        def read(self, since: int, until: int) -> CountsPage:
            """Return the counts, with what the bad version still answers."""
            page = world.traffic.read(since, until)
            seconds = range(max(since, int(began)), min(until, page.complete_until, int(began) + stays_s))
            rest = [Counts(bad, second, 1, 0, latency={90: 1}) for second in seconds]
            return replace(page, counts=(*page.counts, *rest))

    tools = replace(story.tools(), traffic=Edge())
    run = roll_back(tools)
    assert verified(tools, run) is outcome
    if outcome:
        assert world.clock.now() - began >= stays_s + 30
