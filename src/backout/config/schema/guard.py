"""What guard may do by itself, how sure it must be, and the criteria of a rollback."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from backout.config.scalars import AtMost, Duration
from backout.config.schema.types import (
    Asked,
    Count,
    Origin,
    Percent,
    Positive,
    Ratio,
    Route,
    Section,
    Share,
    Status,
    Text,
)
from backout.model.guard.policy import (
    Expectation,
    Mode,
    OnInconclusive,
    OnSecretChange,
    OnSharedOutage,
    OnUnmeasured,
    SyntheticCheck,
)

_ALPHA_RANGE = (1e-6, 0.05)


class ErrorRate(Section, frozen=True):
    """The success criterion on errors."""

    below: Share = 0.01
    within: Duration = msgspec.field(default=Duration(300), name="for")


class Latency(Section, frozen=True):
    """The success criterion on latency, as a ratio to the baseline; a p99 above `never_above` fails without one."""

    p99_at_most: Ratio = 1.25
    never_above: Duration = Duration(10)


class CriteriaSection(Section, frozen=True):
    """The runbook's success criteria."""

    error_rate: ErrorRate = ErrorRate()
    watch: Duration = Duration(900)
    latency: Latency = Latency()
    old_version_quiet: Duration = Duration(60)


class Check(Section, frozen=True):
    """A request that guard sends itself, and what its answer must be; `headers_env` names variables of credentials."""

    path: Route
    method: Literal["GET", "HEAD"] = "GET"
    status: tuple[Status, ...] = ()
    word: str = ""
    header: dict[str, str] = {}
    json: dict[str, object] = {}
    redirect: str = ""
    origin: Origin | None = None
    preflight: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] | None = None
    headers_env: dict[str, Text] = {}

    def as_model(self) -> SyntheticCheck:
        """Return it as the model's noun; the credentials stay where they are."""
        return SyntheticCheck(
            path=self.path,
            method=self.method,
            statuses=self.status,
            word=self.word,
            headers=dict(self.header),
            json={path: value for path, value in self.json.items() if isinstance(value, str | int | float)},
            redirect=self.redirect,
            origin=self.origin or "",
            preflight=self.preflight or "",
            credentials=tuple(sorted(self.headers_env)),
        )


class Synthetic(Section, frozen=True):
    """The requests that guard sends itself while it watches; none without paths and checks."""

    every: Duration = Duration(1)
    paths: Annotated[tuple[Route, ...], msgspec.Meta(max_length=8)] = ()
    checks: Annotated[tuple[Check, ...], msgspec.Meta(max_length=16)] = ()


class Guard(Section, frozen=True):
    """What guard may do by itself, and how sure it must be."""

    mode: Mode = Mode.OBSERVE
    false_rollbacks_per_year: Positive = 1.0
    deployments_per_year: Positive = 3650.0
    alpha: Share | None = None
    false_alarms_per_year: Positive = 1.0
    on_inconclusive: OnInconclusive = OnInconclusive.HOLD
    on_unmeasured: OnUnmeasured = OnUnmeasured.HOLD
    on_shared_outage: OnSharedOutage = OnSharedOutage.HOLD
    on_secret_change: OnSecretChange = OnSecretChange.HOLD
    at_most: AtMost = AtMost(6 * 3600)
    baseline: Duration = Duration(3600)
    probe_every: Duration = Duration(2)
    down_probes: Count = 3
    min_bad: Count = 3
    confirm: Duration = Duration(0)
    warm_up: Duration = Duration(0)
    slow_start: Duration = Duration(60)
    warm_up_errors: Share = Share(0.1)
    accept_unproven: bool = False
    prove: tuple[Route, ...] = ()
    synthetic: Synthetic = Synthetic()
    ramp: tuple[Percent, ...] = ()
    sticky: bool = False
    expect: dict[Asked, tuple[Status, ...]] = {}
    vital: tuple[Asked, ...] = ()
    require_counts: bool = False
    holdback: Annotated[float, msgspec.Meta(ge=0, le=50)] = 0
    minimum_version: Annotated[int, msgspec.Meta(ge=0)] = 0

    def chosen_alpha(self) -> float:
        """Return the probability of ever rolling back a healthy deployment in one watch, in [1e-6, 0.05]."""
        wanted = self.alpha if self.alpha is not None else self.false_rollbacks_per_year / self.deployments_per_year
        return min(max(wanted, _ALPHA_RANGE[0]), _ALPHA_RANGE[1])


def make_expectation(asked: str, statuses: tuple[int, ...]) -> Expectation:
    """Return what a key and a value of `guard.expect` mean.

    >>> make_expectation("GET /old/*", (410,))
    Expectation(method='GET', path='/old/*', statuses=(410,))
    """
    method, _, path = asked.partition(" ")
    return Expectation(method, path, statuses)
