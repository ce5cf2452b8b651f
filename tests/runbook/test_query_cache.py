"""A verification behind Hyperdrive's cache: it begins when the cache is over, also after an interruption."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from values import replace

from backout.model.plan import Plan
from backout.plan.query_cache import CACHE_S, add_delay
from backout.plan.rollback import Request
from backout.runbook.rollback.rollback import prepare

from line import Actions, Story

if TYPE_CHECKING:
    from pathlib import Path


def test_what_answers_out_of_the_cache_verifies_nothing(tmp_path: Path) -> None:
    """The waiting is said; interrupted in it, the same run waits for what is left and not for all of it again."""
    story = Story(tmp_path / "journal.sqlite")
    tools = story.tools()
    _, plan = prepare(tools, Request(message="it fails"))
    assert isinstance(plan, Plan)
    plan = replace(plan, steps=tuple(add_delay(step) for step in plan.steps))
    run = tools.journal.submit(plan, actor="ops@host", reason="it fails")
    clock, switched_at, asked_at = story.world.clock, 0.0, []

    def call(name: str) -> None:
        nonlocal switched_at
        if name == "deployments.activate":
            switched_at = clock.now()
            asked_at.clear()
        elif switched_at and name.startswith(("health", "traffic")):
            asked_at.append(clock.now())

    def check(name: str) -> None:
        call(name)
        if switched_at and clock.now() > switched_at + 40:
            raise KeyboardInterrupt  # killed in the middle of the waiting

    story.world.before_call = check
    with pytest.raises(KeyboardInterrupt):
        tools.journal.drive(run, Actions(tools), actor="ops@host")
    story.world.before_call = call
    again = story.tools()
    again.journal.drive(run, Actions(again), actor="ops@host")
    assert asked_at
    assert CACHE_S <= min(asked_at) - switched_at < CACHE_S + 5
    assert story.world.live.sole == story.good.id
