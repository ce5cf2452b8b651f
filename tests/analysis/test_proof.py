"""What an answer of a target says, beside the current version's: every case of the table."""

from __future__ import annotations

import pytest
from values import replace

from backout.analysis.history.proof import Said, is_clear, is_total_outage, judge
from backout.model.guard.policy import Policy
from backout.model.guard.signals import Counts, Criticality, HealthReport, Reach, ServiceState
from backout.providers.memory import make_health

POLICY = Policy(services={"database": Criticality.CRITICAL, "email": Criticality.DEGRADABLE})
OK, DOWN = ServiceState.OK, ServiceState.DOWN


def report(version: str | None, **services: ServiceState) -> HealthReport:
    """Return an answer that names a version, with these services, all others well."""
    return make_health(0.0, {"database": OK, "email": OK, **services}, version=version)


BROKEN = HealthReport(0.0, Reach.UNREADABLE, 500)
SILENT = HealthReport(0.0, Reach.TIMED_OUT)
VAGUE = HealthReport(0.0, Reach.ANSWERED, 503, DOWN)


def named(answer: HealthReport, version: str) -> HealthReport:
    return replace(answer, version=version)


@pytest.mark.parametrize(
    ("answer", "current", "said"),
    [
        (report("target"), report("old"), Said.GOOD),
        (report("old"), report("old"), Said.ELSEWHERE),
        (report("target", database=DOWN), report("old"), Said.BAD),
        (report("target", database=DOWN), report("old", database=DOWN), Said.GOOD),
        (report("target", unheard_of=DOWN), report("old"), Said.BAD),
        (named(VAGUE, "target"), report("old"), Said.BAD),
        (named(VAGUE, "target"), named(VAGUE, "old"), Said.ALIKE),
        (report(None), report("old"), Said.GOOD),
        (report(None), report(None), Said.HIDDEN),
        (report("v1.2.3"), report("v1.2.2"), Said.HIDDEN),
        (report(None, database=DOWN), report(None), Said.BAD),
        (report(None, database=DOWN), report(None, database=DOWN), Said.HIDDEN),
        (BROKEN, report("old"), Said.BAD),
        (BROKEN, report(None), Said.BAD),
        (BROKEN, BROKEN, Said.HIDDEN),
        (SILENT, report("old"), Said.BAD),
        (SILENT, SILENT, Said.HIDDEN),
        (SILENT, None, Said.HIDDEN),
    ],
)
def test_one_answer(answer: HealthReport, current: HealthReport | None, said: Said) -> None:
    """Beside a current version that serves alone."""
    assert judge(answer, "target", {"old"}, current, POLICY).said is said


def test_in_a_split_an_answer_without_a_name_may_be_anybodys() -> None:
    """The version that was compared with names itself, and another one may not."""
    assert judge(report(None), "target", {"old", "other"}, report("old"), POLICY).said is Said.HIDDEN


def test_an_answer_that_names_a_third_version_is_not_the_targets() -> None:
    """A cache, or a place that is behind by two deployments, answered; the application does name its versions."""
    assert judge(report("older"), "target", {"old"}, report("old"), POLICY).said is Said.ELSEWHERE
    assert judge(report("1.4.2"), "target", {"old"}, report("1.4.3"), POLICY).said is Said.HIDDEN


def test_a_degradable_service_is_no_trouble() -> None:
    """An answer that says 200 with email down is clear; with a critical one down, or without its name, it is not."""
    email = replace(report("target", email=DOWN), status=200, overall=ServiceState.DEGRADED)
    assert is_clear(email, "target", POLICY)
    assert not is_clear(report("target", database=DOWN), "target", POLICY)
    assert not is_clear(report(None), "target", POLICY)


def test_total_outage_needs_enough_answers_and_nearly_all_of_them_errors() -> None:
    """Nine are too few to say; 94 of 100 are not nearly all."""

    def rows(requests: int, errors: int) -> list[Counts]:
        return [Counts("old", 1, requests, errors)]

    assert is_total_outage(rows(9, 9)) is None
    assert is_total_outage(rows(3, 2)) is False, "a good answer among few: whatever it is, it is no total outage"
    assert is_total_outage([]) is None
    assert is_total_outage(rows(100, 94)) is False
    assert is_total_outage(rows(100, 95)) is True
