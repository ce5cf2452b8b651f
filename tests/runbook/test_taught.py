"""A source that begins to count after a deployment is told which routes there were: else 404 everywhere is guesses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from values import replace

from backout.model.guard.answers import AnswerClass
from backout.model.guard.signals import Counts, RouteCounts
from backout.providers.logs.traffic import LogTraffic
from backout.providers.memory import World
from backout.runbook.guard.telemetry_gate import check_source, read_kept_before
from backout.wiring.boundary import add_boundaries

from line import toolbox

if TYPE_CHECKING:
    from pathlib import Path

    from backout.runbook.toolbox import Toolbox


@pytest.fixture
def world() -> World:
    made = World()
    made.deploy(made.upload("good"))
    return made


def tools_with(world: World, tmp_path: Path, *names: str) -> Toolbox:
    """Return tools whose journal kept a second of these routes, and whose source is a log that is still empty."""
    (tmp_path / "log").touch()
    tools = replace(toolbox(world, tmp_path / "j.sqlite"), traffic=LogTraffic(tmp_path / "log", clock=world.clock))
    routes = {name: RouteCounts(5, 0) for name in names}
    tools.counts.keep("production", [Counts("v1", int(world.clock.now()) - 60, 5 * len(routes), 0, routes=routes)])
    return add_boundaries(tools)


def test_a_version_that_answers_404_to_everybody_is_counted_by_its_routes(world: World, tmp_path: Path) -> None:
    """Though the source saw none of them answered; what nobody asked for before is still a guess."""
    tools = tools_with(world, tmp_path, "GET /app", "POST /api/orders")
    check_source(tools)
    line = {"ts": world.clock.now() - 5, "version": "v2", "status": 404}
    asked = (("GET", "/app"), ("POST", "/api/orders"), ("GET", "/wp-admin"))
    texts = [json.dumps({**line, "method": method, "route": route}) for method, route in asked]
    (tmp_path / "log").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    assert tools.traffic is not None
    (row,) = tools.traffic.read(0, int(world.clock.now())).counts
    assert {name: dict(route.classes) for name, route in row.routes.items()} == {
        name: {AnswerClass.NOT_FOUND: 1} for name in ("GET /app", "POST /api/orders", "other")
    }


def test_names_that_an_earlier_version_kept_stand_for_no_route_of_now(world: World, tmp_path: Path) -> None:
    """The whole of such a second still counts; one with methods keeps its routes."""
    tools = tools_with(world, tmp_path, "/app", "/api")
    (row,) = read_kept_before(tools, world.clock.now())
    assert (row.requests, row.routes) == (10, {})
    other = Counts(
        "v1", int(world.clock.now()) - 30, 5, 0, routes={"GET /app": RouteCounts(4, 0), "other": RouteCounts(1, 0)}
    )
    tools.counts.keep("production", [other])
    assert read_kept_before(tools, world.clock.now()) == (row, other)
