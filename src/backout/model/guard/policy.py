"""A team's decisions in advance: success criteria, criticality of services, what guard may do."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import field

from backout.model.guard.signals import Criticality
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping


class Criteria(Value, frozen=True):
    """The runbook's success criteria as data.

    Args:
        error_rate_below: in [0,1].
        error_rate_for_s, watch_s: maxima; a criterion passes as soon as the evidence excludes its limit.
        latency_p99_at_most: ratio to the baseline's p99.
        latency_never_above_s: a p99 above it fails whatever was usual, and without a baseline.
        old_version_quiet_s: the version left must have answered nothing for this long.
    """

    error_rate_below: float = 0.01
    error_rate_for_s: float = 300.0
    watch_s: float = 900.0
    latency_p99_at_most: float = 1.25
    latency_never_above_s: float = 10.0
    old_version_quiet_s: float = 60.0


class Mode(StrEnum):
    """What guard does on the verdict "regressed"."""

    OBSERVE = "observe"  # say what it would do
    ASK = "ask"  # ask on the terminal; without one: exit 3
    ACT = "act"  # roll back


class OnInconclusive(StrEnum):
    """What guard does when the watch ends without a verdict."""

    HOLD = "hold"
    ROLLBACK = "rollback"
    ACCEPT = "accept"


class OnUnmeasured(StrEnum):
    """What guard does when nothing could be measured; never a rollback, since unmeasured is not bad."""

    HOLD = "hold"
    ACCEPT = "accept"


class OnSharedOutage(StrEnum):
    """What guard does when the deployment is not the cause; never a rollback, which would change nothing."""

    HOLD = "hold"
    ACCEPT = "accept"


class OnSecretChange(StrEnum):
    """What a rollback does when a secret changed since the target was live."""

    HOLD = "hold"
    CARRY = "carry"


class Expectation(Value, frozen=True):
    """An intended change of answers.

    Args:
        method, path: of the request; a path that ends in `/*` covers everything below it.
        statuses: the allowed answers from now on.
    """

    method: str
    path: str
    statuses: tuple[int, ...]

    def covers(self, method: str, path: str) -> bool:
        """Whether it applies to such a request.

        >>> Expectation("GET", "/old/*", (410,)).covers("GET", "/old/a?b=c")
        True
        """
        plain = path.partition("?")[0]
        below = self.path.endswith("/*") and plain.startswith(self.path[:-1])
        return method == self.method and (below or plain == self.path)


WITH_CREDENTIALS = " with credentials"
"""What stands in the name of a check that sends some."""


class SyntheticCheck(Value, frozen=True):
    """A request that guard sends itself, and the expected answer.

    Args:
        method: GET or HEAD.
        path: on the host of the health endpoint.
        statuses: () for any below 500.
        word: in its body.
        headers: {name: value}, a value of "" for any.
        json: {dotted path of a field: its value}.
        redirect: what the header Location must be.
        origin: which must be allowed (CORS).
        preflight: the method of a request for which a page of that origin asks permission first; the permission alone
            is asked for then. "" for none.
        credentials: names of the headers that carry credentials; only the sender knows their values.
    """

    path: str
    method: str = "GET"
    statuses: tuple[int, ...] = ()
    word: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    redirect: str = ""
    origin: str = ""
    preflight: str = ""
    credentials: tuple[str, ...] = ()

    @property
    def sent(self) -> str:
        """The method that is sent."""
        return "OPTIONS" if self.preflight else self.method

    @property
    def name(self) -> str:
        """What it is called in words, and remembered by; a path alone for a plain GET."""
        asked = self.path if self.sent == "GET" else f"{self.sent} {self.path}"
        known = WITH_CREDENTIALS if self.credentials else ""
        to_send = f" for {self.preflight}" if self.preflight else ""
        return f"{asked}{to_send}{known}" + (f" from {self.origin}" if self.origin else "")


class GuardPolicy(Value, frozen=True):
    """What guard may do, and how sure it must be.

    Args:
        alpha: probability of ever rolling back a healthy deployment in one watch.
        false_alarms_per_year: how often a change may be told after a watch while all is as usual.
        baseline_s: how far back the baseline reaches.
        probe_every_s: health probes.
        down_probes: consecutive probes in which a critical service that was up before is down.
        min_bad: fewest bad requests that may carry a rollback.
        confirm_s: how long evidence must hold.
        warm_up_s: so long latency is not judged, and errors only against warm_up_errors, a share; a warm-up as long as
            the watch leaves latency out and judges errors as ever.
        at_most_every_s: one automatic rollback in it.
        on_inconclusive, on_unmeasured, on_shared_outage: what a watch without a verdict leads to. A shared outage is
            trouble of both versions alike, or of something that was down before the deployment.
        prove: paths that a target must answer, beside health, before it gets traffic.
        synthetic: paths that guard asks itself while it watches, in turn, one every synthetic_every_s; () for none.
        checks: requests that it sends itself as well, whose answers are compared with what is expected of them.
        ramp: percentages that a gradual deployment is moved up through, () to leave it where it is.
        minimum_version: the number of the oldest version that may be returned to, 0 for any.
        slow_start_s: a start that is slow for so long is forgiven, and so are two slow spells, each of a third of it;
            0 to judge latency from the first second on.
        expect: changes of answers that are intended.
        vital: ("METHOD /path", ...) that matter most.
        holdback: percentage that the old version keeps for the first minutes of a cut-over, 0 for none.
        sticky: a visitor stays on one version of a split, so what one version answers more often may be its visitors.
    """

    mode: Mode = Mode.OBSERVE
    alpha: float = 1e-3
    false_alarms_per_year: float = 1.0
    baseline_s: float = 3600.0
    probe_every_s: float = 2.0
    down_probes: int = 3
    min_bad: int = 3
    confirm_s: float = 0.0
    warm_up_s: float = 0.0
    warm_up_errors: float = 0.1
    on_inconclusive: OnInconclusive = OnInconclusive.HOLD
    on_unmeasured: OnUnmeasured = OnUnmeasured.HOLD
    on_shared_outage: OnSharedOutage = OnSharedOutage.HOLD
    on_secret_change: OnSecretChange = OnSecretChange.HOLD
    at_most_every_s: float = 6 * 3600.0
    accept_unproven: bool = False
    prove: tuple[str, ...] = ()
    synthetic: tuple[str, ...] = ()
    synthetic_every_s: float = 1.0
    checks: tuple[SyntheticCheck, ...] = ()
    ramp: tuple[float, ...] = ()
    minimum_version: int = 0
    slow_start_s: float = 60.0
    expect: tuple[Expectation, ...] = ()
    vital: tuple[str, ...] = ()
    holdback: float = 0.0
    sticky: bool = False

    @property
    def asked(self) -> tuple[SyntheticCheck, ...]:
        """Return every request that guard sends itself: the paths that are only named, then the checks."""
        return (*(SyntheticCheck(path) for path in self.synthetic), *self.checks)


class Policy(Value, frozen=True):
    """Everything decided in advance for one environment."""

    criteria: Criteria = field(default_factory=Criteria)
    guard: GuardPolicy = field(default_factory=GuardPolicy)
    services: Mapping[str, Criticality] = field(default_factory=dict)

    def is_critical(self, service: str) -> bool:
        """Whether the service's failure is an outage; services without a class are critical."""
        return self.services.get(service, Criticality.CRITICAL) is Criticality.CRITICAL
