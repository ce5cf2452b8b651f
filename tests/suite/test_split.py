"""The suite about itself: what `make test` leaves to `make test-all`, and what a machine without a program says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from extent import FILES
from polling import PATIENCE_S

if TYPE_CHECKING:
    import pytest

PROMETHEUS = Path(__file__).parents[1] / "contract" / "test_prometheus.py"


def test_no_file_is_left_to_test_all(request: pytest.FixtureRequest) -> None:
    """Whatever is proven at length has a short sibling beside it: of each kind, something runs in `make test`."""
    only_long = [path.name for path, counts in request.config.stash[FILES].items() if not counts[False]]
    assert only_long == []


def on_a_machine_without_programs(folder: Path, **variables: str) -> tuple[int, str]:
    """Run a test that needs Prometheus where there is none; return exit code and output."""
    argv = [sys.executable, "-m", "pytest", "-p", "no:randomly", "-p", "no:cacheprovider", str(PROMETHEUS)]
    done = subprocess.run(
        [*argv, "-k", "test_labels_that_are_missing_make_it_advice", f"--basetemp={folder / 'base'}"],
        cwd=PROMETHEUS.parents[2],
        env={"PATH": str(folder), "HOME": str(folder), **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    return done.returncode, done.stdout


def test_what_is_not_installed_is_said_aloud(tmp_path: Path) -> None:
    """`make test` passes, and names what was not tested and the package that is missing."""
    code, said = on_a_machine_without_programs(tmp_path, CI="true")
    assert code == 0, said
    assert "NOT TESTED ON THIS MACHINE: 1 tests were skipped" in said
    assert "1 x no prometheus and promtool: apt-get install prometheus" in said


def test_in_ci_nothing_of_test_all_may_be_skipped(tmp_path: Path) -> None:
    """The same is a failure of `make test-all` where CI is set, and only there."""
    code, said = on_a_machine_without_programs(tmp_path, CI="true", BACKOUT_TESTS="all")
    assert code == 1, said
    assert "With CI set, `make test-all` fails for it." in said
    assert os.environ.get("CI") or on_a_machine_without_programs(tmp_path, BACKOUT_TESTS="all")[0] == 0
