"""Guard by the telemetry of Workers Logs, on real parts: it acts where that is exact and soon enough."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from backout.model.guard.signals import sum_counts
from backout.providers.cloudflare.telemetry import LAG_S

from polling import PATIENCE_S, until

if TYPE_CHECKING:
    from drillbook import Drillbook

PAST_S = 20


@pytest.mark.long
def test_after_some_looks_it_may_act_and_counts_what_the_router_counts(drillbook: Drillbook) -> None:
    """Visitors' requests of each second and version; backout's own, which measured how late it is, are none."""
    trial = drillbook.trial()
    router = trial.tools().traffic
    trial.replace((r"traffic = \{[^\n]*\}", 'traffic = { provider = "telemetry" }'))
    tools = trial.tools()
    source, health = tools.traffic, tools.health
    assert router is not None
    assert source is not None
    assert health is not None
    since = int(time.time())
    found: dict[tuple[str, int], tuple[int, int]] = {}

    def is_measured() -> bool:
        health.look()
        page = source.read(since, int(time.time()) + 1)
        assert not page.sampled
        found.update({(row.version, row.second): (row.requests, row.errors) for row in page.counts})
        return source.traits.may_act and len(found) > 5

    with drillbook.fault("telemetry-lag", latency_ms=0):
        until(is_measured, PATIENCE_S, "it is measured how late it is", every_s=0.5)
    seen = [second for _, second in found]
    rows = router.read(min(seen), max(seen) + 1).counts
    assert {(row.version, row.second): (row.requests, row.errors) for row in rows} == found


@pytest.mark.long
@pytest.mark.rotating("telemetry", 9)
@pytest.mark.parametrize(("late_s", "acts"), [(5, True), (20, True), (60, False)])
def test_guard_acts_on_telemetry_that_is_exact_and_soon_enough(drillbook: Drillbook, late_s: int, acts: bool) -> None:
    """Its own looks at /health measure how late it is; a minute late, it says what it would do and why it does not."""
    trial = drillbook.trial()
    counts = trial.tools().traffic
    assert counts is not None
    trial.replace(
        (r"traffic = \{[^\n]*\}", 'traffic = { provider = "telemetry" }'),
        (r'baseline = "\d+s"', f'baseline = "{int(LAG_S) + PAST_S}s"'),
        (r'watch = "\d+s"', 'watch = "150s"'),
    )
    since = int(time.time())

    def is_known() -> bool:
        rows = counts.read(since, int(time.time()) + 1).counts
        return time.time() > since + LAG_S + PAST_S and sum_counts(rows)[0] > 1000

    with drillbook.fault("telemetry-lag", latency_ms=late_s * 1000):
        until(is_known, LAG_S + PAST_S + PATIENCE_S, "the good version has a past", every_s=0.5)
        trial.make_live(drillbook.bad)
        ended = trial.run("guard", "--json", timeout_s=150 + 2 * PATIENCE_S)
    result = ended.json
    assert result["verdict"] == "regressed", ended.err
    if acts:
        assert (ended.code, result["live_version"]) == (1, drillbook.good), ended.err
    else:
        assert trial.live() == drillbook.bad
        assert "the source telemetry told nothing newer than 30 s; the verdict is advice" in ended.err
