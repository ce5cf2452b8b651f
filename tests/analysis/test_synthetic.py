"""backout's own probes as a stream of their own: what they find at little traffic, and what they leave alone."""

from __future__ import annotations

import json
import math
import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backout.analysis.detector.decision import Detector
from backout.analysis.detector.measures import SLOWER
from backout.analysis.detector.synthetic import GRANTED, MOST_GRANTED, compute_granted_share
from backout.model.guard.policy import Policy
from backout.model.guard.probes import HEALTH, ProbesBefore, SyntheticAnswer
from backout.model.guard.signals import Counts, HealthReport, Reach, ServiceHealth, ServiceState
from backout.model.guard.verdict import Cause, Verdict

if TYPE_CHECKING:
    from conftest import Record

AT = 1_000_020.0
POLICY = Policy()
UP = HealthReport(AT - 1, Reach.ANSWERED, 200, services=(ServiceHealth("database", ServiceState.OK),))
KNOWN = ProbesBefore({"/": (300, 0), HEALTH: (900, 0)})


def detector(
    probed: ProbesBefore | None = KNOWN, *, split: float = 1.0, policy: Policy = POLICY, rate: float = 0.0
) -> Detector:
    """Return a detector after an hour with so many requests a second, all well."""
    rows = [Counts("v1", int(AT - 3600 + number / rate), 1, 0) for number in range(int(3600 * rate))] if rate else []
    return Detector(
        version="v2",
        old="v1",
        deployed_at=AT,
        split=split,
        baseline=rows,
        policy=policy,
        health_before=UP,
        probed=probed,
    )


def answer(after_s: float, status: int | None = 200, path: str = "/") -> SyntheticAnswer:
    return SyntheticAnswer(AT + after_s, path, status)


def look(after_s: float, *, ok: bool) -> HealthReport:
    return HealthReport(AT + after_s, Reach.ANSWERED if ok else Reach.TIMED_OUT, 200 if ok else None)


def test_a_version_that_fails_now_and_then_is_found_without_a_visitor() -> None:
    """Every fourth probe fails, never three in a row: the counts of probes alone carry it."""
    found = detector()
    for second in range(60):
        found.add_synthetic([answer(second, 500 if second % 4 == 0 else 200)])
    decision = found.decide(AT + 60)
    assert decision.verdict is Verdict.REGRESSED
    assert decision.cause is Cause.HEALTH
    assert decision.reason.startswith("15 of 60 probes failed against 1 % (the limit for probes); evidence ")
    assert decision.reason.endswith(
        " against healthy; guard's own request / failed in 15 of 60 answers (the last one: status 500)"
    )
    assert decision.first_bad_at == AT
    assert (decision.requests, decision.errors) == (0, 0)


def test_probes_are_no_requests() -> None:
    """Good probes make no version healthy: nobody has asked it for anything yet."""
    found = detector()
    found.add_synthetic([answer(second) for second in range(900)])
    decision = found.decide(AT + 900)
    assert decision.verdict is not Verdict.HEALTHY
    assert decision.requests == 0


@pytest.mark.parametrize("rate", [0.02, 0.2])
def test_a_sick_version_at_little_traffic_is_found_sooner_by_probes(rate: float) -> None:
    """At 0.2 requests/s and less, a fifth of all answers failing: with a probe a second in a part of the time."""

    def found_after(probes_per_s: float, seed: int) -> float:
        rng = random.Random(seed)  # noqa: S311 a seeded simulation
        found = detector(KNOWN if probes_per_s else None, rate=rate)
        for second in range(3600):
            if rng.random() < rate:
                found.add([Counts("v2", int(AT) + second, 1, int(rng.random() < 0.2))])
            if rng.random() < probes_per_s:
                found.add_synthetic([answer(second, 500 if rng.random() < 0.2 else 200)])
            if found.judge(AT + second + 1)[0] is Verdict.REGRESSED:
                return second + 1
        return math.inf

    with_probes = sorted(found_after(1.0, seed) for seed in range(9))
    without = sorted(found_after(0.0, seed) for seed in range(9))
    assert with_probes[4] <= 120
    assert with_probes[-1] <= 300
    assert without[4] > 2 * with_probes[4]


