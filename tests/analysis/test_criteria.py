"""The runbook's success criteria: what passes, what waits, what fails, and what could not be measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from values import replace

from backout.analysis.detector.criteria import CriteriaEngine
from backout.model.guard.policy import Criteria, Policy
from backout.model.guard.signals import Counts, Criticality, HealthReport, Reach, ServiceHealth, ServiceState
from backout.model.guard.verdict import CriterionState

if TYPE_CHECKING:
    from collections.abc import Iterable

AT = 10_000
LIVE, LEFT = "good", "bad"
POLICY = Policy(services={"email": Criticality.DEGRADABLE})
PASSED, FAILED, WAITING = CriterionState.PASSED, CriterionState.FAILED, CriterionState.WAITING
UNMEASURED, NOT_SET_UP = CriterionState.UNMEASURED, CriterionState.NOT_SET_UP
NAMES = (
    "health check returns 200",
    "all services ok",
    "error rate below 1 %",
    "response time normal",
    "no database connection errors",
    "storage accessible",
    "email operational or degraded",
    "no requests reach the replaced version",
)
HEALTH, SERVICES, ERRORS, LATENCY, DATABASE, STORAGE, EMAIL, LEFT_QUIET = NAMES


def engine(**changes: object) -> CriteriaEngine:
    what: dict[str, object] = {
        "started_at": float(AT),
        "live_version": LIVE,
        "left_version": LEFT,
        "baseline": [Counts(LIVE, AT - t, 20, 0, latency={100: 19, 140: 1}) for t in range(1, 601)],
    }
    return CriteriaEngine(Criteria(), POLICY, **{**what, **changes})  # type: ignore[arg-type]


def traffic(seconds: Iterable[int], errors: int = 0, bucket: int = 100, version: str = LIVE) -> list[Counts]:
    return [Counts(version, AT + t, 20, errors, latency={bucket: 20}) for t in seconds]


def health(at: float, status: int = 200, version: str | None = None, **services: ServiceState) -> HealthReport:
    states = {"database": ServiceState.OK, "storage": ServiceState.OK, "email": ServiceState.OK} | services
    rows = tuple(ServiceHealth(name, state) for name, state in states.items())
    return HealthReport(AT + at, Reach.ANSWERED, status, services=rows, version=version)


def states(found: CriteriaEngine, after_s: float) -> dict[str, CriterionState]:
    return {result.name: result.state for result in found.results(AT + after_s)}


def test_a_well_system_passes_all_eight_as_soon_as_the_evidence_is_there() -> None:
    """600 clean requests and two looks at health are enough; no need to wait for 5 minutes or 15."""
    found = engine()
    found.add(traffic(range(10)))
    found.add_health(health(1))
    early = states(found, 10)
    assert tuple(early) == NAMES
    assert early[ERRORS] is WAITING
    assert early[HEALTH] is WAITING
    found.add(traffic(range(10, 40)))
    found.add_health(health(3))
    assert set(states(found, 40).values()) == {PASSED}
    whole = found.verification(AT + 40)
    assert whole.verified is True
    assert whole.summary == "8 of 8 criteria passed"
    assert all(result.passed_at == AT + 40 for result in whole.criteria)


def test_what_is_not_set_up_is_named_and_not_counted() -> None:
    """An application without storage and email: all of six criteria passed, not six of eight for ever."""
    found = engine()
    found.add(traffic(range(40)))
    for at in (1, 3):
        report = health(at)
        found.add_health(replace(report, services=tuple(s for s in report.services if s.name == "database")))
    assert states(found, 40)[STORAGE] is NOT_SET_UP
    whole = found.verification(AT + 40)
    assert whole.verified is True
    assert whole.summary == f"6 of 6 criteria passed; not set up: {STORAGE}, {EMAIL}"


def test_low_traffic_passes_when_the_time_is_over_with_the_limit_kept() -> None:
    """One request every 5 s: not enough to exclude 1 %, but 5 minutes below it is what the runbook asks for."""
    found = engine()
    found.add([Counts(LIVE, AT + t, 1, 0, latency={100: 1}) for t in range(0, 295, 5)])
    assert states(found, 295)[ERRORS] is WAITING
    found.add([Counts(LIVE, AT + t, 1, 0, latency={100: 1}) for t in range(295, 305, 2)])
    later = states(found, 305)
    assert later[ERRORS] is PASSED
    assert later[LATENCY] is PASSED


def test_errors_beyond_the_limit_wait_and_fail_at_the_end() -> None:
    """5 % errors: waiting while the watch lasts, failed when it ends; verified is False."""
    found = engine()
    found.add(traffic(range(900), errors=1))
    assert states(found, 899)[ERRORS] is WAITING
    whole = found.verification(AT + 900.0)
    assert whole.verified is False
    assert ERRORS in whole.summary


def test_a_rough_start_is_forgiven_after_five_good_minutes() -> None:
    """Errors in the first 20 s, then none: the window of 5 minutes decides."""
    found = engine()
    found.add([*traffic(range(20), errors=10), *traffic(range(20, 200))])
    assert states(found, 200)[ERRORS] is WAITING
    found.add(traffic(range(200, 340)))
    assert states(found, 340)[ERRORS] is PASSED


def test_passed_is_taken_back_when_the_errors_come_later() -> None:
    """Evidence can turn: what passed at 40 s does not stay passed through a later outage."""
    found = engine()
    found.add(traffic(range(40)))
    assert states(found, 40)[ERRORS] is PASSED
    found.add(traffic(range(40, 80), errors=15))
    assert states(found, 80)[ERRORS] is WAITING


def test_slow_answers_wait_and_fail_at_the_end() -> None:
    """Everything twice as slow as the baseline's p99 is not normal."""
    found = engine()
    found.add(traffic(range(900), bucket=170))
    assert states(found, 100)[LATENCY] is WAITING
    result = {r.name: r for r in found.results(AT + 900.0)}[LATENCY]
    assert result.state is FAILED
    assert "before" in result.evidence


