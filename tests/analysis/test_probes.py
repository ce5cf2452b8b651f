"""What probes say about a deployment, and what they must not be taken for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backout.analysis.detector.decision import Detector
from backout.analysis.detector.probes import ENDPOINT
from backout.model.guard.policy import Policy
from backout.model.guard.shift import Outcome, ShiftKind
from backout.model.guard.signals import (
    Counts,
    Criticality,
    HealthReport,
    Reach,
    RouteCounts,
    ServiceHealth,
    ServiceState,
)
from backout.model.guard.verdict import Cause, Decision, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

AT = 1000.0
POLICY = Policy(services={"database": Criticality.CRITICAL, "email": Criticality.DEGRADABLE})
UP, DOWN, DEGRADED = ServiceState.OK, ServiceState.DOWN, ServiceState.DEGRADED


def report(
    at: float, status: int | None = 200, reach: Reach = Reach.ANSWERED, **services: ServiceState
) -> HealthReport:
    rows = tuple(ServiceHealth(name, state) for name, state in services.items())
    return HealthReport(at, reach, status, services=rows)


def judge(before: HealthReport | None, *after: HealthReport) -> Decision:
    found = Detector(
        version="v2", old="v1", deployed_at=AT, split=1.0, baseline=(), policy=POLICY, health_before=before
    )
    for look in after:
        found.add_health(look)
    return found.decide(AT + 30)


def times(number: int, **what: object) -> list[HealthReport]:
    return [report(AT + 1 + 2 * i, **what) for i in range(number)]  # type: ignore[arg-type]


def test_a_critical_service_that_was_up_and_stays_down_is_a_reason_by_itself() -> None:
    """Three probes in a row, no request needed."""
    decision = judge(report(AT - 1, database=UP), *times(3, status=503, database=DOWN))
    assert decision.verdict is Verdict.REGRESSED
    assert decision.cause is Cause.HEALTH
    assert decision.reason == "service database was down in the last 3 probes; it was up before the deployment"
    assert decision.first_bad_at == AT + 1


def test_what_the_application_says_of_a_service_is_evidence_and_never_a_reason() -> None:
    """A reason is written into the messages of deployments; also where the verdict is only a doubt."""
    said = ServiceHealth("database", DOWN, "no login with tok-canary-1")
    looks = [HealthReport(AT + 1 + n, Reach.ANSWERED, 503, services=(said,)) for n in range(3)]
    for before, verdict in ((report(AT - 1, database=UP), Verdict.REGRESSED), (None, Verdict.INCONCLUSIVE)):
        decision = judge(before, *looks)
        assert decision.verdict is verdict
        assert "database" in decision.reason
        assert "tok-canary-1" not in decision.reason
        assert "service database was down in 3 of 3 probes (no login with tok-canary-1)" in [
            each.sentence for each in decision.evidence
        ]


def test_an_application_cannot_speak_in_the_name_of_the_endpoint() -> None:
    """A service called as we call the endpoint counts for nothing."""
    said = ServiceHealth(ENDPOINT, DOWN, "no login with tok-canary-1")
    looks = [HealthReport(AT + 1 + n, Reach.ANSWERED, 200, services=(said,)) for n in range(3)]
    decision = judge(report(AT - 1, database=UP), *looks)
    assert decision.verdict is not Verdict.REGRESSED
    assert "tok-canary-1" not in f"{decision}"


def test_two_probes_are_not_enough_and_a_good_one_starts_again() -> None:
    """N consecutive probes, counted from the last good one."""
    before = report(AT - 1, database=UP)
    two = times(2, status=503, database=DOWN)
    assert judge(before, *two).verdict is Verdict.INCONCLUSIVE
    assert judge(before, *two, report(AT + 6, database=UP), *two).verdict is Verdict.INCONCLUSIVE


def test_what_was_down_before_is_not_the_deployment() -> None:
    """A database that was down before is never a reason to roll back, and the decision says so."""
    decision = judge(report(AT - 1, status=503, database=DOWN), *times(9, status=503, database=DOWN))
    assert decision.verdict is Verdict.INCONCLUSIVE
    assert "not the deployment: service database was down before" in decision.reason


DATABASE_DOWN = report(AT - 1, status=503, database=DOWN)


def judge_requests(
    split: float, *looks: HealthReport, long_down: tuple[str, ...] = (), before: HealthReport = DATABASE_DOWN
) -> Decision:
    """Return the decision after thirty seconds in which most requests fail, with a database that was down before."""
    found = Detector(
        version="v2",
        old="v1",
        deployed_at=AT,
        split=split,
        baseline=[Counts("v1", int(AT) - 600 + second, 10, 0) for second in range(600)],
        policy=POLICY,
        health_before=before,
        long_down=long_down,
    )
    for second in range(30):
        rows = [Counts("v2", int(AT) + second, 10, 9)]
        found.add([*rows, Counts("v1", int(AT) + second, 10, 0)] if split < 1 else rows)
    for look in looks:
        found.add_health(look)
    return found.decide(AT + 30)


def test_requests_that_fail_while_a_service_is_down_that_was_down_before_are_not_the_deployment() -> None:
    """However few failed before, as where it went down a second before."""
    decision = judge_requests(1.0, *times(14, status=503, database=DOWN))
    assert (decision.verdict, decision.cause) == (Verdict.INCONCLUSIVE, Cause.OUTSIDE)
    assert decision.reason.startswith("not the deployment: service database was down before it already; 270 of 300")


def test_a_route_that_fails_since_a_service_is_down_that_was_down_before_is_not_the_deployment() -> None:
    """Each of its few requests: none of them failed before, as none came since the service is down."""

    def count(version: str, second: float, errors: int) -> Counts:
        routes = {"GET /": RouteCounts(10, 0), "PUT /files": RouteCounts(1, errors)}
        return Counts(version, int(second), 11, errors, routes=routes)

    def judge_files(*looks: HealthReport) -> Decision:
        found = Detector(
            version="v2",
            old="v1",
            deployed_at=AT,
            split=1.0,
            baseline=[count("v1", AT - 600 + second, 0) for second in range(600)],
            policy=POLICY,
            health_before=DATABASE_DOWN,
        )
        for second in range(30):
            found.add([count("v2", AT + second, 1)])
        for look in looks:
            found.add_health(look)
        return found.decide(AT + 30)

    held = judge_files(*times(14, status=503, database=DOWN))
    assert (held.verdict, held.cause) == (Verdict.INCONCLUSIVE, Cause.OUTSIDE)
    assert held.reason.startswith("not the deployment: service database was down before it already; PUT /files: ")
    over = judge_files(*times(8, status=503, database=DOWN), report(AT + 18, database=UP))
    assert (over.verdict, over.cause) == (Verdict.REGRESSED, Cause.ANSWERS)


@pytest.mark.parametrize("before", [(), [Counts("v1", int(AT) - 600 + second, 10, 0) for second in range(600)]])
@pytest.mark.parametrize("down", [True, False])
def test_without_a_baseline_a_service_that_is_down_leaves_a_version_that_fails_undecided(
    before: Sequence[Counts], *, down: bool
) -> None:
    """Nobody knows whether it was up before: then only what is compared with the version before is a reason."""
    found = Detector(version="v2", old="v1", deployed_at=AT, split=1.0, baseline=before, policy=POLICY)
    for second in range(30):
        found.add([Counts("v2", int(AT) + second, 10, 2)])
    for look in times(14, status=503, database=DOWN) if down else times(14, database=UP):
        found.add_health(look)
    decision = found.decide(AT + 30)
    assert decision.verdict is (Verdict.INCONCLUSIVE if down and not before else Verdict.REGRESSED)
    if down and not before:
        assert "service database is or was down, and may have been down before" in decision.reason


def test_an_outage_that_is_looked_at_seldom_excuses_until_a_look_shows_that_it_is_over() -> None:
    """A look takes as long as the application lets it, and the pace is the team's."""
    looks = [report(AT + at, status=503, database=DOWN) for at in (1, 13)]
    assert judge_requests(1.0, *looks).cause is Cause.OUTSIDE