@pytest.mark.proof
def test_probes_that_time_out_once_in_a_while_roll_nothing_back(proof_runs: int, proof: Record) -> None:
    """1 % of all looks (every 2 s) and synthetic requests (every second) time out, for 15 minutes."""
    wrong = 0
    for run in range(proof_runs):
        rng = random.Random(100_000 + run)  # noqa: S311 a seeded simulation
        found = detector()
        for second in range(900):
            lost = [rng.random() < 0.01, second % 2 == 0 and rng.random() < 0.01]
            if second % 2 == 0:
                found.add_health(look(second, ok=not lost[1]))
            found.add_synthetic([answer(second, None if lost[0] else 200)])
            # Evidence grows with a failure only.
            verdict, _, reason = found.judge(AT + second + 1) if any(lost) else (None, None, "")
            if verdict is Verdict.REGRESSED:
                assert "was down in the last 3 probes" in reason
                wrong += 1
                break
    proof(
        "guard leaves a deployment alone while 1 % of its own probes time out, for 15 minutes",
        trials=proof_runs,
        failures=wrong,
        allowed=POLICY.guard.alpha,
        note="three time-outs in a row are the rule of consecutive probes; the evidence never crossed",
    )
    assert wrong <= POLICY.guard.alpha * proof_runs + 3 * math.sqrt(POLICY.guard.alpha * proof_runs) + 1


def test_nothing_changes_for_the_other_streams_when_no_probe_is_made() -> None:
    """Without probes nobody gives them weight; with them all weights still sum to 1."""
    rows = [Counts("v2", int(AT) + second, 10, second % 3) for second in range(40)]
    none, some = detector(None, rate=1.0), detector(rate=1.0)
    none.add(rows)
    some.add(rows)
    assert not any(line.stream == "probes" for line in none.decide(AT + 40).evidence)
    weights = [stream["weight"] for stream in some.state()["streams"]]
    assert sum(weights) == pytest.approx(sum(stream["weight"] for stream in none.state()["streams"]))
    assert some.log_evidence() == pytest.approx(none.log_evidence() + math.log(0.9), abs=1e-3)


def test_weights_sum_to_one_when_latency_is_learnt_beside_the_old_version() -> None:
    """Streams that join later give the probes their part as well."""
    found = detector(split=0.5)
    rows = (Counts(v, int(AT) + s, 20, 0, latency={100 + s: 20}) for s in range(30) for v in ("v1", "v2"))
    found.add(rows)
    streams = found.state()["streams"]
    assert any(stream["measure"] in SLOWER for stream in streams)
    assert sum(stream["weight"] for stream in streams) == pytest.approx(1.0)


def test_a_path_that_never_answered_is_no_evidence() -> None:
    """It may have failed before as well; from its first good answer on it counts."""
    found = detector(ProbesBefore({"/old": (50, 50)}))
    for path in ("/new", "/old"):
        found.add_synthetic([answer(second, 500, path) for second in range(60)])
    assert found.judge(AT + 60)[0] is not Verdict.REGRESSED
    found.add_synthetic([answer(60, 200, "/new"), *(answer(61 + second, 500, "/new") for second in range(30))])
    assert found.judge(AT + 91)[0] is Verdict.REGRESSED


def test_what_was_down_before_is_no_failed_probe() -> None:
    """A health endpoint that was down before, or of which nothing is known, gives the stream no failure."""
    down = HealthReport(AT - 1, Reach.ANSWERED, 503)
    for before in (down, None):
        found = Detector(
            version="v2", old="v1", deployed_at=AT, split=1.0, baseline=(), policy=POLICY, health_before=before,
            probed=ProbesBefore(),
        )  # fmt: skip
        for second in range(0, 60, 2):
            found.add_health(HealthReport(AT + second, Reach.ANSWERED, 503))
        (line,) = (line for line in found.decide(AT + 60).evidence if line.stream == "probes")
        assert line.bad == 0


def test_in_a_split_and_in_the_warm_up_probes_are_not_counted() -> None:
    """Nobody knows which version answered; and a warm-up is declared for what fails in it."""
    from values import replace  # noqa: PLC0415 - only here

    warm = replace(POLICY, guard=replace(POLICY.guard, warm_up_s=30.0))
    for found in (detector(split=0.5), detector(policy=warm)):
        found.add_synthetic([answer(second, 500) for second in range(30)])
        assert found.judge(AT + 30)[0] is not Verdict.REGRESSED
    ramped = detector(split=0.5)
    ramped.set_split(AT + 30, 1.0)
    ramped.add_synthetic([answer(second, 500) for second in range(60)])
    (line,) = (line for line in ramped.decide(AT + 60).evidence if line.stream == "probes")
    assert (line.bad, line.total) == (30, 30)


