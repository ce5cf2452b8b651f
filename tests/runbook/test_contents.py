"""Pages that all say "Not found" with status 200: no source sees that, and it is said with the version's "healthy"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.guard.signals import ServiceState
from backout.providers.memory import World, make_answering

from line import SERVICES, toolbox, watch

if TYPE_CHECKING:
    from pathlib import Path


def test_healthy_is_not_said_without_a_word_about_what_answers_contain(tmp_path: Path) -> None:
    """Guard sends no request that says what an answer must have."""
    world = World()
    world.services = dict.fromkeys(SERVICES, ServiceState.OK)
    world.traffic_rule = make_answering(
        {"GET /": {200: 20, 304: 4}, "POST /api/orders": {201: 1}, "GET /old": {404: 2}}
    )
    world.deploy(world.upload("good"))
    tools = toolbox(world, tmp_path / "journal.sqlite")
    run = watch(tools, for_s=30)
    assert "healthy" in str(tools.runs.result(run.id, "watch"))
    assert "not seen by memory: what answers contain" in str(tools.runs.result(run.id, "watch"))