def test_an_endpoint_that_was_down_by_itself_excuses_no_requests() -> None:
    """No visitor's request needs it; a broken one may be why there is a new version."""
    looks = times(14, status=503)
    assert judge_requests(1.0, *looks, before=report(AT - 1, status=503)).verdict is Verdict.REGRESSED


def test_requests_that_fail_since_a_service_is_up_again_count() -> None:
    """Not those of the first seconds, for its outage may still be what they fail for."""
    down = times(8, status=503, database=DOWN)
    just_now = judge_requests(1.0, *times(12, status=503, database=DOWN), report(AT + 29, database=UP))
    assert "down before it already, until just now" in just_now.reason
    assert judge_requests(1.0, *down, report(AT + 18, database=UP)).verdict is Verdict.REGRESSED


def test_an_outage_before_excuses_no_requests_that_can_be_compared() -> None:
    """Those of the old version beside it, or of a baseline throughout which the service was down, fail less."""
    down = times(14, status=503, database=DOWN)
    assert judge_requests(0.5, *down).verdict is Verdict.REGRESSED
    assert judge_requests(1.0, *down, long_down=("database",)).verdict is Verdict.REGRESSED


def test_what_recovered_and_fails_again_counts() -> None:
    """Down before, seen up after the deployment, then down: that is news."""
    before = report(AT - 1, status=503, database=DOWN)
    assert (
        judge(before, report(AT + 0.5, database=UP), *times(3, status=503, database=DOWN)).verdict is Verdict.REGRESSED
    )


