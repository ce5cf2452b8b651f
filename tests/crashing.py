"""A process that dies at the how-manieth call of a port or commit, as by kill -9."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.runbook.toolbox import Toolbox

    from line import Story


class Crash(BaseException):
    """The process dies here: nothing of ours may catch it."""


def dies_at(story: Story, moment: int, procedure: Callable[[Toolbox], object]) -> bool:
    """Run a procedure that dies at that moment; False when it came to its end before."""
    seen = 0

    def count(name: str) -> None:
        nonlocal seen
        seen += 1
        if seen == moment:
            raise Crash(name)

    world = story.world
    world.before_call = world.after_call = count
    try:
        procedure(story.tools(crash_point=count))
    except Crash:
        return True
    finally:
        world.before_call = world.after_call = None
    return False
