"""Guard by two PromQL queries, on real parts: a Prometheus that scrapes what the twin counts for each version."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
from prometheus_lab import application, need_prometheus, prometheus

from backout.model.guard.signals import sum_counts

from polling import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prometheus_lab import Application

    from backout.ports import Traffic

    from drillbook import Drillbook

ALL = 'http_requests_total{version="{version}"}'
BAD = 'http_requests_total{version="{version}", status="500"}'
WATCH_S = 60


def export(router: Traffic, app: Application, ended: threading.Event) -> None:
    """Count on the application's page what the twin's router counted, as an exporter beside it would."""
    read_until = int(time.time()) - 10
    while not ended.wait(0.3):
        page = router.read(read_until, int(time.time()) + 1)
        for row in page.counts:
            if row.second < page.complete_until:
                app.answered(row.version, "200", row.requests - row.errors)
                app.answered(row.version, "500", row.errors)
        read_until = max(read_until, page.complete_until)


@pytest.fixture
def metrics(drillbook: Drillbook, tmp_path: Path) -> Iterator[str]:
    """The URL of a Prometheus that scrapes every second what the twin counts."""
    need_prometheus()
    drillbook.make_good_live()
    router = drillbook.trial().tools().traffic
    assert router is not None
    ended = threading.Event()
    with application() as app, prometheus(tmp_path / "prometheus", scrape=app.address) as url:
        thread = threading.Thread(target=export, args=(router, app, ended))
        thread.start()
        try:
            yield url
        finally:
            ended.set()
            thread.join(PATIENCE_S)


def ask(url: str, all_of: str, bad_of: str) -> str:
    queries = f"all = '{all_of}', bad = '{bad_of}', scrape_interval = '1s'"
    return f'traffic = {{ provider = "promql", url = "{url}", promql = {{ {queries} }} }}'


@pytest.mark.long
def test_the_queries_count_what_the_router_counts(drillbook: Drillbook, metrics: str) -> None:
    """Of the version that the platform lists as deployed; nothing is missing of a while."""
    trial = drillbook.trial()
    trial.replace((r"traffic = \{[^\n]*\}", ask(metrics, f"sum({ALL})", BAD)))
    source = trial.tools().traffic
    assert source is not None
    since = int(time.time())

    def is_seen() -> bool:
        page = source.read(since, int(time.time()) + 1)
        final = [row for row in page.counts if row.second < page.complete_until]
        return sum_counts(final)[0] > 25 and {row.version for row in final} == {drillbook.good}

    until(is_seen, PATIENCE_S, "requests of the good version are counted", every_s=0.5)
    assert source.traits.may_act, source.traits.list_shortfalls()


@pytest.mark.long
@pytest.mark.rotating("promql", 9)
@pytest.mark.parametrize("acts", [True, False])
def test_guard_acts_on_raw_counters_and_a_rate_is_advice(drillbook: Drillbook, metrics: str, acts: bool) -> None:
    """Both find the bad version; the sentence says why the one does not act."""
    all_of, bad_of = (ALL, BAD) if acts else (f"sum(rate({ALL}[5s]))", f"sum(rate({BAD}[5s]))")
    trial = drillbook.trial()
    trial.replace(
        (r"traffic = \{[^\n]*\}", ask(metrics, all_of, bad_of)),
        (r'baseline = "\d+s"', 'baseline = "60s"'),
        (r'watch = "\d+s"', f'watch = "{WATCH_S + 30}s"'),
    )
    source = trial.tools().traffic
    assert source is not None

    def has_past() -> bool:
        now = int(time.time())
        rows = source.read(now - 60, now).counts
        return sum_counts(rows)[0] > 600

    until(has_past, 3 * PATIENCE_S, "the good version has a past", every_s=1)
    trial.make_live(drillbook.bad)
    ended = trial.run("guard", "--json", timeout_s=WATCH_S + 30 + 2 * PATIENCE_S)
    assert ended.json["verdict"] == "regressed", ended.err
    if acts:
        assert (ended.code, ended.json["live_version"]) == (1, drillbook.good), ended.err
    else:
        assert trial.live() == drillbook.bad
        assert "all: rate() is estimated by the server" in ended.err, ended.err
