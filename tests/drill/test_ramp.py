"""A ramp on the real program: up step by step through the API, and straight back, with what was found explained."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from backout.analysis.history.remark_text import parse
from backout.model.deployment import Share
from backout.model.remark import RemarkKind
from backout.model.version import VersionId

from arranged import upload

if TYPE_CHECKING:
    from drillbook import Drillbook, Trial

pytestmark = pytest.mark.rotating("drills", 5)

RAMP = "[environments.production.guard]\nramp = [10, 50, 100]"


def gradual(drillbook: Drillbook, version: str, watch: str) -> Trial:
    """Return a trial in which a version has 10 % beside the good one, and guard may move it up without a verdict."""
    trial = drillbook.trial().replace(
        (r"\[environments.production.guard\]", f'{RAMP}\non_inconclusive = "accept"'),
        (r'watch = "\d+s"', f'watch = "{watch}"'),
    )
    trial.make_live(drillbook.good)
    shares = (Share(VersionId(drillbook.good), 90.0), Share(VersionId(version), 10.0))
    trial.tools().deployments.deploy(shares, message="gradual")
    return trial


@pytest.mark.long
def test_up_step_by_step(drillbook: Drillbook) -> None:
    """The same code as the good version: 50 %, 100 %, each told in the deployment's message and in the stream."""
    trial = drillbook.trial()
    trial.make_live(drillbook.good)
    again = upload(trial, drillbook.good)
    trial = gradual(drillbook, again, "5s")
    ended = trial.run("guard", "--json")
    assert ended.code in (0, 7), ended.err
    made = [(parse(d.message), d) for d in reversed(trial.tools().deployments.history())]
    steps = [d.shares for remark, d in made if remark is not None and remark.kind is RemarkKind.RAMP][-2:]
    assert [sorted((s.version, s.percentage) for s in shares) for shares in steps] == [
        sorted([(drillbook.good, 50.0), (again, 50.0)]),
        [(again, 100.0)],
    ]
    assert trial.live() == again
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert {line["schema"] for line in lines} == {"backout.guard/1"}
    stepped = [line for line in lines if line["type"] == "event" and line["kind"] == "step.ok"]
    assert [line["data"]["result"]["percentage"] for line in stepped if "percentage" in str(line["data"])] == [50, 100]
    listed = [parse(str(each["message"])) for each in trial.run("deployments", "list", "--json").json["deployments"]]
    told = [remark.text for remark in listed if remark is not None and remark.kind is RemarkKind.RAMP]
    assert [text.partition(":")[0] for text in told] == ["to 100 %", "to 50 %"]


@pytest.mark.long
def test_straight_back_and_explained(drillbook: Drillbook) -> None:
    """The bad version at 10 %: all of the traffic goes back at once; plan, explain and replay tell about it."""
    trial = gradual(drillbook, drillbook.bad, "30s")
    ended = trial.run("guard", "--json")
    assert (ended.code, ended.json["action"]) == (1, "rollback"), ended.err
    assert trial.live() == drillbook.good
    told = trial.run("guard", "explain", str(ended.json["run_id"]), "--json")
    assert (told.code, told.json["schema"]) == (0, "backout.guard-explain/1"), told.err
    assert (told.json["verdict"], told.json["split"]) == ("regressed", 0.1)
    assert told.json["chart"]["after_s"]
    assert told.json["regressed_after_s"] is not None
    page = trial.run("guard", "explain", str(ended.json["run_id"]))
    assert "What would have changed it" in page.out
    again = trial.run("guard", "replay", "--since", "1h", "--json")
    assert (again.code, again.json["schema"]) == (0, "backout.guard-replay/1"), again.err
    (case,) = [case for case in again.json["cases"] if case["version"] == drillbook.bad and case["counted"]]
    assert (case["would_roll_back"], case["truth"], case["split"]) == (True, "unknown", 0.1), case
    ahead = trial.run("guard", "plan", "--json")
    assert (ahead.code, ahead.json["schema"]) == (0, "backout.guard-plan/1"), ahead.err
    assert ahead.json["requests_per_s"] > 10
    screen = trial.run("guard", "plan")
    assert "Advice: " in screen.out
    assert max(map(len, screen.out.splitlines())) <= 100