def test_not_knowing_what_was_before_is_no_reason() -> None:
    """Without a look before, a service that was never up is suspicious, not proven."""
    decision = judge(None, *times(5, status=503, database=DOWN))
    assert decision.verdict is Verdict.INCONCLUSIVE
    assert "whether it was up before is not known" in decision.reason


@pytest.mark.parametrize("state", [DOWN, DEGRADED])
def test_a_degradable_service_never_is_a_reason(state: ServiceState) -> None:
    """Email down for ten probes, even when the endpoint says 503 because of it."""
    before = report(AT - 1, database=UP, email=UP)
    assert judge(before, *times(10, status=503, database=UP, email=state)).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    "bad",
    [
        {"status": 500},
        {"status": None, "reach": Reach.UNREACHABLE},
        {"status": None, "reach": Reach.TIMED_OUT},
        {"status": 502, "reach": Reach.UNREADABLE},
    ],
)
def test_an_endpoint_that_says_no_as_a_whole_counts_when_it_was_up(bad: dict[str, object]) -> None:
    """5xx, unreachable or silent, with nothing in the body that explains it."""
    assert judge(report(AT - 1), *times(3, **bad)).verdict is Verdict.REGRESSED
    assert judge(report(AT - 1, status=500), *times(3, **bad)).verdict is Verdict.INCONCLUSIVE


def test_an_unreadable_answer_is_unmeasured() -> None:
    """HTML with status 200 says nothing: not good, not bad."""
    decision = judge(report(AT - 1, database=UP), *times(9, status=200, reach=Reach.UNREADABLE))
    assert decision.verdict is Verdict.UNMEASURED
    assert "9 health answers could not be read" in decision.reason


def test_looks_at_another_version_and_from_before_are_not_about_this_one() -> None:
    """The old version's answer beside the new one does not count; an early look is a look before."""
    found = Detector(version="v2", old="v1", deployed_at=AT, split=0.5, baseline=(), policy=POLICY)
    found.add_health(report(AT - 3, database=UP))
    for look in times(5, status=503, database=DOWN):
        found.add_health(HealthReport(look.at, look.reach, look.status, services=look.services, version="v1"))
    assert found.decide(AT + 30).verdict is Verdict.UNMEASURED
    for look in times(3, status=503, database=DOWN):
        found.add_health(HealthReport(look.at, look.reach, look.status, services=look.services, version="v2"))
    assert found.decide(AT + 30).verdict is Verdict.REGRESSED


def asked(at: float, status: int | None = 200, reach: Reach = Reach.ANSWERED) -> HealthReport:
    """Return a look that somebody made: it took its time."""
    return HealthReport(at, reach, status, latency_ms=5.0)


ANSWERS_404 = asked(AT + 1, 404, Reach.UNREADABLE)
LOST = {
    "404": (asked(AT - 1), ANSWERS_404, "answers 404 now"),
    "404 that is a report": (asked(AT - 1), asked(AT + 1, 404), "answers 404 now"),
    "a redirect": (asked(AT - 1), asked(AT + 1, 302, Reach.UNREADABLE), "answers 302, a redirect, now"),
    "HTML": (asked(AT - 1), asked(AT + 1, 200, Reach.UNREADABLE), "200 with something that is no health report now"),
    "plain text before": (asked(AT - 1, 200, Reach.UNREADABLE), ANSWERS_404, "answered 200 before, and answers 404"),
}


