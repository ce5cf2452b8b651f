"""A process that dies at the how-manieth call of a port or commit, as by kill -9."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import psycopg
from journal import toy

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
        _bury(story)
        return True
    finally:
        world.before_call = world.after_call = None
    return False


def _bury(story: Story) -> None:
    """Have the journal know the holder of a lease as a process that is gone: this one, which was it, lives on."""
    if toy.SERVER in os.environ:
        with psycopg.connect(toy.url_of(story.path.with_suffix(""))) as server:
            server.execute(b"UPDATE backout.lease SET process_start = '0' WHERE pid <> 0")
        return
    with closing(sqlite3.connect(story.path)) as connection, connection:
        connection.execute("UPDATE lease SET process_start = '0' WHERE pid <> 0")
