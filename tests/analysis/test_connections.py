"""What the database's connections say about a deployment, and what they must not be taken for."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backout.analysis.detector.connections import EXHAUSTED, Occupancy
from backout.analysis.detector.decision import Detector
from backout.model.guard.connections import ConnectionUse
from backout.model.guard.policy import Policy
from backout.model.guard.signals import Counts, Criticality
from backout.model.guard.verdict import Cause, Decision, Verdict

AT = 1000.0
CRITICAL = Policy(services={"database": Criticality.CRITICAL})
DEGRADABLE = Policy(services={"database": Criticality.DEGRADABLE})
REFUSED = ConnectionUse(AT + 40, 100, 100, refused="FATAL: sorry, too many clients already")


def use(used: int, at: float, scope: str = "server") -> ConnectionUse:
    return ConnectionUse(at, used, 100, scope=scope)


def detector(before: int | None = 31, policy: Policy = CRITICAL) -> Detector:
    baseline = [Counts("v1", second, 20, 0) for second in range(int(AT) - 900, int(AT))]
    found = Detector(version="v2", old="v1", deployed_at=AT, split=1.0, baseline=baseline, policy=policy)
    if before is not None:
        found.add_connections(use(before, AT - 30))
    return found


def judge(*used: int | None, before: int | None = 31, policy: Policy = CRITICAL) -> Decision:
    """Return the decision after looks every ten seconds, beside requests that are all well."""
    found = detector(before, policy)
    for number, each in enumerate(used):
        found.add_connections(None if each is None else use(each, AT + 10 * number))
    end = int(AT) + 10 * len(used)
    found.add(Counts("v2", second, 100, 0) for second in range(int(AT), end))
    return found.decide(end)


def test_a_database_that_fills_up_after_the_deployment_is_a_reason_by_itself() -> None:
    """Three looks in a row with 95 % and more in use, and room before."""
    decision = judge(40, 97, 98, 98)
    assert decision.verdict is Verdict.REGRESSED
    assert decision.cause is Cause.CONNECTIONS
    assert decision.reason == "98 of 100 connections in use, 31 before, in the last 3 looks"
    assert decision.first_bad_at == AT + 10
    (line,) = (line for line in decision.evidence if line.stream == "database connections")
    assert (line.bad, line.total, line.sentence) == (3, 4, "98 of 100 connections in use, 31 before")
    assert line.log_evidence > 0


def test_one_connection_too_many_is_exhaustion_too() -> None:
    """What the database itself said is quoted."""
    found = detector()
    for _ in range(3):
        found.add_connections(REFUSED)
    decision = found.decide(AT + 50)
    assert decision.verdict is Verdict.REGRESSED
    assert 'refuses connections ("FATAL: sorry, too many clients already"), 31 before' in decision.reason


def test_two_looks_are_not_enough_and_room_starts_again() -> None:
    """Looks in a row, counted from the last one with room; until then nothing is healthy."""
    assert judge(97, 97).verdict is Verdict.INCONCLUSIVE
    assert judge(97, 97, 60, 97, 97).verdict is Verdict.INCONCLUSIVE


def test_what_was_as_full_before_is_not_the_deployment() -> None:
    """Also when there was room for a moment after it."""
    decision = judge(97, 50, 97, 98, 99, before=85)
    assert (decision.verdict, decision.cause) == (Verdict.INCONCLUSIVE, Cause.OUTSIDE)
    assert "not the deployment: 99 of 100 connections in use, 85 before" in decision.reason


def test_not_knowing_what_was_before_is_no_reason() -> None:
    """Unless the watch itself saw room first: that it is full later is news."""
    decision = judge(97, 98, 98, 99, before=None)
    assert decision.verdict is Verdict.INCONCLUSIVE
    assert "whether there was room before is not known" in decision.reason
    assert judge(30, 98, 98, 99, before=None).verdict is Verdict.REGRESSED


def test_a_degradable_database_is_a_remark() -> None:
    """Its connections stand in the evidence and keep nothing from being healthy."""
    decision = judge(97, 98, 98, 99, policy=DEGRADABLE)
    assert decision.verdict is Verdict.HEALTHY
    assert any(line.sentence == "99 of 100 connections in use, 31 before" for line in decision.evidence)


def test_a_database_that_cannot_be_asked_says_nothing() -> None:
    """The verdict is that of the requests; one remark says so."""
    decision = judge(None, None, None, None, before=None)
    assert decision.verdict is Verdict.HEALTHY
    assert decision.evidence[-1].sentence == "the database did not tell its connections"
    assert judge(30, None, 30).evidence[-1].sentence.endswith("; it did not tell in 1 look")


def test_a_leak_is_told_and_never_rolled_back() -> None:
    """Connections that grow steadily keep a version from being healthy; full in the end, they are a reason."""
    decision = judge(31, 34, 37, 40, 43, 46)
    assert decision.verdict is Verdict.INCONCLUSIVE
    assert "database connections grow by 18 a minute: 46 of 100 connections in use, at this pace all" in decision.reason
    assert "in 3 min" in decision.reason
    assert judge(*range(31, 97, 3), 97, 98, 99).verdict is Verdict.REGRESSED


@pytest.mark.parametrize(
    "used",
    [(10, 20, 30, 30, 30, 30), (30, 31, 30, 29, 31, 30), (30, 30, 30, 30), (5, 6, 6, 7, 7, 8), (60, 50, 40, 30, 20)],
)
def test_what_is_no_leak(used: tuple[int, ...]) -> None:
    """A pool that fills up and stays, what comes and goes, too few looks, hardly any growth, a way down."""
    assert judge(*used).verdict is Verdict.HEALTHY


def test_another_limit_begins_a_new_line() -> None:
    """Two limits do not lie on one line."""
    found = detector()
    for number in range(4):
        found.add_connections(use(31 + 5 * number, AT + 10 * number))
    found.add_connections(use(51, AT + 40, "pool"))
    assert "grow" not in found.decide(AT + 50).reason
    assert found.decide(AT + 50).evidence[-1].sentence == "51 of 100 connections of the pool in use, 31 before"


readings = st.lists(st.one_of(st.none(), st.integers(0, 100)), max_size=40)


@given(st.one_of(st.none(), st.integers(0, 100)), readings)
def test_a_rollback_needs_room_before_and_looks_in_a_row(before: int | None, used: list[int | None]) -> None:
    """Whatever the looks are."""
    decision = judge(*used, before=before)
    told = [each for each in used if each is not None]
    full = len(told) >= 3 and all(each >= 100 * EXHAUSTED for each in told[-3:])
    room = before < 80 if before is not None else any(each < 80 for each in told[:-3])
    assert (decision.verdict is Verdict.REGRESSED) == (full and room)


@given(readings, st.integers(0, 40))
def test_a_restored_watch_goes_on_as_if_nothing_happened(used: list[int | None], cut: int) -> None:
    """Through JSON, at any look."""

    def made() -> Occupancy:
        return Occupancy(is_critical=True, needed=3, until=AT + 900)

    whole, part = made(), made()
    for number, each in enumerate(used):
        look = None if each is None else use(each, AT + 10 * number)
        whole.add(look)
        part.add(look)
        if number == cut:
            again = made()
            again.restore(json.loads(json.dumps(part.state())))
            part = again
    assert part.state() == whole.state()
    now = AT + 10 * len(used)
    assert (part.find_regression(), part.doubtful(now), part.evidence()) == (
        whole.find_regression(),
        whole.doubtful(now),
        whole.evidence(),
    )
