"""A watch of a source that is blind to something: said before it begins, with its "healthy", and in the status."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from values import replace

from backout.analysis.blind_spots import NEVER
from backout.model.guard.fetched import Fetched
from backout.model.guard.policy import SyntheticCheck
from backout.model.guard.signals import ServiceState
from backout.providers.memory import World, make_answering
from backout.report.guard.forecast import format_text, make_record
from backout.runbook.hindsight.forecast import foresee
from backout.runbook.incident.status import read_status

from line import SERVICES, toolbox, watch

if TYPE_CHECKING:
    from pathlib import Path

    from backout.model.plan import Json


@pytest.mark.parametrize(
    ("sees_all", "checks", "unseen"),
    [
        (True, (SyntheticCheck("/", word="welcome"),), {}),
        (True, (SyntheticCheck("/"),), {"contents": "what answers contain"}),
        (
            False,
            (),
            {
                "started": "requests that never end",
                "sizes": "lengths of answers",
                "contents": "what answers contain",
            },
        ),
    ],
    ids=["all", "a status alone", "little"],
)
def test_what_is_not_seen_is_said_wherever_a_version_is_called_healthy(
    tmp_path: Path, sees_all: bool, checks: tuple[SyntheticCheck, ...], unseen: dict[str, str]
) -> None:
    """Once before the watch, in the reason of the verdict, in the status and in the plan; nothing where all is seen.

    What answers contain is seen by a check of guard's own alone that reads more than their status.
    """
    world, words = World(), f"not seen by memory: {', '.join(unseen.values())}"
    world.services = dict.fromkeys(SERVICES, ServiceState.OK)
    world.traits = world.traits if sees_all else replace(world.traits, has_started=False, has_sizes=False)
    world.route_rule = lambda _name, _version: Fetched(200, body="welcome")
    world.traffic_rule = make_answering(
        {"GET /": {200: 20, 304: 4}, "POST /api/orders": {201: 1}, "GET /old": {404: 2}}
    )
    world.deploy(world.upload("good"))
    said: list[str] = []
    tools = replace(toolbox(world, tmp_path / "journal.sqlite"), say=said.append)
    policy = replace(tools.policy, guard=replace(tools.policy.guard, checks=checks))
    tools = replace(tools, policy=policy)
    run = watch(tools, for_s=30)
    result = tools.runs.result(run.id, "watch")
    reason = str(_table(_table(result)["decision"])["reason"])
    assert _table(result)["verdict"] == "healthy", reason
    assert (words in reason) is bool(unseen)
    assert [text for text in said if "not seen" in text] == [f"{words}; no verdict says anything about it"] * bool(
        unseen
    )
    found = read_status(tools).traffic
    assert found is not None
    assert [sight.name for sight in found.unseen] == list(unseen)
    forecast = foresee(tools, synthetic_per_s=1.0)
    assert make_record("production", forecast, policy.guard)["unseen"] == list(unseen)
    page = " ".join(format_text("production", forecast, policy.guard, width=80).split())
    assert (words[1:] in page, "guard.synthetic.checks" in page) == (bool(unseen), bool(unseen))
    assert NEVER in page


def _table(value: Json) -> dict[str, Json]:
    assert isinstance(value, dict)
    return value
