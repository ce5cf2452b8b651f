"""A watch of a source that is blind to something: said before it begins, with its "healthy", and in the status."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from values import replace

from backout.analysis.blind_spots import NEVER
from backout.model.guard.fetched import Fetched
from backout.model.guard.policy import Mode, SyntheticCheck
from backout.model.guard.signals import ServiceState
from backout.providers.memory import World, make_answering
from backout.report.guard.forecast import format_text, make_record
from backout.runbook.guard import guard
from backout.runbook.hindsight.forecast import foresee
from backout.runbook.incident.status import read_status
from backout.runbook.procedures import Actions

from extent import long
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
    """Once before the watch, in the reason of the verdict and in the status; nothing where all is seen.

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
    tools = replace(tools, policy=replace(tools.policy, guard=replace(tools.policy.guard, checks=checks)))
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


@pytest.mark.parametrize(("for_s", "is_short"), [(30.0, True), (400.0, False)])
def test_durable_objects_that_follow_after_the_watch_are_said(tmp_path: Path, for_s: float, is_short: bool) -> None:
    """They may run the code of before for five minutes: an early end waits for that, and a shorter watch says so."""
    world = World()
    world.services = dict.fromkeys(SERVICES, ServiceState.OK)
    world.traffic_rule = make_answering({"GET /": {200: 40}})
    tools = toolbox(world, tmp_path / "journal.sqlite")
    world.deploy(world.upload("good", bindings=("durable_object_namespace:ROOMS",)))
    began = world.clock.now()
    plan = guard.plan(tools, mode=Mode.OBSERVE, for_s=for_s, early=True)
    submitted = tools.journal.submit(plan, actor="ops@host", reason="it")
    run = tools.journal.drive(submitted, Actions(tools), actor="ops@host")
    reason = str(_table(_table(tools.runs.result(run.id, "watch"))["decision"])["reason"])
    assert ("not seen in so short a watch: Durable Objects" in reason) is is_short
    assert world.clock.now() - began >= min(for_s, 300)


@pytest.mark.parametrize("checks", [(), long((SyntheticCheck("/", word="welcome"),))], ids=["none", "a word"])
def test_the_plan_names_what_no_watch_sees(tmp_path: Path, checks: tuple[SyntheticCheck, ...]) -> None:
    """What answers contain, unless a check of guard's own reads it; and always what no source sees."""
    world = World()
    world.traffic_rule = make_answering({"GET /": {200: 20}})
    world.deploy(world.upload("good"))
    world.clock.sleep(60)
    tools = toolbox(world, tmp_path / "journal.sqlite")
    guard = replace(tools.policy.guard, checks=checks)
    forecast = foresee(tools, synthetic_per_s=1.0)
    assert make_record("production", forecast, guard)["unseen"] == ["contents"] * (not checks)
    page = " ".join(format_text("production", forecast, guard, width=80).split())
    assert ("ot seen by memory: what answers contain" in page) is not bool(checks)
    assert ("guard.synthetic.checks" in page) is not bool(checks)
    assert NEVER in page


def _table(value: Json) -> dict[str, Json]:
    assert isinstance(value, dict)
    return value
