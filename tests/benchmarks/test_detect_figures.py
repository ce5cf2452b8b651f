"""The detector's benchmark end to end on a few watches: traffic, oracle, record, tables, chart."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace as altered
from typing import TYPE_CHECKING

import numpy as np
import pytest
from shared import detect_report as report
from shared.detect_chart import chart
from shared.detect_figures import EXACT, ORACLE, OURS, PRODUCTION, Figures, quantile, share
from shared.detect_oracle import oracle
from shared.detect_peers import PEERS
from shared.detect_runs import measure, plan, plan_alone, plan_noise
from shared.detect_scenarios import BADS, Noise, Scenario
from shared.detect_traffic import as_in_production, simulate

from backout.model.guard.signals import find_bucket

from extent import by_extent

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.rotating("simulations", 3)

OUTAGE = next(kind for kind in BADS if kind.name == "errors 100 %")
FIVE = next(kind for kind in BADS if kind.name == "errors 5 %")
SLOWER = next(kind for kind in BADS if kind.name == "latency x1.5")


@pytest.fixture(scope="module")
def figures() -> Figures:
    """Measure three small scenarios."""
    usual = Scenario(5.0, 0.5, 0.0005)
    chosen = [
        (altered(usual, bad=OUTAGE, watch_s=300), 4),
        (altered(usual, bad=SLOWER, watch_s=300), 4),
        (usual, 2),
    ]
    return measure(chosen, seed=1)


def test_work_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    """What stands in the file is not measured again, infinite delays and all."""
    keep = tmp_path / "kept"
    usual = Scenario(5.0, 0.5, 0.0005, 120, watch_s=300)
    chosen = [(altered(usual, bad=OUTAGE), 2), (usual, 2)]
    alone = [(altered(usual, rate=0.2), 3)]
    first = measure(chosen, seed=1, alone=alone, keep=keep)
    lines = keep.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2
    seed, key, kept = json.loads(lines[1])
    kept[0][3][0] = 29.0
    keep.write_text(f"{lines[0]}\n{json.dumps([seed, key, kept])}\n{lines[1][:40]}", encoding="utf-8")
    again = measure(chosen, seed=1, alone=alone, keep=keep)
    assert len(keep.read_text(encoding="utf-8").splitlines()) == 3
    assert again.detectors() == first.detectors()
    for (scenario, column, name), runs in first.runs.items():
        for one, other in zip(runs, again.runs[scenario, column, name], strict=True):
            assert one.requests.tolist() == other.requests.tolist()
            assert (one.delay_s.tolist() == other.delay_s.tolist()) is (scenario.rate > 1)


@pytest.mark.long
def test_everybody_is_measured_on_the_same_watches(figures: Figures) -> None:
    """backout, every peer and the oracle; exact and production-shaped."""
    assert set(figures.detectors()) == {OURS, *PEERS}
    delays = figures.delays(figures.scenarios(lambda s: s.bad is OUTAGE), EXACT, OURS)
    assert len(delays) == 4
    assert delays.max() < 20
    late = figures.delays(figures.scenarios(lambda s: s.bad is OUTAGE), PRODUCTION, OURS)
    assert late.min() > 90


def test_a_missing_peer_is_an_error() -> None:
    """Nobody is left out in silence."""
    fewer = {name: rule for name, rule in PEERS.items() if name != "AWS SAM"}
    with pytest.raises(LookupError, match="AWS SAM"):
        measure([(Scenario(0.2, 1.0, 0.0, 120, watch_s=60), 1)], seed=1, peers=fewer)


@pytest.mark.long
def test_the_record_has_the_ratios_with_counts_and_bounds(figures: Figures) -> None:
    """One `backout.benchmark/1` that JSON can hold: what was never found is null."""
    record = report.record(figures)
    again = json.loads(json.dumps(record, allow_nan=False))
    keys = {"errors", "latency", "tail", "leak", "false_rollback_share", "outage_5rps_s"}
    assert again["schema"] == "backout.benchmark/1"
    for part in ("ratios", "n", "bound95"):
        assert set(again[part]) == keys
    assert keys <= set(again["samples"])
    assert again["n"]["outage_5rps_s"] == 4
    assert again["samples"]["false_rollback_share"] == [0, 0]


@pytest.mark.long
def test_tables_and_chart_are_written_into_a_page(figures: Figures, tmp_path: Path) -> None:
    """Only the measured part changes; the chart is well-formed."""
    page = tmp_path / "page.md"
    other = report.BEGIN.replace(" --write", " --answers --write")
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nbetween\n{other}\nolder\n{report.END}\nafter\n")
    report.write_into(page, report.text(figures), "", "quick counts, seed 1")
    report.write_into(page, "tables", "answers", "quick counts, seed 1")
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\ntables\n" + report.END + "\nafter\n")
    assert f"{report.END}\nbetween\n{other}\n" in text
    assert "old" not in text.split(report.BEGIN)[1].splitlines()[1]
    assert "| Kayenta, 5 min " in text
    with pytest.raises(LookupError, match="has no line"):
        report.write_into(page, "tables", "nothing", "")
    assert ET.fromstring(chart(figures)).tag.endswith("svg")  # noqa: S314 our own


def test_the_oracle_takes_as_long_as_walds_bound_says() -> None:
    """From 0.2 % to 5 %: ln(1000) / KL is 61 requests; crossing takes a little more."""
    batch = simulate(altered(Scenario(10.0, 1.0, 0.002), bad=FIVE), by_extent(100, 300), np.random.default_rng(2))
    assert 61 <= np.mean(oracle(batch)) * 10 <= 61 * 1.4
    wrong = simulate(Scenario(10.0, 1.0, 0.002), 1, np.random.default_rng(2))
    with pytest.raises(ValueError, match="healthy"):
        oracle(wrong)


def test_latencies_are_the_lognormal_with_a_slow_tail() -> None:
    """Median 81 ms and a p99 near 300 ms before and after; bad ones are slower by their factor."""
    batch = simulate(altered(Scenario(50.0, 0.5, 0.0), bad=SLOWER), 3, np.random.default_rng(3))
    assert batch.old is not None
    new, old = np.exp(batch.new.log_ms), np.exp(batch.old.log_ms)
    assert np.median(old) == pytest.approx(82, abs=1)
    assert np.median(new) / np.median(old) == pytest.approx(1.5, rel=0.02)
    assert np.quantile(old, 0.99) == pytest.approx(297, rel=0.05)
    histogram = batch.before.latency.sum(axis=(0, 1, 2))
    middle = int(np.searchsorted(np.cumsum(histogram), histogram.sum() / 2))
    assert abs(middle - find_bucket(82.0)) <= 1
    assert [int(b) for b in batch.new.bucket[:50]] == [find_bucket(float(ms)) for ms in new[:50]]


@pytest.mark.parametrize("noise", list(Noise))
def test_noise_is_the_same_before_and_after_unless_it_begins_with_the_deployment(noise: Noise) -> None:
    """Error rates of an hour before and of the watch agree but for drift, a cold start, an outage and a shifted mix."""
    batch = simulate(Scenario(50.0, 0.5, 0.02, noise=noise), 15, np.random.default_rng(4))
    assert batch.old is not None
    before = batch.before.errors.sum() / batch.before.requests.sum()
    after = batch.old.errors.sum() / batch.old.requests.sum()
    changes = noise in (Noise.DRIFT, Noise.OUTAGE, Noise.SALE)
    minutes = noise in (Noise.CLUSTERED, Noise.CORRELATED)  # their mean over a quarter of an hour scatters
    assert (abs(after / before - 1) > (0.2 if minutes else 0.03)) == changes
    assert batch.before.latency.sum() == batch.before.requests.sum()
    assert len(batch.new.log_ms) == batch.new.requests.sum()


def test_production_shows_a_tenth_and_half_of_the_failures() -> None:
    """Late, sampled and without status codes."""
    batch = simulate(Scenario(50.0, 0.5, 0.1), 5, np.random.default_rng(5))
    seen = as_in_production(batch, np.random.default_rng(6))
    assert seen.lag_s == 90
    for exact, sampled in ((batch.new, seen.new), (batch.before, seen.before)):
        assert sampled.requests.sum() / exact.requests.sum() == pytest.approx(0.1, rel=0.05)
        assert sampled.errors.sum() / sampled.requests.sum() == pytest.approx(0.05, rel=0.1)
        assert (sampled.errors <= sampled.requests).all()


def test_shares_and_quantiles_have_their_bounds() -> None:
    """Clopper-Pearson, and order statistics."""
    assert share(0, 1000)[:3] == (0.0, 1000, 0.0)
    assert share(0, 1000).high == pytest.approx(0.00368, rel=0.01)
    middle = quantile(np.array([*range(1, 100), np.inf]), 0.5)
    assert (middle.value, middle.n) == (50.0, 100)
    assert middle.low < 50 < middle.high
    assert quantile(np.array([1.0, np.inf, np.inf]), 0.9).value == np.inf


def test_the_plan_holds_ten_thousand_watches_of_each_noise() -> None:
    """In full, most of them judged by backout alone; and the standard one every scenario at least once."""
    counts = dict.fromkeys(Noise, 0)
    for scenario, runs in (*plan("full"), *plan_alone("full")):
        if scenario.bad is None and scenario.watch_s == 900:
            counts[scenario.noise] += runs
    assert min(counts.values()) >= 10_000
    for noise in Noise:  # alone as well, an outage that nothing tells from a bad version left out
        assert sum(n for s, n in plan_noise([noise], "full") if report.counted(s)) >= 10_000
    assert {s for s, _ in plan("standard")} == {s for s, _ in plan("full")}
    assert ORACLE not in PEERS


@pytest.mark.long
def test_noise_is_measured_alone_with_the_default_slow_start() -> None:
    """A row and a share for each noise that was chosen, and none for the others."""
    chosen = plan_noise([Noise.RETRIES], "quick")
    assert {s.slow_start_s for s, _ in chosen} == {60.0}
    assert sum(n for _, n in plan_noise([Noise.RETRIES, Noise.SALE], "full")) == 2 * 81 * 124
    found = measure([], seed=1, alone=[(altered(s, watch_s=900), n) for s, n in chosen if s.rate < 5])
    rows = [line for line in report.noise_text(found).splitlines() if line.startswith("| ")]
    assert [row.split("|")[1].strip() for row in rows] == ["noise", "retry storms"]
    assert " of 27 " in rows[1]
    assert report.noise_record(found)["n"] == {"retry storms": 27}
