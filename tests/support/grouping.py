"""Which files a worker runs together: those that share something that each worker would have to make for itself."""

from __future__ import annotations

import functools
from pathlib import Path

from xdist.scheduler import LoadFileScheduling

from backout.twin.home import HOSTS

from extent import ALL

STAGES = 4
"""So many workers of `make test-all` hold drills: a stage costs while it waits, too."""
ROOT = Path(__file__).resolve().parents[2]
ON_STAGE = "drillbook: Drillbook"
"""What a test says that has its drill on the stage of a session: to set one up takes ten seconds of a processor."""


class GroupedScheduling(LoadFileScheduling):  # type: ignore[misc] # xdist tells no types
    """As `--dist loadfile`, but one worker reads all sources, some hold drills, and one those on hosts."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, name = nodeid.partition("::")
        return group_of(file, case=name.partition("[")[2].rstrip("]"))


@functools.cache
def group_of(file: str, case: str = "") -> str:
    """Return the name of a test file's group, given its path below the root: itself where it shares nothing costly.

    Args:
        file: its path.
        case: the parameters of one of its tests.
    """
    text = (ROOT / file).read_text(encoding="utf-8")
    if "source_trees" in text:
        return "all sources"
    if ON_STAGE in text and HOSTS in case.split("-"):
        return "stage on hosts"
    if ON_STAGE in text and ALL:
        return f"stage {_list_on_stage().index(file) % STAGES}"
    if ON_STAGE in text:
        return "stage of the drills" if file.startswith("tests/drill/") else "stage of the rules"
    return file


@functools.cache
def _list_on_stage() -> list[str]:
    """Return the files of drills, so that what is long in one folder is shared out."""
    found = sorted(ROOT.glob("tests/*/test_*.py"))
    return [str(path.relative_to(ROOT)) for path in found if ON_STAGE in path.read_text(encoding="utf-8")]
