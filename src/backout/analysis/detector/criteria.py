"""The runbook's seven success criteria as evidence over time, and an eighth: no requests reach the replaced version.

A criterion that could not be measured never blocks and never passes: it stays visible as such, and "verified" needs the
health check or the error rate to have passed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.detector.probes import Probes
from backout.analysis.detector.settled import Claim, Settled
from backout.analysis.detector.wording import count, format_percent
from backout.model.guard.signals import Reach, ServiceState
from backout.model.guard.verdict import CriterionResult, CriterionState, Verification

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from backout.model.guard.policy import Criteria, Policy
    from backout.model.guard.signals import Counts, HealthReport, ServiceHealth

HEALTH = "health check returns 200"
SERVICES = "all services ok"
LATENCY = "response time normal"
DATABASE = "no database connection errors"
STORAGE = "storage accessible"
EMAIL = "email operational or degraded"
LEFT = "no requests reach the replaced version"
_HEALTH_ONES = (HEALTH, SERVICES, DATABASE, STORAGE, EMAIL)

IN_A_ROW = 2
"""A look at the health endpoint counts when the one before it said the same."""

_SERVICE_WORDS = {
    DATABASE: ("database", "db", "postgres", "postgresql", "sql", "mysql", "hyperdrive"),
    STORAGE: ("storage", "r2", "s3", "bucket", "objects", "blob"),
    EMAIL: ("email", "mail", "smtp"),
}


def name_error_rate(criteria: Criteria) -> str:
    """Return the name of the error-rate criterion, with its limit."""
    return f"error rate below {format_percent(criteria.error_rate_below)}"


class CriteriaEngine:
    """Collects counts and health reports after a switch and decides which criteria are met.

    Args:
        started_at: Unix seconds of the switch.
        live_version: must be well.
        left_version: must be silent, None: nothing was left.
        baseline: the live version's counts from before.
        has_health, has_traffic: what is set up.
        fails_early: a failure that is certain counts at once, instead of at the end of the watch: a robot's
            rollback is not given time to recover by itself.
    """

    def __init__(  # noqa: PLR0913 one noun per thing that a verification rests on, by keyword
        self,
        criteria: Criteria,
        policy: Policy,
        *,
        started_at: float,
        live_version: str,
        left_version: str | None,
        baseline: Sequence[Counts] = (),
        has_health: bool = True,
        has_traffic: bool = True,
        fails_early: bool = False,
    ) -> None:
        self._criteria = criteria
        self._policy = policy
        self._started_at = started_at
        self._live = live_version
        self._left = left_version
        self._has_health, self._has_traffic = has_health, has_traffic
        self._fails_early = fails_early
        self._probes = Probes(policy.services, policy.guard.down_probes)
        self._settled = Settled(criteria, live_version, left_version, baseline)
        self._streaks: dict[str, int] = dict.fromkeys(_HEALTH_ONES, 0)
        self._said: dict[str, str] = {}
        self._unknown: set[str] = set()
        self._looks = self._measured = 0
        self._passed_at: dict[str, float] = {}

    def add(self, counts: Iterable[Counts]) -> None:
        """Take rows of final seconds; rows from before the switch are passed over."""
        self._settled.add(row for row in counts if row.second >= int(self._started_at))

    def add_health(self, report: HealthReport) -> None:
        """Take one look at the health endpoint."""
        if report.at < self._started_at or report.version not in (None, self._live):
            return
        self._looks += 1
        self._probes.add(report)
        if not report.measured and not report.is_down:
            return
        self._measured += 1
        self._tell(HEALTH, *_returns_200(report))
        if report.measured:
            self._add_services(report)

    def _add_services(self, report: HealthReport) -> None:
        if report.services:
            self._unknown.discard(SERVICES)
            troubles = [s for s in report.services if s.state is not ServiceState.OK]
            blocking = [s for s in troubles if self._policy.is_critical(s.name)]
            words = ", ".join(_describe_service(service) for service in blocking or troubles)
            allowed = f"all critical services ok ({words}: degradable)" if troubles else "all services ok"
            self._tell(SERVICES, not blocking, words if blocking else allowed)
        else:
            self._unknown.add(SERVICES)
        for name, words_for in _SERVICE_WORDS.items():
            service = _find(report.services, words_for)
            if service is None or service.state is ServiceState.UNKNOWN:
                self._unknown.add(name)
                continue
            self._unknown.discard(name)
            self._tell(name, *self._serves(name, service))

    def _serves(self, name: str, service: ServiceHealth) -> tuple[bool, str]:
        if service.state is ServiceState.OK:
            return True, f"{service.name} ok"
        if service.state is ServiceState.DEGRADED and name == EMAIL:
            return True, f"{_describe_service(service)}: non-critical, proceed with caution"
        if not self._policy.is_critical(service.name):
            return True, f"{_describe_service(service)}: the policy calls it degradable"
        return False, _describe_service(service)

    def _tell(self, name: str, good: bool, words: str) -> None:
        streak = self._streaks[name]
        self._streaks[name] = max(streak, 0) + 1 if good else min(streak, 0) - 1
        self._said[name] = words

    def results(self, now: float) -> tuple[CriterionResult, ...]:
        """Return the eight criteria as of `now` (Unix seconds), in the runbook's order."""
        final = now >= self._started_at + self._criteria.watch_s
        claims: list[tuple[str, Claim]] = [
            (HEALTH, self._health_claim(HEALTH, final=final)),
            (SERVICES, self._health_claim(SERVICES, final=final)),
            (name_error_rate(self._criteria), self._errors_claim(final=final)),
            (LATENCY, self._traffic_claim(self._settled.latency, final=final)),
            (DATABASE, self._health_claim(DATABASE, final=final)),
            (STORAGE, self._health_claim(STORAGE, final=final)),
            (EMAIL, self._health_claim(EMAIL, final=final)),
            (LEFT, self._left_claim(final=final)),
        ]
        return tuple(self._result(name, state, evidence, now) for name, (state, evidence) in claims)

    def _result(self, name: str, state: CriterionState, evidence: str, now: float) -> CriterionResult:
        if state is CriterionState.PASSED:
            self._passed_at.setdefault(name, now)
        else:
            self._passed_at.pop(name, None)
        return CriterionResult(name, state, evidence, self._passed_at.get(name))

    def _traffic_claim(self, ask: Callable[..., Claim], *, final: bool) -> Claim:
        if not self._has_traffic:
            return CriterionState.NOT_SET_UP, "no source of request counts"
        return ask(final=final)

    def _errors_claim(self, *, final: bool) -> Claim:
        state, words = self._traffic_claim(self._settled.errors, final=final)
        if self._fails_early and state is CriterionState.WAITING:
            certain = self._settled.hopeless(self._policy.guard.alpha, self._policy.guard.min_bad)
            if certain is not None:
                return CriterionState.FAILED, certain
        return state, words

    def _left_claim(self, *, final: bool) -> Claim:
        if self._left is None:
            return CriterionState.NOT_SET_UP, "no version was left"
        return self._traffic_claim(self._settled.left, final=final)

    def _health_claim(self, name: str, *, final: bool) -> Claim:
        if not self._has_health:
            return CriterionState.NOT_SET_UP, "no health endpoint"
        streak = self._streaks[name]
        if name in self._unknown and not streak:
            return CriterionState.NOT_SET_UP, "the health report does not mention it"
        if not streak:
            words = f"{count(self._looks, 'answer')} could not be read" if self._looks else "no answer yet"
            return (CriterionState.UNMEASURED if final else CriterionState.WAITING), words
        words = f"{self._said[name]}, {count(abs(streak), 'look')} in a row"
        if streak >= IN_A_ROW or (final and streak > 0):
            return CriterionState.PASSED, words
        certain = self._fails_early and -streak >= self._policy.guard.down_probes and bool(self._probes.list_down())
        return (CriterionState.FAILED if final or certain else CriterionState.WAITING), words

    def verification(self, now: float) -> Verification:
        """Return the overall result: True only with proof, False when a criterion failed, None when undecided."""
        results = self.results(now)
        states = {result.name: result.state for result in results}
        verified: bool | None = None
        if CriterionState.FAILED in states.values():
            verified = False
        elif CriterionState.WAITING not in states.values():
            proof = (states[HEALTH], states[name_error_rate(self._criteria)])
            verified = True if CriterionState.PASSED in proof else None
        summary = _summarize(verified, results)
        return Verification(verified, results, self._started_at, now, summary, self._probes.list_down())


