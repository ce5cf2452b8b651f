"""A drill: something is broken on purpose, and what backout does about it is measured and judged."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from backout.model.value import Value

COUNTS_S: Final = 30 * 86400.0
"""How long the success of a drill counts, where its file says nothing else."""


class DrillGroup(StrEnum):
    """What a drill is about."""

    ROLL_BACK = "roll back"
    """A bad version that has to be rolled back."""
    MUST_NOT = "must not"
    """Something that looks bad, and must not be rolled back."""
    OTHER = "other"
    """Everything else that a night brings."""


class DrillPlace(StrEnum):
    """Where a drill takes place."""

    TWIN = "twin"
    HOSTS = "hosts"
    """A twin of plain hosts behind Caddy, where drills of the twin can take place as well."""
    STAGING = "staging"
    PRODUCTION = "production"


class DrillAction(StrEnum):
    """What followed."""

    ROLLBACK = "rollback"
    HOLD = "hold"
    """A person decides; nothing was changed."""
    NONE = "none"
    PUSH_SECRET = "push_secret"  # noqa: S105 - the name of an action
    RECOVER = "recover"
    REFUSE = "refuse"


class Loss(Value, frozen=True):
    """What was lost of that which the application had confirmed; None: it was not measured.

    Args:
        rows: of the database.
        objects: of the bucket.
        seconds: from the oldest to the newest of them.
    """

    rows: int | None = None
    objects: int | None = None
    seconds: float | None = None


class Limits(Value, frozen=True):
    """What a drill may cost at most; None: no limit.

    Args:
        rto_s: seconds from the first bad request to the last.
        rpo: what may be lost.
        bad_requests: how many requests may be answered badly.
    """

    rto_s: float | None = None
    rpo: Loss = Loss()
    bad_requests: int | None = None


class Expected(Value, frozen=True):
    """What is right.

    Args:
        scenario: as of `Scenario`, None: nothing is to be diagnosed.
        action: what has to follow.
        or_scenario: right as well, where two are true at once, and it depends on what is noticed first.
    """

    action: DrillAction
    scenario: str | None = None
    or_scenario: str | None = None


class Measured(Value, frozen=True):
    """What a drill measured; seconds, None: nothing of the kind happened.

    Args:
        scenario: the diagnosis.
        detect_s: from the first bad request (or the deployment, if there was none) to the verdict.
        decide_s: from the verdict to the beginning of the switch.
        act_s: what the switch took, until it was read back.
        verify_s: from the switch to the end of the verification.
        rto_s: from the first bad request to the last.
        requests: how many visitors sent.
        detail: what was seen, in one sentence.
    """

    action: DrillAction
    scenario: str | None = None
    detect_s: float | None = None
    decide_s: float | None = None
    act_s: float | None = None
    verify_s: float | None = None
    rto_s: float | None = None
    rpo: Loss = Loss()
    bad_requests: int = 0
    requests: int = 0
    detail: str = ""


class Visit(Value, frozen=True):
    """One request of a visitor.

    Args:
        at: when it was sent, Unix seconds.
        status: of the answer, None: no complete answer came.
        version: that the answer names, None: it names none.
        latency_ms: until the whole answer was there, or the visitor gave up.
    """

    at: float
    status: int | None
    version: str | None
    latency_ms: float


class DrillResult(Value, frozen=True):
    """One drill that came to its end, as it is recorded.

    Args:
        name: of the drill.
        environment: where it took place.
        expected: what was right.
        measured: what was seen.
        missed: each expectation and limit that was not met, as a sentence; empty: passed.
        at: when it began, Unix seconds.
        took_s: how long it took, its preparation included.
    """

    name: str
    environment: DrillPlace
    expected: Expected
    measured: Measured
    missed: tuple[str, ...]
    at: float
    took_s: float

    @property
    def passed(self) -> bool:
        """Whether everything was as expected."""
        return not self.missed


class DrillEnd(StrEnum):
    """How a drill of the history ended."""

    PASSED = "passed"
    MISSED = "missed"
    INTERRUPTED = "interrupted"
    """It began, and no end was recorded."""


class DrillRecord(Value, frozen=True):
    """A drill of the history.

    Args:
        run: the id of this run of it.
        result: None where no end was recorded.
        why: why it ended without a result, "" where that is not known.
        batch: the id of the command that ran it with others, "" where that is not known.
    """

    run: str
    name: str
    environment: DrillPlace
    at: float
    result: DrillResult | None = None
    why: str = ""
    batch: str = ""

    @property
    def end(self) -> DrillEnd:
        """How it ended."""
        if self.result is None:
            return DrillEnd.INTERRUPTED
        return DrillEnd.PASSED if self.result.passed else DrillEnd.MISSED


class DrillDue(Value, frozen=True):
    """A drill that should be run again.

    Args:
        last_passed_at: Unix seconds, None: it never passed.
        why: one sentence without a final stop.
    """

    name: str
    last_passed_at: float | None
    why: str
