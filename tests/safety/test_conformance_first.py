"""A platform that did not pass `backout conformance` is advice: guard does not act on it, nor raise a share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backout.rules import SafetyRule

from line import Story, equip, watch

if TYPE_CHECKING:
    from pathlib import Path

DOUBT = "the platform's commands are advice only until they pass `backout conformance`: they never passed it"


@pytest.mark.parametrize("doubt", ["", DOUBT])
def test_guard_acts_only_on_a_platform_that_passed(quick_path: Path, doubt: str) -> None:
    """What it would have done is said, with the rule; nothing is deployed."""
    story = Story(quick_path / "journal.sqlite")
    said: list[str] = []
    tools = equip(story.tools(), doubt=doubt, say=said.append)
    before = story.world.live
    run = watch(tools)
    if doubt:
        assert story.world.live == before
        assert tools.runs.result(run.id, "conclude")["rule"] == SafetyRule.CONFORMANCE
        assert doubt in said
    else:
        assert story.world.live != before
