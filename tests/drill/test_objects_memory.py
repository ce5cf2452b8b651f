"""A restore of many objects needs no more memory than one of few: the bucket is a scripted server of listings."""

from __future__ import annotations

import json
import os
import resource
import sys
from typing import TYPE_CHECKING

import pytest
from listing_server import Listed, open_listing
from store_lab import write_configuration

from extent import by_extent, long

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Record

PAGE = 1000
GROWN_MB = 24.0
"""What a fifth of all objects, or twenty-five times as many, may add: less than a tenth of what they would take."""


def measure(folder: Path, listed: Listed) -> tuple[float, dict[str, object]]:
    """Return the peak memory (MB) of a dry run of a restore, and its answer."""
    folder.mkdir()
    with open_listing(listed) as endpoint:
        access = {"access_key_id": "a", "secret_access_key": "b", "endpoint": endpoint}
        write_configuration(folder, access, "models")
        argv = [sys.executable, "-m", "backout", "objects", "restore", "--to", "30 days ago", "-e", "staging"]
        answer = folder / "answer"
        with answer.open("wb") as writing:
            child = os.posix_spawn(
                sys.executable,
                [*argv, "--dry-run", "--json", "--config", str(folder / "backout.toml")],
                os.environ,
                file_actions=[(os.POSIX_SPAWN_DUP2, writing.fileno(), 1)],
            )
            _, status, usage = os.wait4(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert isinstance(usage, resource.struct_rusage)
    found: dict[str, object] = json.loads(answer.read_text(encoding="utf-8"))
    return usage.ru_maxrss / 1024, found


@pytest.mark.long
@pytest.mark.parametrize("divides", [True, False], ids=["side by side", "page after page"])
def test_memory_does_not_grow_with_the_bucket(tmp_path: Path, proof: Record, divides: bool) -> None:
    """Every object counted, and a few pages of them at a time in memory."""
    how = "listed side by side" if divides else "listed page after page"
    few, many = by_extent(1_000, 10_000), by_extent(10_000, 50_000, proof=250_000)
    small, first = measure(tmp_path / "few", Listed(few, divides=divides))
    large, second = measure(tmp_path / "many", Listed(many, divides=divides))
    assert (first["undeleted"], second["undeleted"]) == (few, many)
    assert large - small < GROWN_MB, (small, large)
    proof(
        f"a restore of many objects takes no more memory than one of few, {how}",
        trials=1,
        failures=0,
        note=f"{2 * few:,} versions {small:.0f} MB, {2 * many:,} {large:.0f} MB",
    )


@pytest.mark.parametrize("objects", [0, long(1), long(PAGE // 2), PAGE // 2 + 1])
def test_the_ends_of_pages(tmp_path: Path, objects: int) -> None:
    assert measure(tmp_path / "bucket", Listed(objects, divides=False))[1]["undeleted"] == objects
