"""Events of the journal and the incident that is built from them."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import field

from backout.model.incident.record import Origin
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.approval import Approval, BrokenGlass
    from backout.model.guard.shift import Acceptance
    from backout.model.guard.verdict import Decision, Verification
    from backout.model.incident.diagnosis import Diagnosis
    from backout.model.plan import Json, Plan


class Event(Value, frozen=True):
    """One row of the journal: append-only, hash-chained.

    Args:
        seq: position in the chain, from 1.
        at: Unix seconds.
        run: run id, "" for events of the environment itself.
        step: index of the step, None for events of the run.
        kind: `run.submitted`, `step.start`, `mark`, ...
        actor: who (user@host, or "guard").
        hash: SHA-256 over the row and the previous hash.
        writer: the role of the journal's database that wrote it, as the server says; "" where none does.
    """

    seq: int
    at: float
    environment: str
    run: str
    step: int | None
    kind: str
    data: Mapping[str, Json] = field(default_factory=dict)
    actor: str = ""
    hash: str = ""
    writer: str = ""


class RunState(StrEnum):
    """The state of a run."""

    RUNNING = "running"  # a live holder drives it
    INTERRUPTED = "interrupted"  # unfinished and no process drives it: resume or abort
    BLOCKED = "blocked"  # a person has to decide
    WAITING = "waiting for approval"  # a person has to approve its plan before anything is changed
    PAUSED = "paused"  # a person has stopped it at a step boundary, and no process drives it: resume or abort
    DONE = "done"
    FAILED = "failed"
    ABORTED = "aborted"

    @property
    def is_over(self) -> bool:
        """Whether the run has ended and its environment is free."""
        return self in (RunState.DONE, RunState.FAILED, RunState.ABORTED)


class Pause(Value, frozen=True):
    """A person's request that a run stops at its next step boundary, and stays so until it is resumed.

    Args:
        at: Unix seconds.
    """

    by: str
    why: str
    at: float


class Run(Value, frozen=True):
    """A run as the journal knows it; `steps_done` of `len(plan.steps)`.

    Args:
        alive_at: when its holder was last seen alive (Unix seconds), None when no longer known.
        pause: the request that it pauses, None: there is none, or it was resumed since.
        approval: the newest one since it last waited for one.
        glass: why it goes on without the approval that it needs.
    """

    id: str
    environment: str
    plan: Plan
    state: RunState
    started_at: float
    ended_at: float | None
    steps_done: int
    holder: str = ""
    actor: str = ""
    alive_at: float | None = None
    pause: Pause | None = None
    approval: Approval | None = None
    glass: BrokenGlass | None = None


class TimelineEntry(Value, frozen=True):
    """One line of the incident's timeline, made from one event; `actor`: who made it, "" unknown."""

    at: float
    text: str
    actor: str = ""
    source: Origin = Origin.JOURNAL


class Incident(Value, frozen=True):
    """All facts of the incident report.

    Args:
        id: the run that the report is written for.
        title: brief description for the heading.
        opened_at: when the bad deployment was accepted, or the first sign of trouble.
        resolved_at: None while open.
        bad_version, good_version: version ids or "".
        decision: the reason; verification: the proof that it ended.
        diagnosis: the cause, as far as it could be determined.
        secrets: names of the secrets that were set, "" for none.
        forward: the good version is a new one, deployed in the bad one's place.
        accepted: what a person said is intended, of this watch or of this version, oldest first.
        repairs: what was done to the data, in order.
    """

    id: str
    environment: str
    title: str
    opened_at: float
    detected_at: float | None
    acted_at: float | None
    resolved_at: float | None
    bad_version: str
    good_version: str
    decision: Decision | None
    verification: Verification | None
    timeline: tuple[TimelineEntry, ...]
    bad_requests: int | None = None
    people: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    diagnosis: Diagnosis | None = None
    secrets: str = ""
    forward: bool = False
    accepted: tuple[Acceptance, ...] = ()
    repairs: tuple[str, ...] = ()