def test_what_cannot_be_compared_is_not_set_up_and_does_not_block() -> None:
    """No baseline, no health endpoint, nothing left: errors alone prove it, and the rest is named as not measured."""
    found = engine(baseline=(), has_health=False, left_version=None)
    found.add(traffic(range(40)))
    seen = states(found, 40)
    assert [name for name, state in seen.items() if state is NOT_SET_UP] == [
        HEALTH,
        SERVICES,
        LATENCY,
        DATABASE,
        STORAGE,
        EMAIL,
        LEFT_QUIET,
    ]
    whole = found.verification(AT + 40)
    assert whole.verified is True
    assert whole.summary.startswith("1 of 1 criteria passed; not set up: health check returns 200, ")


def test_nothing_measured_is_neither_verified_nor_failed() -> None:
    """No answer, no request, until the end: None, never assumed good."""
    found = engine()
    assert found.verification(AT + 10).verified is None
    whole = found.verification(AT + 900.0)
    assert whole.verified is None
    assert {result.state for result in whole.criteria} == {UNMEASURED}
    assert engine(has_health=False, has_traffic=False).verification(AT + 900.0).verified is None


def test_health_alone_verifies_when_there_is_no_traffic() -> None:
    """A quiet night: the probes are measured, the rates are not."""
    found = engine()
    for at in (1, 3):
        found.add_health(health(at))
    whole = found.verification(AT + 900.0)
    assert whole.verified is True
    assert {r.name for r in whole.criteria if r.state is UNMEASURED} == {ERRORS, LATENCY, LEFT_QUIET}


@pytest.mark.parametrize(
    ("service", "state", "failed"),
    [
        ("database", ServiceState.DOWN, {SERVICES, DATABASE}),
        ("storage", ServiceState.DOWN, {SERVICES, STORAGE}),
        ("storage", ServiceState.DEGRADED, {SERVICES, STORAGE}),
        ("email", ServiceState.DEGRADED, set()),
        ("payments", ServiceState.DOWN, {SERVICES}),
    ],
)
def test_services_fail_their_own_criterion(service: str, state: ServiceState, failed: set[str]) -> None:
    """A critical service fails "all services ok" and its own line; degraded email passes with the remark."""
    found = engine()
    found.add(traffic(range(40)))
    for at in (1, 3, 5):
        found.add_health(health(at, **{service: state}))
    results = {r.name: r for r in found.results(AT + 900.0)}
    assert {name for name, result in results.items() if result.state is FAILED} == failed
    if service == "email":
        assert "proceed with caution" in results[EMAIL].evidence
        assert "degradable" in results[SERVICES].evidence


