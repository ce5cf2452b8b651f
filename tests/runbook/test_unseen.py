"""A watch of a source that is blind to something: said before it begins, with its "healthy", and in the status."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from values import replace

from backout.model.guard.signals import ServiceState
from backout.providers.memory import World, make_answering
from backout.runbook.incident.status import read_status

from line import SERVICES, toolbox, watch

if TYPE_CHECKING:
    from pathlib import Path

    from backout.model.plan import Json


@pytest.mark.parametrize("sees_all", [True, False])
def test_what_is_not_seen_is_said_wherever_a_version_is_called_healthy(tmp_path: Path, sees_all: bool) -> None:
    """Once before the watch, in the reason of the verdict, and in the status; nothing where all is seen."""
    world, words = World(), "not seen by memory: requests that never end, lengths of answers"
    world.services = dict.fromkeys(SERVICES, ServiceState.OK)
    world.traits = world.traits if sees_all else replace(world.traits, has_started=False, has_sizes=False)
    world.traffic_rule = make_answering(
        {"GET /": {200: 20, 304: 4}, "POST /api/orders": {201: 1}, "GET /old": {404: 2}}
    )
    world.deploy(world.upload("good"))
    said: list[str] = []
    tools = replace(toolbox(world, tmp_path / "journal.sqlite"), say=said.append)
    run = watch(tools, for_s=30)
    result = tools.runs.result(run.id, "watch")
    reason = str(_table(_table(result)["decision"])["reason"])
    assert _table(result)["verdict"] == "healthy", reason
    assert (words in reason) is not sees_all
    assert [text for text in said if "not seen" in text] == [f"{words}; no verdict says anything about it"] * (
        not sees_all
    )
    found = read_status(tools).traffic
    assert found is not None
    assert [sight.name for sight in found.unseen] == ["started", "sizes"] * (not sees_all)


def _table(value: Json) -> dict[str, Json]:
    assert isinstance(value, dict)
    return value
