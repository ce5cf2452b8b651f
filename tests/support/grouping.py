"""Which files a worker runs together: those that share something that each worker would have to make for itself."""

from __future__ import annotations

import functools
from pathlib import Path

from xdist.scheduler import LoadFileScheduling

from extent import ALL

ROOT = Path(__file__).resolve().parents[2]
ON_STAGE = "drillbook: Drillbook"
"""What a test says that has its drill on the stage of a session: to set one up takes ten seconds of a processor."""


class GroupedScheduling(LoadFileScheduling):  # type: ignore[misc] # xdist tells no types
    """As `--dist loadfile`, but one worker reads all sources, and two of them hold drills."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid.partition("::")[0])


@functools.cache
def group_of(file: str) -> str:
    """Return the name of a test file's group, given its path below the root: itself where it shares nothing costly."""
    text = (ROOT / file).read_text(encoding="utf-8")
    if "source_trees" in text:
        return "all sources"
    if ON_STAGE in text and not ALL:  # `make test-all` has so many drills that each worker needs a stage
        return "stage of the drills" if file.startswith("tests/drill/") else "stage of the rules"
    return file