def test_probes_alone_must_be_enough_to_lead() -> None:
    """Their verdict may be acted on without a source of counts, so it must not rest on one."""
    found = detector(rate=5.0)
    found.add_synthetic([answer(second, 500 if second < 3 else 200) for second in range(9)])
    found.add([Counts("v2", int(AT) + second, 5, 1) for second in range(9)])
    verdict, cause, _ = found.judge(AT + 9)
    assert (verdict, cause) == (Verdict.REGRESSED, Cause.ERRORS)


def test_what_failed_before_is_granted() -> None:
    """At least 1 %, and the share of requests that fails anyway; a path that never answered does not count."""
    assert compute_granted_share(ProbesBefore(), 0.0) == GRANTED
    assert compute_granted_share(ProbesBefore({"/": (1000, 0)}), 0.0) == GRANTED
    assert compute_granted_share(ProbesBefore({"/": (1000, 0)}), 0.03) == 0.03
    assert 0.05 < compute_granted_share(ProbesBefore({"/": (1000, 50)}), 0.0) < 0.08
    assert compute_granted_share(ProbesBefore({"/": (1000, 50), "/dead": (1000, 1000)}), 0.0) < 0.08


@given(st.lists(st.tuples(st.integers(0, 2000), st.floats(0, 1)), max_size=5), st.floats(0, 1))
def test_the_granted_share_is_a_share(ended: list[tuple[int, float]], errors: float) -> None:
    """Whatever was seen before."""
    before = ProbesBefore({f"/{n}": (made, int(made * share)) for n, (made, share) in enumerate(ended)})
    assert GRANTED <= compute_granted_share(before, errors) <= MOST_GRANTED


events = st.lists(st.tuples(st.sampled_from("hsc"), st.booleans()), max_size=60)


@given(events, st.integers(0, 60))
def test_a_watch_begun_anew_goes_on_from_its_checkpoint_of_looks(steps: list[tuple[str, bool]], cut: int) -> None:
    """Crash at any event: counts fed again, looks restored through JSON, the same decision at every later moment."""
    from backout.model.guard.connections import ConnectionUse  # noqa: PLC0415 - only here

    whole, part, rows = detector(), detector(), []
    for number, (kind, ok) in enumerate(steps):
        if number == cut:
            saved = json.loads(json.dumps(part.looks()))
            part = detector()
            part.add(rows)
            part.restore_looks(saved)
        rows.append(Counts("v2", int(AT) + number, 2, 0 if ok else 1))
        for each in (whole, part):
            each.add([rows[-1]])
            if kind == "h":
                each.add_health(look(number, ok=ok))
            elif kind == "s":
                each.add_synthetic([answer(number, 200 if ok else 503)])
            else:
                each.add_connections(ConnectionUse(AT + number, 20 if ok else 99, 100))
    end = AT + len(steps)
    assert part.judge(end) == whole.judge(end)
    assert part.log_evidence() == pytest.approx(whole.log_evidence(), abs=1e-9)


def test_a_checkpoint_of_the_version_before_is_read() -> None:
    """It wrote what a stream counts as a number, and knew no pairs and no shifts."""
    found = detector()
    found.add_synthetic([answer(second, 500) for second in range(3)])
    saved = json.loads(json.dumps(found.looks()))
    del saved["shifts"], saved["probed"]["measure"], saved["probed"]["bound"]
    saved["probed"]["column"] = 6
    again = detector()
    again.restore_looks(saved)
    assert again.judge(AT + 3) == found.judge(AT + 3)
    assert again.looks() == found.looks()


def test_a_shift_of_visitors_and_of_guards_own_requests_is_told_once() -> None:
    """Both show the same by the same name; guard's own is enough for it, and a good answer ends it."""
    found = detector(ProbesBefore({"/": (300, 0)}, frozenset({"/"})))
    found.add_synthetic([answer(1, 404), answer(2, 404)])
    names = [shift.name for shift in found.decide(AT + 3).shifts]
    assert names == ["GET:/:404"]
    assert len(names) == len(set(names))
    assert found.asked_otherwise
    found.add_synthetic([answer(3, 200)])
    assert found.decide(AT + 4).shifts == ()