@pytest.mark.parametrize(("before", "after", "words"), LOST.values(), ids=LOST)
def test_an_endpoint_that_answered_200_and_does_not_any_more_is_never_healthy(
    before: HealthReport, after: HealthReport, words: str
) -> None:
    """From its first answer on, with what it means; a good answer ends it, and so does a person's word."""
    decision = judge(before, after)
    (shift,) = decision.shifts
    assert (decision.verdict, decision.cause) == (Verdict.INCONCLUSIVE, Cause.ANSWERS)
    assert (shift.kind, shift.outcome, shift.name) == (ShiftKind.HEALTH, Outcome.HOLD, "endpoint:health")
    assert words in decision.reason
    assert "the state of its services is unknown" in decision.reason
    assert judge(before, after, asked(AT + 3)).shifts == ()
    found = Detector(
        version="v2", old="v1", deployed_at=AT, split=1.0, baseline=(), policy=POLICY, health_before=before
    )
    found.add_health(after)
    found.accept(shift.name)
    assert [each.outcome for each in found.decide(AT + 30).shifts] == [Outcome.TOLD]
    assert found.decide(AT + 30).cause is not Cause.ANSWERS


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, ANSWERS_404),
        (asked(AT - 1, 404, Reach.UNREADABLE), ANSWERS_404),
        (asked(AT - 1, 200, Reach.UNREADABLE), asked(AT + 1, 200, Reach.UNREADABLE)),
        (asked(AT - 1, 200, Reach.UNREADABLE), asked(AT + 1)),
        (
            HealthReport(AT - 1, Reach.ANSWERED, 200, findings=("inferred: 20 of 20 requests were answered",)),
            ANSWERS_404,
        ),
        (asked(AT - 1), asked(AT + 1, 503, Reach.UNREADABLE)),
    ],
)
def test_what_is_no_loss_of_the_endpoint(before: HealthReport | None, after: HealthReport) -> None:
    """Nobody saw it answer before, it never did better, it does better now, or it is down: that is said elsewhere."""
    assert judge(before, after).shifts == ()


def test_a_lost_endpoint_survives_a_checkpoint() -> None:
    """A watch that was interrupted holds for it as well."""
    found = Detector(
        version="v2", old="v1", deployed_at=AT, split=1.0, baseline=(), policy=POLICY, health_before=asked(AT - 1)
    )
    found.add_health(ANSWERS_404)
    anew = Detector(version="v2", old="v1", deployed_at=AT, split=1.0, baseline=(), policy=POLICY)
    anew.restore_looks(found.looks())
    assert anew.decide(AT + 30) == found.decide(AT + 30)


def judge_split(new: int, old: int, *looks: HealthReport) -> Decision:
    """Return the decision of a split in which so many of ten requests of each version fail in each of ten seconds."""
    found = Detector(
        version="v2",
        old="v1",
        deployed_at=AT,
        split=0.5,
        baseline=[Counts("v1", int(AT) - 60 + n, 10, 0) for n in range(60)],
        policy=POLICY,
        health_before=report(AT - 1, database=UP),
    )
    for second in range(1, 11):
        found.add([Counts("v2", int(AT) + second, 10, new), Counts("v1", int(AT) + second, 10, old)])
    for look in looks:
        found.add_health(look)
    return found.decide(AT + 30)


@pytest.mark.parametrize("reach", [Reach.ANSWERED, Reach.TIMED_OUT])
def test_an_endpoint_that_fails_as_both_versions_do_is_no_reason(reach: Reach) -> None:
    """A look at /health meets either version: what both do is nobody's fault, and a rollback would mend nothing."""
    status = 500 if reach is Reach.ANSWERED else None
    decision = judge_split(4, 4, *times(3, status=status, reach=reach))
    assert (decision.verdict, decision.cause) == (Verdict.INCONCLUSIVE, Cause.OUTSIDE)
    assert "the old version" in decision.reason


def test_an_endpoint_that_fails_where_the_old_version_is_better_is_one() -> None:
    """Also where the old one is not well, and a service that is named down is a reason whoever else fails."""
    assert judge_split(10, 0, *times(3, status=500)).verdict is Verdict.REGRESSED
    assert judge_split(10, 2, *times(3, status=500)).verdict is Verdict.REGRESSED
    named = judge_split(4, 4, *times(3, status=503, database=DOWN))
    assert (named.verdict, named.cause) == (Verdict.REGRESSED, Cause.HEALTH)
