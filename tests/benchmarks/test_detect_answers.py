"""The benchmark of shifts in what is answered: small counts of it, its oracle, and work that goes on where it was."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from shared import answers_report as report
from shared.answers_oracle import oracle
from shared.answers_runs import Asking, group_seconds, make_detector, measure, plan
from shared.answers_scenarios import Kind, Noise, Scenario, bad, healthy
from shared.answers_traffic import DEPLOYED_AT, NEW, watches
from shared.detect_figures import median
from shared.detect_scenarios import SPLITS
from values import replace

from extent import long

if TYPE_CHECKING:
    from pathlib import Path

    from shared.answers_runs import Found

MOST = {Kind.SITE: 2.5, Kind.EXTINCTION: 2.5, Kind.ROUTE: 3.5, Kind.PROBED: 3.5}


def of_kind(kind: Kind, rate: float = 50.0) -> list[Scenario]:
    return [scenario for scenario in bad() if scenario.kind is kind and scenario.rate == rate]


@pytest.mark.parametrize("kind", list(MOST))
def test_bad_versions_are_found_soon(kind: Kind) -> None:
    """The median ratio to the oracle keeps its goal, at few counts and 50 requests/s."""
    found = measure([(replace(scenario, watch_s=120), 3) for scenario in of_kind(kind)], 1)
    assert sorted(report.ratios(found, kind))[len(found) // 2] <= MOST[kind]
    assert {end for runs in found.values() for end in runs.ends} == {"regressed"}


@pytest.mark.parametrize("noise", [noise if noise in (Noise.ATTACK, Noise.LOGOUT) else long(noise) for noise in Noise])
def test_healthy_versions_are_left_alone(noise: Noise) -> None:
    """One watch in each mode: none is rolled back."""
    chosen = [(Scenario(5.0, split, noise, watch_s=300), 1) for split in SPLITS]
    found = measure(chosen, 1)
    assert report.false(found, noise).value == 0


def test_work_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    """What stands in the file is not measured again; a line that was cut off is."""
    keep = tmp_path / "kept"
    chosen = [(replace(scenario, watch_s=60), 2) for scenario in of_kind(Kind.SITE)[:3]]
    first = measure(chosen, 1, keep=keep)
    lines = keep.read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(chosen)
    changed = json.loads(lines[0])
    changed[2][0][0] = 59.0
    keep.write_text("\n".join((json.dumps(changed), lines[1], lines[2][:20])), encoding="utf-8")
    again = measure(chosen, 1, keep=keep)
    delays = [runs.delays for runs in again.values()]
    assert delays[0][0] == 59.0
    assert delays[1:] == [runs.delays for runs in first.values()][1:]
    assert measure(chosen, 2, keep=keep) != again


@pytest.mark.long
def test_what_was_measured_within_a_time_is_of_all_scenarios(tmp_path: Path) -> None:
    """It ends after the part that is under way, and goes on from there the next time."""
    chosen = [(replace(scenario, watch_s=30), 21) for scenario in of_kind(Kind.SITE)[:2]]
    first = measure(chosen, 1, keep=tmp_path / "kept", within_s=0.0)
    assert [len(runs.ends) for runs in first.values()] == [20]
    whole = measure(chosen, 1, keep=tmp_path / "kept")
    assert [len(runs.ends) for runs in whole.values()] == [21, 21]
    lines = (tmp_path / "kept").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)[1].rpartition(", ")[2] for line in lines] == [
        *["watches 0 to 20"] * 2,
        *["watches 20 to 21"] * 2,
    ]


def test_the_oracle_is_faster_than_any_test_and_needs_what_it_is_granted() -> None:
    """In a cut-over one request tells it; for an extinction it waits for twenty; without a difference it never ends."""
    scenario = of_kind(Kind.EXTINCTION, 5.0)[0]
    watch = next(watches(scenario, 0, 1, 1))
    granted = oracle(scenario, watch)
    assert np.cumsum(watch.new.requests.sum(axis=1))[int(granted) - 1] >= 20
    assert oracle(replace(scenario, kind=None), watch) <= 2
    assert scenario.bad is not None
    assert math.isinf(oracle(replace(scenario, bad=replace(scenario.bad, share=0.0)), watch))


def test_rows_say_what_the_arrays_say() -> None:
    """The live detector and the oracle see the same watch."""
    side = next(watches(Scenario(5.0, 0.5, Noise.ATTACK, watch_s=200), 0, 1, 3)).new
    for begins in (range(200), (0, 1, 5, 60, 199)):
        rows = [row for row in side.rows(begins, 200) if row is not None]
        assert sum(row.requests for row in rows) == side.requests.sum() + side.unknown.sum()
        assert sum(sum(row.classes.values()) for row in rows) == side.classes.sum() + side.unknown.sum()
        assert {row.version for row in rows} == {NEW}
        assert all(sum(row.latency.values()) == row.requests for row in rows)


@pytest.mark.parametrize("scenario", [Scenario(5.0, 1.0, Noise.LOGOUT), Scenario(5.0, 0.5, Noise.ATTACK)])
def test_seconds_are_grouped_without_a_trace(scenario: Scenario) -> None:
    """After each group the detector is in the same state as after the same seconds one by one."""
    scenario = replace(scenario, watch_s=300)
    watch = next(watches(scenario, 0, 1, 5))
    grouped, singly = make_detector(scenario, watch), make_detector(scenario, watch)
    begin = 0
    for last, rows in group_seconds(scenario, watch, Asking(scenario)):
        grouped.add(rows)
        for second in range(begin, last + 1):
            singly.add(row for side in watch.sides for row in side.rows([second], second + 1) if row is not None)
        begin = last + 1
        now = DEPLOYED_AT + begin
        for detector in (grouped, singly):
            detector.note_until(now)
        assert grouped.judge(now) == singly.judge(now)
    # Which seconds without a failure were seen is kept for two minutes, and read by nothing.
    assert {**grouped.state(), "repeats": None} == {**singly.state(), "repeats": None}
    assert begin == scenario.watch_s


def test_the_plan_has_ten_thousand_watches_of_each_noise() -> None:
    """The full counts: 4 of 10,000 can be told from more."""
    full = plan("full")
    for noise in Noise:
        assert sum(runs for scenario, runs in full if scenario.bad is None and scenario.noise is noise) >= 10_000
    assert len(healthy(Noise.NONE)) * len(Noise) + len(bad()) == len(full)


def test_the_tables_name_each_kind_and_noise() -> None:
    """Ratios with their number of scenarios, shares with their interval."""
    chosen = [(replace(s, watch_s=60), 1) for s in (*of_kind(Kind.SITE)[:1], *healthy(Noise.ATTACK)[:1])]
    found: dict[Scenario, Found] = measure(chosen, 1)
    said = report.text(found)
    assert "| whole site, split | " in said
    assert "| attack | 0.00% (0.00% to 97.50%; n 1) |" in said
    assert median(np.array(report.samples(found)["answers, healthy, attack"], dtype=float)) == 0
