"""backout at an earlier commit, measured beside today's in one run; and the result of such a run."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from shared import measure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from working_copy import WorkingCopy

NEW, OLD = "new", "old"
TODAY = str(Path(sys.executable).with_name("backout"))


def program_at(commit: str, folder: Path) -> str:
    """Return the path of backout's program with the source of a commit; it shares today's packages.

    Args:
        folder: an empty folder that stays as long as the program is wanted.
    """
    return str(copy_at(commit, folder).folder / ".venv" / "bin" / "backout")


def copy_at(commit: str, folder: Path, *paths: str) -> WorkingCopy:
    """Return a copy of the repository with the source of a commit, and these files as it has them."""
    tools = str(Path(__file__).parents[2] / "tools")
    if tools not in sys.path:
        sys.path.append(tools)
    from working_copy import WorkingCopy

    copy = WorkingCopy(folder)
    try:
        copy.put_source_of(commit)
        if paths:
            copy.put(commit, *paths)
    except subprocess.CalledProcessError as error:
        sys.exit(f"git has no source for {commit}: {(error.stderr or b'').decode(errors='replace').strip()}")
    return copy


def compared(name: str, pairs: Mapping[str, tuple[Sequence[float], Sequence[float]]], main: str) -> dict[str, object]:
    """Return a `backout.benchmark/1` of new samples beside old ones.

    Args:
        pairs: (new samples, old samples) by what was measured.
        main: which of them `new_over_old` speaks of; the others are `new_over_old_WHAT`.
    """
    keys = {what: "new_over_old" if what == main else f"new_over_old_{what}" for what in pairs}
    return {
        "schema": "backout.benchmark/1",
        "name": name,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "samples": {f"{side}_{what}": list(pairs[what][at]) for what in pairs for at, side in enumerate((NEW, OLD))},
        "ratios": {key: measure.ratio(*pairs[what]) for what, key in keys.items()},
        "n": {key: len(pairs[what][0]) for what, key in keys.items()},
        "bound95": {key: measure.ratio_bound(*pairs[what]) for what, key in keys.items()},
    }


def table(record: Mapping[str, object]) -> str:
    """Return the ratios of a record as lines."""
    ratios: Mapping[str, float] = record["ratios"]  # type: ignore[assignment]
    bounds: Mapping[str, Sequence[float]] = record["bound95"]  # type: ignore[assignment]
    return "\n".join(
        f"  {key:<28} {value:6.3f}  (95 %: {bounds[key][0]:.3f} to {bounds[key][1]:.3f})"
        for key, value in ratios.items()
    )