def test_one_good_look_between_bad_ones_proves_nothing() -> None:
    """Health must say the same twice in a row."""
    found = engine()
    for at, status in ((1, 503), (3, 200), (5, 503), (7, 200)):
        found.add_health(health(at, status))
    assert states(found, 8)[HEALTH] is WAITING
    found.add_health(health(9))
    assert states(found, 10)[HEALTH] is PASSED


def test_only_the_live_version_may_speak_for_itself() -> None:
    """Looks from before the switch, of another version, or unreadable do not count."""
    found = engine()
    for at in (1, 3, 5):
        found.add_health(health(at, version=LEFT))
        found.add_health(health(at - 60))
        found.add_health(HealthReport(AT + at, Reach.UNREADABLE, 200))
    assert states(found, 6)[HEALTH] is WAITING
    assert states(found, 900)[HEALTH] is UNMEASURED


def test_a_report_that_names_no_email_leaves_email_not_set_up() -> None:
    """What the application does not report is not claimed."""
    found = engine()
    for at in (1, 3):
        found.add_health(HealthReport(AT + at, Reach.ANSWERED, 200, services=(ServiceHealth("db", ServiceState.OK),)))
    seen = states(found, 4)
    assert (seen[DATABASE], seen[STORAGE], seen[EMAIL]) == (PASSED, NOT_SET_UP, NOT_SET_UP)


def test_the_version_left_must_fall_silent() -> None:
    """Each of its answers begins the silence anew; 459 requests past it, or a quiet minute, are enough."""
    found = engine()
    found.add([*traffic(range(30)), *traffic([20], version=LEFT)])
    assert states(found, 30)[LEFT_QUIET] is WAITING
    found.add(traffic(range(30, 45)))
    assert states(found, 45)[LEFT_QUIET] is PASSED
    slow = engine()
    slow.add([Counts(LEFT, AT + 1, 1, 1), Counts(LIVE, AT + 2, 1, 0), Counts(LIVE, AT + 70, 1, 0)])
    assert states(slow, 70)[LEFT_QUIET] is PASSED
    loud = engine()
    loud.add([*traffic(range(900)), *traffic(range(0, 900, 9), version=LEFT)])
    assert states(loud, 900)[LEFT_QUIET] in (FAILED, UNMEASURED)
    assert states(loud, 899)[LEFT_QUIET] is WAITING


def test_another_limit_is_named_and_used() -> None:
    """The criterion carries the configured number."""
    found = CriteriaEngine(
        Criteria(error_rate_below=0.05), POLICY, started_at=float(AT), live_version=LIVE, left_version=None
    )
    found.add(traffic(range(8)))
    assert states(found, 8)["error rate below 5 %"] is PASSED


NEVER = 239
"""The bucket of 30 s."""


@pytest.mark.parametrize("usual", [None, NEVER, 100])
def test_a_p99_of_half_a_minute_is_never_normal(usual: int | None) -> None:
    """Whatever was usual, and without a baseline: the criterion fails, and nothing is verified."""
    past = [Counts(LIVE, AT - t, 20, 0, latency={usual: 20}) for t in range(1, 601)] if usual is not None else []
    found = engine(baseline=past)
    for second in range(0, 900, 2):
        found.add_health(health(second))
        found.add([Counts(LIVE, AT + second, 20, 0, latency={100: 18, NEVER: 2})])
    assert states(found, 901)[LATENCY] is FAILED
    assert found.verification(AT + 901).verified is False


def test_without_a_baseline_ordinary_response_times_have_nothing_to_be_compared_with() -> None:
    """As before: neither a tick nor a cross."""
    found = engine(baseline=[])
    found.add(traffic(range(900)))
    assert states(found, 901)[LATENCY] is NOT_SET_UP
