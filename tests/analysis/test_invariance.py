"""However the requests come in, and however often the process dies between two of them: the same decisions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from values import replace

from backout.analysis.detector.decision import Detector
from backout.model.guard.policy import GuardPolicy, Policy
from backout.model.guard.signals import Counts, HealthReport, Reach, ServiceHealth, ServiceState

from extent import examples
from traffic_sim import DEPLOYED_AT, NEW, Scenario, Traffic, always, detector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.model.guard.verdict import Decision

WATCH_S = 100


def one_by_one(row: Counts) -> Iterator[Counts]:
    """Yield the requests of a row, each as a row of its own; which of them failed does not matter."""
    latencies = [bucket for bucket, number in row.latency.items() for _ in range(number)]
    for index in range(row.requests):
        latency = {latencies[index]: 1} if index < len(latencies) else {}
        yield Counts(row.version, row.second, 1, int(index < row.errors), latency=latency)


def reborn(watched: Detector, policy: Policy) -> Detector:
    """Return the detector as a new process knows it."""
    return Detector.from_state(json.loads(json.dumps(watched.state(), allow_nan=False)), policy)


def look(second: int) -> HealthReport:
    """Return a look at the health endpoint; email is down for a while."""
    email = ServiceState.DOWN if 20 <= second < 40 else ServiceState.OK
    services = (ServiceHealth("database", ServiceState.OK), ServiceHealth("email", email))
    return HealthReport(DEPLOYED_AT + second, Reach.ANSWERED, 200, ServiceState.OK, services, version=NEW)


def assert_same(one: Decision, other: Decision) -> None:
    """The same but for what sums of floats differ by when they were added up in another order."""
    assert replace(one, evidence=()) == replace(other, evidence=())
    for line, same in zip(one.evidence, other.evidence, strict=True):
        assert replace(line, log_evidence=0.0) == replace(same, log_evidence=0.0)
        assert line.log_evidence == pytest.approx(same.log_evidence, abs=1e-9)


@examples(12)
@given(
    seed=st.integers(0, 10_000),
    split_and_baseline=st.sampled_from([(1.0, 0), (1.0, 1000), (0.5, 1000), (0.1, 300)]),
    bad=st.sampled_from([None, always(error_rate=0.05), always(error_rate=1.0), always(latency_factor=1.4)]),
    guard=st.sampled_from([GuardPolicy(), GuardPolicy(confirm_s=10), GuardPolicy(warm_up_s=15)]),
    deaths=st.sets(st.integers(0, WATCH_S * 8), max_size=30),
    ramps=st.booleans(),
)
def test_one_request_at_a_time_with_deaths_between_them_decides_like_whole_seconds(
    seed: int,
    split_and_baseline: tuple[float, int],
    bad: object,
    guard: GuardPolicy,
    deaths: set[int],
    ramps: bool,
) -> None:
    """Batching and restarts at any event change nothing, with probes, a ramp, a confirm time and a warm-up as well."""
    split, baseline_s = split_and_baseline
    policy = Policy(guard=guard)
    scenario = Scenario(rate=8, split=split, baseline_s=baseline_s, bad=bad, watch_s=WATCH_S)  # type: ignore[arg-type]
    traffic = Traffic(scenario, seed)
    whole = detector(scenario, traffic, policy)
    if ramps and split < 1:
        whole.set_split(DEPLOYED_AT + 50, min(1.0, 2 * split))
    single, taken = reborn(whole, policy), 0
    for second in range(WATCH_S):
        rows = traffic.second(second)
        whole.add(rows)
        for request in (each for row in rows for each in one_by_one(row)):
            if taken in deaths:
                single = reborn(single, policy)
            single.add([request])
            taken += 1
        if second % 5 == 0:
            whole.add_health(look(second))
            single.add_health(look(second))
        now = DEPLOYED_AT + second + 1
        assert_same(single.decide(now), whole.decide(now))
