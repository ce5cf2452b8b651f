"""Verdicts and the evidence behind them."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from backout.model.guard.monitored import (
    Monitored,
)
from backout.model.guard.shift import Shift  # noqa: TC001 - decoded from the journal, so its type is looked up at run time
from backout.model.steps.base import Record
from backout.model.value import Value


class Verdict(StrEnum):
    """The four answers to "is this deployment good?". Could not measure is never bad and never good."""

    HEALTHY = "healthy"
    REGRESSED = "regressed"
    INCONCLUSIVE = "inconclusive"
    UNMEASURED = "unmeasured"


class Cause(StrEnum):
    """The kind of evidence that decided a verdict."""

    ERRORS = "errors"
    LATENCY = "latency"
    HEALTH = "health"
    CONNECTIONS = "connections"  # the database has none left
    ANSWERS = "answers"  # people do not get what they got before
    OUTSIDE = "outside"  # not the deployment: down before it, or on both versions alike
    NONE = "none"


class StreamEvidence(Value, frozen=True):
    """The evidence of one stream of measurements.

    Args:
        stream: `errors`, `errors vs SLO`, `latency above p95`, `health: database`, `database connections`, `probes` ...
        bad, total: hits and observations of the new version.
        share: bad/total or None.
        expected: the normal share; `expected_from`: the source of that number.
        log_evidence: natural logarithm of the evidence against "healthy" (0 = none).
    """

    stream: str
    bad: int
    total: int
    expected: float | None
    expected_from: str
    log_evidence: float
    sentence: str

    @property
    def share(self) -> float | None:
        """Share of bad observations, None when nothing was observed."""
        return self.bad / self.total if self.total else None


class Decision(Value, frozen=True):
    """A verdict with its reason in one sentence, the numbers behind it, and when it was reached.

    Args:
        at: Unix seconds.
        version: the version judged.
        watched_s: seconds since its deployment.
        first_bad_at: when the first bad request or probe was seen, or None.
        shifts: what is answered differently from before, most serious first.
    """

    verdict: Verdict
    cause: Cause
    at: float
    version: str
    reason: str
    evidence: tuple[StreamEvidence, ...] = ()
    watched_s: float = 0.0
    requests: int = 0
    errors: int = 0
    first_bad_at: float | None = None
    shifts: tuple[Shift, ...] = ()


class CriterionState(StrEnum):
    """One success criterion at one moment."""

    PASSED = "passed"
    FAILED = "failed"
    WAITING = "waiting"  # the evidence does not decide yet
    UNMEASURED = "unmeasured"
    NOT_SET_UP = "not set up"


class CriterionResult(Value, frozen=True):
    """One of the runbook's success criteria, its state, and the evidence in words."""

    name: str
    state: CriterionState
    evidence: str
    passed_at: float | None = None


class Verification(Record, frozen=True):
    """Whether the system is proven healthy: True, False, or None when unknown (never "assumed good").

    Args:
        down: critical services, and the health endpoint, that were down in the last looks.
        sampled: some of the counts were estimates.
        counted_until: how far the counts reached (Unix seconds), None when there were none.
        seen: what was seen, where somebody asked to watch for a time; else None.
    """

    omitted: ClassVar[frozenset[str]] = frozenset({"seen"})
    verified: bool | None
    criteria: tuple[CriterionResult, ...]
    started_at: float
    ended_at: float
    summary: str = ""
    down: tuple[str, ...] = ()
    sampled: bool = False
    counted_until: float | None = None
    seen: Monitored | None = None
