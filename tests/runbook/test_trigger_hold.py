"""A schedule that fails since a deployment: declared, the version is held and never marked stable; else it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from values import replace

from backout.model.guard.signals import ServiceState, TriggerCounts
from backout.providers.memory import World, make_steady

from line import SERVICES, equip, toolbox, watch

if TYPE_CHECKING:
    from pathlib import Path

    from backout.model.guard.signals import Counts
    from backout.model.plan import Json

CRON = "cron */10 * * * *"


@pytest.mark.parametrize(("declared", "action"), [(frozenset({CRON}), "hold"), (None, "hold"), (frozenset(), "stable")])
def test_a_schedule_that_fails(tmp_path: Path, declared: frozenset[str] | None, action: str) -> None:
    """It throws in each run; requests are answered as before. The counts that were kept say so as well."""
    world = World()
    world.services = dict.fromkeys(SERVICES, ServiceState.OK)

    def rule(second: int, version: str) -> Counts:
        return replace(
            make_steady(30)(second, version), triggers={CRON: TriggerCounts(1, 1)} if second % 10 == 0 else {}
        )

    world.traffic_rule = rule
    made = world.deploy(world.upload("good"))
    tools = equip(toolbox(world, tmp_path / "journal.sqlite"), declared=lambda: declared)
    run = watch(tools, for_s=30)
    result, decision = (_table(tools.runs.result(run.id, step)) for step in ("conclude", "watch"))
    assert result["action"] == action
    (shift,) = [_table(each) for each in _list(_table(decision["decision"])["shifts"])]
    assert (shift["kind"], shift["stratum"]) == ("trigger", CRON)
    kept = tools.counts.load_counts("production", int(made.created_at), int(world.clock.now()))
    assert sum(row.triggers[CRON].failed for row in kept if row.triggers) == shift["bad"] > 0


def _table(value: Json) -> dict[str, Json]:
    assert isinstance(value, dict)
    return value


def _list(value: Json) -> list[Json]:
    assert isinstance(value, list)
    return value
