"""What a source of counts does not see is said: with "healthy", before a watch, in the status and in the docs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, get_args, get_type_hints

import pytest
from values import replace

from backout.analysis.detector.unseen import SIGHTS, describe_unseen, list_unseen
from backout.config.schema.environment import Traffic as TrafficSettings
from backout.model.guard.answers import EVERY_CLASS, FAMILIES
from backout.model.guard.count_query import CountQuery
from backout.model.guard.verdict import Verdict
from backout.providers.cloudflare import analytics, telemetry
from backout.providers.cloudflare.client import ApiClient
from backout.providers.cloudflare.tail import TailTraffic
from backout.providers.logs.traffic import LogTraffic
from backout.providers.memory import World
from backout.providers.prometheus.client import MetricsClient
from backout.providers.prometheus.promql import PromqlTraffic, Queries
from backout.providers.prometheus.traffic import PrometheusTraffic
from backout.providers.recorder.traffic import make_traits
from backout.providers.router.client import RouterClient
from backout.providers.router.traffic import TRAITS

from traffic_sim import DEPLOYED_AT, Scenario, Traffic, detector

if TYPE_CHECKING:
    from backout.model.guard.signals import SourceTraits

SAFETY = Path(__file__).parents[2] / "docs" / "safety.md"
ALL = World().traits


def make_promql() -> PromqlTraffic:
    query = CountQuery.parse('http_requests_total{version="{version}"}')
    return PromqlTraffic(MetricsClient(RouterClient("http://localhost")), Queries(all=query, bad=query), tuple)


def sources() -> dict[str, SourceTraits]:
    """Return what each source says of itself, by the name that the configuration has for it."""
    return {
        "twin": TRAITS,
        "recorder": make_traits(2.0),
        "tail": TailTraffic(ApiClient("http://localhost", lambda: ""), "a", "b").traits,
        "logs": LogTraffic(Path("log")).traits,
        "caddy": LogTraffic(Path("log")).traits,
        "prometheus": PrometheusTraffic(MetricsClient(RouterClient("http://localhost"))).traits,
        "promql": make_promql().traits,
        "telemetry": telemetry.TRAITS,
        "analytics": analytics.TRAITS,
    }


def test_every_source_says_what_it_sees() -> None:
    """One that is added to the configuration has to stand here, and so in the docs."""
    known = get_args(get_type_hints(TrafficSettings)["provider"])
    assert sources().keys() == set(known) - {"none"}
    for traits in sources().values():
        assert traits.has_status or not traits.classes


def test_a_source_that_sees_all_has_nothing_to_say() -> None:
    """And each thing that it does not see is one thing more."""
    assert list_unseen(ALL) == ()
    assert describe_unseen(ALL) == ""
    blind = replace(ALL, has_status=False, classes=frozenset(), has_method=False, has_started=False, has_sizes=False)
    names = [sight.name for sight in list_unseen(replace(blind, has_triggers=False, has_choice=False))]
    assert names == [sight.name for sight in SIGHTS if sight.name != "types"]  # without lengths there is none to tell
    assert [sight.name for sight in list_unseen(replace(ALL, has_types=False))] == ["types"]
    assert describe_unseen(replace(ALL, has_sizes=False)) == "not seen by memory: lengths of answers"
    assert [sight.name for sight in list_unseen(replace(ALL, classes=frozenset(FAMILIES.values())))] == ["kinds"]
    assert list_unseen(replace(ALL, classes=EVERY_CLASS)) == ()


@pytest.mark.parametrize("said", ["", "not seen by tail: lengths of answers"])
def test_healthy_says_what_was_not_seen(said: str) -> None:
    """In the same sentence as what is excluded, and nowhere where all is seen."""
    scenario = Scenario(rate=20)
    traffic = Traffic(scenario, 1)
    judge = detector(scenario, traffic, unseen=said)
    for t in range(120):
        judge.add(traffic.second(t))
    decision = judge.decide(DEPLOYED_AT + 120)
    assert decision.verdict is Verdict.HEALTHY
    assert ("not seen" in decision.reason) is bool(said)
    assert said in decision.reason


def test_the_docs_say_what_each_source_sees() -> None:
    """One table: a row for each source, a column for each thing."""
    section = SAFETY.read_text(encoding="utf-8").partition("\n## What guard cannot see\n")[2].partition("\n## ")[0]
    head, _, *rows = [line for line in section.splitlines() if line.startswith("|")]
    names = [cell.strip() for cell in head.strip("|").split("|")][1:]
    assert len(names) == len(SIGHTS)
    found = {}
    for row in rows:
        name, *cells = [cell.strip() for cell in row.strip("|").split("|")]
        found[name.strip("`")] = [re.sub(r"[^a-z].*", "", cell) for cell in cells]
    said = {name: ["yes" if sight.is_seen(traits) else "no" for sight in SIGHTS] for name, traits in sources().items()}
    assert found == said