def _summarize(verified: bool | None, results: tuple[CriterionResult, ...]) -> str:
    def name_criteria(*states: CriterionState) -> str:
        return ", ".join(result.name for result in results if result.state in states)

    passed = sum(result.state is CriterionState.PASSED for result in results)
    if verified is False:
        return f"not met: {name_criteria(CriterionState.FAILED)}"
    waiting = name_criteria(CriterionState.WAITING)
    if waiting:
        return f"not decided yet: {waiting}"
    unmeasured, absent = name_criteria(CriterionState.UNMEASURED), name_criteria(CriterionState.NOT_SET_UP)
    rest = (f"; not measured: {unmeasured}" if unmeasured else "") + (f"; not set up: {absent}" if absent else "")
    if verified is None:
        return f"nothing that proves health could be measured{rest}"
    there = sum(result.state is not CriterionState.NOT_SET_UP for result in results)
    return f"{passed} of {there} criteria passed{rest}"


def _returns_200(report: HealthReport) -> tuple[bool, str]:
    if report.reach is Reach.UNREACHABLE:
        return False, "unreachable"
    if report.reach is Reach.TIMED_OUT:
        return False, "no answer in time"
    return report.measured and report.status == 200, f"status {report.status}"


def _describe_service(service: ServiceHealth) -> str:
    detail = f" ({service.detail})" if service.detail else ""
    return f"{service.name} {service.state}{detail}"


def _find(services: tuple[ServiceHealth, ...], words: tuple[str, ...]) -> ServiceHealth | None:
    """Return the service with one of these names, else the first whose name contains one of the longer words."""
    for service in services:
        if service.name.lower() in words:
            return service
    long_words = [word for word in words if len(word) > 2]
    return next((s for s in services if any(word in s.name.lower() for word in long_words)), None)
