"""The suite about itself: what `make test` leaves to `make test-all`, and what a machine without a program says."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import cast

import pytest
from grouping import group_of
from other_days import SLOW, pick_of_other_days

from extent import FILES, is_due
from polling import PATIENCE_S

TESTS = Path(__file__).parents[1]
PROMETHEUS = TESTS / "contract" / "test_prometheus.py"


SIBLINGS = {
    "contract/test_fence_beside.py": "contract/test_fence.py",
    "contract/test_fence_refusals.py": "contract/test_fence.py",
    "drill/test_caddy_kills.py": "drill/test_caddy_home.py",
    "drill/test_caddy_watches.py": "drill/test_caddy_home.py",
    "drill/test_backups_bucket.py": "drill/test_backups.py",
    "drill/test_connections.py": "drill/test_diagnosis.py",
    "drill/test_durable_objects.py": "safety/test_questioned.py",
    "drill/test_follow.py": "runbook/test_follow.py",
    "drill/test_guard_report.py": "runbook/test_guard_report.py",
    "drill/test_haproxy_home.py": "contract/test_haproxy.py",
    "drill/test_kills.py": "drill/test_interrupt.py",
    "drill/test_missing_secret.py": "safety/test_secrets_canary.py",
    "drill/test_objects.py": "runbook/test_restore_objects.py",
    "drill/test_recover.py": "runbook/test_recover.py",
    "restore/test_recover_postgres.py": "runbook/test_recover.py",
    "drill/test_promql.py": "contract/test_promql.py",
    "drill/test_ramp.py": "runbook/test_ramp.py",
    "drill/test_recorder_guard.py": "twin/test_recorder.py",
    "drill/test_schema_night.py": "drill/test_scenarios.py",
    "drill/test_synthetic.py": "runbook/test_prober.py",
    "drill/test_telemetry.py": "contract/test_telemetry_exact.py",
    "drill/test_worker_fleet.py": "drill/test_worker.py",
    "drill/test_worker_second_person.py": "web/test_people.py",
    "drill/test_worker_upkeep.py": "drill/test_worker_jobs.py",
    "drill/test_version_url.py": "safety/test_rule_06_version_url.py",
    "restore/test_fence_swap.py": "contract/test_fence.py",
    "restore/test_query_cache.py": "runbook/test_query_cache.py",
    "restore/test_restore_managed_kills.py": "restore/test_restore_kills.py",
    "drill/test_incident_story.py": "runbook/test_incidents.py",
    "restore/test_written_since.py": "runbook/test_written_since.py",
    "web/test_browser_flows.py": "web/test_browser_pages.py",
    "safety/test_doors_out.py": "safety/test_canary.py",
    "safety/test_hostile_twin.py": "safety/test_edges.py",
    "restore/test_restore_preview.py": "restore/test_rescue.py",
}
"""Files that are long as a whole, and where something short of their kind is."""


def test_each_kind_has_something_short(request: pytest.FixtureRequest) -> None:
    """Whatever is proven at length has a short sibling, beside it or in the file that is named for it."""
    files = {f"{path.parent.name}/{path.name}": counts for path, counts in request.config.stash[FILES].items()}
    only_long = [name for name, counts in files.items() if not counts[False]]
    assert [name for name in only_long if name not in SIBLINGS] == []
    if set(SIBLINGS) <= set(files):  # not in a run of this file alone
        assert [name for name in SIBLINGS if name not in only_long or not files[SIBLINGS[name]][False]] == []


def test_each_test_that_rotates_comes_up_once_in_so_many_days() -> None:
    """However many there are of its family, and whichever day is the first."""
    for first in (739_000, 739_001):
        days = range(first, first + 3)
        assert [sum(is_due(place, 3, day) for day in days) for place in range(7)] == [1] * 7
        assert [sum(is_due(place, 3, day) for place in range(7)) in (2, 3) for day in days] == [True] * 3


def test_the_slow_tests_that_take_turns_are_there() -> None:
    """A test that was renamed would run every day again."""
    named = SLOW.read_text(encoding="utf-8").split()
    assert named == sorted(set(named))
    for file, names in groupby(named, key=lambda name: name.partition("::")[0]):
        text = (TESTS / file).read_text(encoding="utf-8")
        assert [name for name in names if f"def {name.rpartition('::')[2]}(" not in text] == []


@dataclass(frozen=True, slots=True)
class Case:
    """What is asked of the case of a parametrised test."""

    marks: tuple[pytest.Mark, ...]


@dataclass(frozen=True, slots=True)
class Collected:
    """What is asked of a collected test."""

    path: Path
    nodeid: str
    marks: tuple[pytest.Mark, ...] = ()
    callspec: Case | None = None

    def get_closest_marker(self, name: str) -> pytest.Mark | None:
        return next((mark for mark in self.marks if mark.name == name), None)


def test_what_takes_turns_depends_on_the_suite() -> None:
    """The slow ones, in the whole suite the long ones as well, those marked `rotating` more seldom; no others."""
    file, _, function = SLOW.read_text(encoding="utf-8").partition("\n")[0].partition("::")
    long = (pytest.mark.long.mark, pytest.mark.rotating("wrangler", 4).mark)
    slow = [Collected(TESTS / file, f"tests/{file}::{function}[{case}]") for case in range(7)]
    quick = [Collected(TESTS / file, f"tests/{file}::test_something_else[{case}]") for case in range(7)]
    rotating = [Collected(TESTS / file, f"tests/{file}::{function}[{case}]", long) for case in range(7)]
    others = [Collected(TESTS / file, f"tests/{file}::test_long[{case}]", long[:1]) for case in range(8)]
    items = cast("list[pytest.Item]", [*slow, *quick, *rotating, *others])
    left = {id(item) for item in pick_of_other_days(items, TESTS, everything=True)}
    assert [sum(id(item) in left for item in each) for each in (quick, others)] == [0, 4]
    assert sum(id(item) in left for item in slow) in {3, 4}
    assert sum(id(item) in left for item in rotating) in {5, 6}
    left = {id(item) for item in pick_of_other_days(items, TESTS, everything=False)}
    assert left < set(map(id, slow))
    assert len(left) in {4, 5}


def test_a_case_takes_turns_with_the_family_that_it_is_marked_for() -> None:
    """On hosts a drill counts among those of hosts, whichever family its function is of; one worker has all of them."""
    nights = (pytest.mark.long.mark, pytest.mark.rotating("nights", 1).mark)
    on_hosts = Case((pytest.mark.rotating("rules on hosts", 2).mark,))
    named = [(f"test_it[{case}]", case) for case in ("cloudflare", "hosts", "cloudflare", "hosts")]
    drills = [Collected(TESTS / "x.py", name, nights, on_hosts if case == "hosts" else None) for name, case in named]
    left = pick_of_other_days(cast("list[pytest.Item]", drills), TESTS, everything=True)
    assert len(left) == 1
    assert left[0] in (drills[1], drills[3])
    assert {group_of("tests/safety/test_scenarios.py", case) for case in ("hosts", "hosts-hold")} == {"stage on hosts"}
    assert group_of("tests/drill/test_hosts_demo.py", "hosts") == "tests/drill/test_hosts_demo.py"


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
