"""Probes as evidence: a critical service that was up before and is down now is reason enough for a verdict.

A service that was down before is "not the deployment"; a degradable one never is a reason; an unreadable answer says
nothing of services, but where the endpoint answered 200 before, that it does so no more is a shift by itself.

The application's own words about a service appear only in the evidence, never in a reason: reasons are written into
the messages of deployments, which are public to the team and cannot be taken back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NotRequired, TypedDict

from backout.model.guard.shift import Outcome, Shift, ShiftKind
from backout.model.guard.signals import Criticality, Reach, ServiceState
from backout.model.guard.verdict import StreamEvidence

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from backout.model.guard.signals import HealthReport

ENDPOINT = "health endpoint"
_CERTAIN = 20.0
"""Log evidence shown for a service that is down: not a probability, only "beyond the threshold"."""
_AFTERMATH_S = 10.0
"""For so long after the last look at which a service was down its outage is what requests fail for.

Failures that go on after that count, and those that are over are a blip, see failing_spell.py.
"""


class ProbesState(TypedDict):
    """Checkpoint of a `Probes`."""

    before: dict[str, bool]
    down: dict[str, int]
    seen: dict[str, int]
    failed: dict[str, int]
    details: dict[str, str]
    measured: int
    unreadable: int
    first_bad_at: float | None
    down_at: NotRequired[dict[str, float]]
    doubted_at: NotRequired[dict[str, float]]
    usual: NotRequired[str]
    lost: NotRequired[int]
    lost_as: NotRequired[str]


class Probes:
    """Consecutive probes per service and of the endpoint as a whole.

    Args:
        services: criticality by name; services without one are critical.
        needed: consecutive bad probes.
    """

    def __init__(self, services: Mapping[str, Criticality], needed: int) -> None:
        self._services = services
        self._needed = needed
        self._up_before: dict[str, bool] = {}
        self._down_at: dict[str, float] = {}  # of what is critical and was down before, the last look that shows it so
        self._doubted_at: dict[str, float] = {}  # the same of what nobody knows to have been up or down before
        self._long_down: frozenset[str] = frozenset()
        self._down: dict[str, int] = {}
        self._seen: dict[str, int] = {}
        self._failed: dict[str, int] = {}
        self._details: dict[str, str] = {}
        self.measured = 0
        self.unreadable = 0
        self.first_bad_at: float | None = None
        self._usual = ""  # what the endpoint answered as a rule: _REPORT, or _OK with something else in it
        self._lost = 0  # answers in a row that are another kind than that
        self._lost_as = ""

    def is_critical(self, service: str) -> bool:
        """Whether a service's failure is an outage."""
        return self._services.get(service, Criticality.CRITICAL) is Criticality.CRITICAL

    def add_before(self, report: HealthReport, long_down: Collection[str] = ()) -> None:
        """Take a look made before the deployment; a later one replaces an earlier one.

        Args:
            long_down: what was down throughout the baseline, whose requests failed for it already.
        """
        self._long_down |= frozenset(long_down)
        self._usual = _classify_report(report) or self._usual
        if not report.measured and not report.is_down:
            return
        self._up_before = {s.name: up for s in report.services if (up := _is_up(s.state)) is not None}
        self._up_before[ENDPOINT] = not report.is_down

    def add_usual(self, report: HealthReport) -> None:
        """Take how the endpoint of the version before answered, however long ago: that is a matter of its code."""
        self._usual = self._usual or _classify_report(report)

    def add(self, report: HealthReport) -> None:
        """Take one probe made after the deployment."""
        self._compare(report)
        if report.reach is Reach.UNREADABLE and not report.is_down:
            self.unreadable += 1
            return
        self.measured += 1
        for service in report.services:
            if service.name == ENDPOINT:  # a name of ours, which no application may take
                continue
            self._count(service.name, _is_up(service.state), service.detail, report.at)
        self._count(ENDPOINT, self._endpoint_up(report), _describe_endpoint(report), report.at)

    def _compare(self, report: HealthReport) -> None:
        """Take note whether the endpoint answers as it did; down is another matter, see `find_regression`."""
        kind = _classify_report(report)
        if report.is_down:
            return
        if kind == _REPORT or not self._usual or (kind == self._usual):
            self._usual, self._lost = kind or self._usual, 0
            return
        self._lost += 1
        self._lost_as = _describe_answer(report)

    def health_lost(self) -> Shift | None:
        """Return the shift of an endpoint that answered 200 before and does not any more, as of the newest look."""
        if not self._lost:
            return None
        before = "200 with a health report" if self._usual == _REPORT else "200"
        sentence = (
            f"the health endpoint answered {before} before, and answers {self._lost_as} now: the state of its "
            "services is unknown"
        )
        return Shift(ShiftKind.HEALTH, "endpoint", None, Outcome.HOLD, self._lost, self._lost, 0, 0, _CERTAIN, sentence)

    def has_failed(self, report: HealthReport) -> bool | None:
        """Return whether a look shows a failure of what was up before; None when it says nothing of that."""
        if report.reach is Reach.UNREADABLE and not report.is_down:
            return None
        down = [s.name for s in report.services if s.state is ServiceState.DOWN and self.is_critical(s.name)]
        up = self._endpoint_up(report)
        broken = [*down, *(() if up is not False else (ENDPOINT,))]
        if any(self._up_before.get(name, False) for name in broken):
            return True
        return None if broken or up is None else False

    def _endpoint_up(self, report: HealthReport) -> bool | None:
        """Whether the endpoint as a whole is up; None when services that excuse the deployment explain its "no"."""
        if not report.is_down:
            return True
        down = [service.name for service in report.services if service.state is not ServiceState.OK]
        excused = [name for name in down if not self.is_critical(name) or self._up_before.get(name) is False]
        return None if down and len(excused) == len(down) else False

    def _count(self, name: str, up: bool | None, detail: str, at: float) -> None:
        if up is None:
            return
        self._seen[name] = self._seen.get(name, 0) + 1
        if up:
            self._down[name] = 0
            self._up_before[name] = True  # seen up in this watch: a later failure is news
            return
        self._down[name] = self._down.get(name, 0) + 1
        self._failed[name] = self._failed.get(name, 0) + 1
        self._details[name] = detail
        if name != ENDPOINT and self.is_critical(name) and not self._up_before.get(name, False):
            (self._down_at if name in self._up_before else self._doubted_at)[name] = at
        if self._up_before.get(name, False) and (name == ENDPOINT or self.is_critical(name)):
            self.first_bad_at = at if self.first_bad_at is None else self.first_bad_at

    def find_regression(self, *, endpoint: bool = True) -> str | None:
        """Return why the probes alone call for a rollback, one sentence, or None; services come before the endpoint.

        Args:
            endpoint: whether an endpoint that fails without naming a service is a reason, too.
        """
        names = sorted(
            self._down.keys() - set(() if endpoint else (ENDPOINT,)), key=lambda name: (name == ENDPOINT, name)
        )
        for name in names:
            if self._down[name] >= self._needed and self._up_before.get(name, False) and self._may_act(name):
                return f"{self._describe_down(name)}; it was up before the deployment"
        return None

    def list_down(self) -> tuple[str, ...]:
        """Return the critical services, and the endpoint, that were down in the last `needed` probes."""
        return tuple(name for name in sorted(self._down) if self._down[name] >= self._needed and self._may_act(name))

    def _may_act(self, name: str) -> bool:
        return name == ENDPOINT or self.is_critical(name)

    def _describe_down(self, name: str) -> str:
        own = f" ({self._details[name]})" if name == ENDPOINT and self._details.get(name) else ""
        return f"{_describe_name(name)} was down in the last {self._down[name]} probes{own}"

    def not_the_deployment(self) -> str | None:
        """Return which critical services are down without this deployment being the cause, one sentence, or None."""
        for name in sorted(self._down):
            if self._down[name] and self._may_act(name) and self._up_before.get(name) is False:
                return f"not the deployment: {_describe_name(name)} was down before it already"
        return None

    def excuse_requests(self, now: float) -> str | None:
        """Return which critical service requests may fail for, that was down before the deployment, or None.

        One that was down throughout the baseline is none: what fails for it failed there as well. Neither is the
        endpoint: that no visitor's request needs.
        """
        for name, at in sorted(self._down_at.items()):
            if name not in self._long_down and (self._down[name] or now - at < _AFTERMATH_S):
                since = "" if self._down[name] else ", until just now"
                return f"not the deployment: {_describe_name(name)} was down before it already{since}"
        return None

    def doubt_requests(self, now: float) -> str | None:
        """Return which critical service requests may fail for that is not known to have been up before, or None.

        That tells nothing of a version which fails more than the one before it; but where nothing is compared, requests
        fail for that service with every version.
        """
        for name, at in sorted((self._doubted_at | self._down_at).items()):
            if self._down[name] or now - at < _AFTERMATH_S:
                before = "was down before as well" if name in self._down_at else "may have been down before"
                return f"{_describe_name(name)} is or was down, and {before}"
        return None

    def doubtful(self) -> str | None:
        """Return what keeps the probes from saying "all is well", one sentence, or None."""
        for name in sorted(self._down):
            if self._down[name] and self._may_act(name):
                known = "" if name in self._up_before else "; whether it was up before is not known"
                return f"{self._describe_down(name)}{known}"
        return None

    def evidence(self) -> tuple[StreamEvidence, ...]:
        """Return one line of evidence per service and for the endpoint."""
        return tuple(self._line(name) for name in sorted(self._seen))

    def _line(self, name: str) -> StreamEvidence:
        bad, total, detail = self._failed.get(name, 0), self._seen[name], self._details.get(name, "")
        acts = self._down.get(name, 0) >= self._needed and self._up_before.get(name, False) and self._may_act(name)
        before = {True: "up before", False: "down before"}.get(self._up_before.get(name, None), "unknown before")  # type: ignore[arg-type]
        return StreamEvidence(
            stream="health" if name == ENDPOINT else f"health: {name}",
            bad=bad,
            total=total,
            expected=0.0 if self._up_before.get(name, False) else None,
            expected_from=f"the probes; {before}",
            log_evidence=_CERTAIN if acts else 0.0,
            sentence=f"{_describe_name(name)} was down in {bad} of {total} probes"
            + (f" ({detail})" if bad and detail else ""),
        )

    def state(self) -> ProbesState:
        """Return a checkpoint, plain JSON."""
        return {
            "before": dict(self._up_before),
            "down": dict(self._down),
            "seen": dict(self._seen),
            "failed": dict(self._failed),
            "details": dict(self._details),
            "measured": self.measured,
            "unreadable": self.unreadable,
            "first_bad_at": self.first_bad_at,
            "down_at": dict(self._down_at),
            "doubted_at": dict(self._doubted_at),
            "usual": self._usual,
            "lost": self._lost,
            "lost_as": self._lost_as,
        }

    def restore(self, state: ProbesState) -> None:
        """Go on from a checkpoint."""
        self._up_before, self._down = dict(state["before"]), dict(state["down"])
        self._seen, self._failed, self._details = dict(state["seen"]), dict(state["failed"]), dict(state["details"])
        self.measured, self.unreadable = state["measured"], state["unreadable"]
        self.first_bad_at = state["first_bad_at"]
        self._down_at = dict(state.get("down_at", {}))  # the version before wrote none of these
        self._doubted_at = dict(state.get("doubted_at", {}))
        self._usual = state.get("usual", self._usual)
        self._lost, self._lost_as = state.get("lost", 0), state.get("lost_as", "")


_REPORT, _OK = "report", "200"


def _classify_report(report: HealthReport) -> str:
    """Return what kind of answer it is: a health report, 200 with something else, or "" for anything else."""
    if report.latency_ms is None:  # not asked: it was inferred from requests
        return ""
    if report.measured and not report.is_down:
        return _REPORT if report.status is not None and report.status < 300 else ""
    return _OK if report.reach is Reach.UNREADABLE and report.status == 200 else ""


def _describe_answer(report: HealthReport) -> str:
    """Return what an answer is that is no health report; never the application's own text."""
    status = report.status
    if status is None:
        return "something that cannot be read"
    if 300 <= status < 400:
        return f"{status}, a redirect,"
    return f"{status} with something that is no health report" if status < 300 else str(status)


def _is_up(state: ServiceState) -> bool | None:
    if state is ServiceState.UNKNOWN:
        return None
    return state is not ServiceState.DOWN


def _describe_endpoint(report: HealthReport) -> str:
    if report.reach is Reach.UNREACHABLE:
        return "unreachable"
    if report.reach is Reach.TIMED_OUT:
        return "no answer in time"
    return f"status {report.status}"


def _describe_name(name: str) -> str:
    return "the health endpoint" if name == ENDPOINT else f"service {name}"
