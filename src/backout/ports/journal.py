"""The journal's ports: driving plans, probing steps, keeping marks and counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from backout.decoding import decode_values
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from backout.model.guard.signals import Counts
    from backout.model.incident.incident import Event, Run
    from backout.model.plan import Json, Plan, StepArguments
    from backout.model.steps.base import Arguments
    from backout.model.version import Mark, VersionMark
    from backout.model.witness import Witness

A = TypeVar("A")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Done(Value, Generic[R_co], frozen=True):
    """The world shows the step's effect; `result` is what `do` would have returned."""

    result: R_co


class NotDone(Value, frozen=True):
    """The world shows that the step has had no effect; doing it now is right."""


class Unknown(Value, frozen=True):
    """It cannot be determined; `why` in one sentence."""

    why: str


Probe = Done[R_co] | NotDone | Unknown


class Next(Value, Generic[R_co], frozen=True):
    """A step's result that ends its run and hands the environment to a following run, in one transaction.

    Only the last step of a plan may return it.
    """

    result: R_co
    plan: Plan
    reason: str


class StepContext(Protocol):
    """The journal as a running step may use it."""

    @property
    def run(self) -> str:
        """Id of the run."""
        ...

    def progress(self, data: Mapping[str, Json]) -> None:
        """Record progress (an event `step.progress`); the lease is re-checked in the same transaction."""
        ...

    def last_progress(self) -> Mapping[str, Json] | None:
        """Return the newest progress of this step, earlier attempts included, or None."""
        ...

    def check(self) -> None:
        """Raise Interrupted when a stop, pause or abort is asked for, Busy when the lease is lost.

        Only steps that change nothing outside (watching, verifying) call it; it is a step boundary inside them.
        """
        ...


class Action(Protocol[A, R_co]):
    """How one kind of step is performed, and how to ask the world whether it was.

    `arguments` is the type of what it is given, as the journal keeps it.
    `effect` is False for steps that change nothing outside (reading, watching, verifying).
    `irreversible` is as of `Step`: when the world does not say whether it happened, a person decides.
    """

    arguments: type[A]
    effect: bool = True
    irreversible: bool = False

    def do(self, args: A, context: StepContext) -> R_co | Next[R_co]:
        """Do it and return what was read back. May be called again after a crash that `probe` answered NotDone."""
        ...

    def probe(self, args: A, context: StepContext) -> Probe[R_co]:  # noqa: ARG002 - for those who ask the world
        """Ask the world, never our memory, whether the effect of an interrupted attempt is there.

        As it is, the step is done again: right for one that changes nothing, and for one that finds what it did before.
        """
        return NotDone()


AnyAction = Action[Any, Any]
"""An action of any kind of step."""


class Journal(Protocol):
    """The durable record of runs: the source of truth."""

    def submit(self, plan: Plan, *, actor: str, reason: str) -> str:
        """Accept a plan and return its run id; the same plan unfinished is the same run (typing it twice is one run).

        Raises Busy when another unfinished run keeps the environment, naming it and its holder.
        """
        ...

    def drive(
        self, run: str, actions: Mapping[str, AnyAction], *, actor: str, notify: Callable[[Event], None] | None = None
    ) -> Run:
        """Drive the run (and the runs it hands over to) to the end, and return the last one.

        Completed steps are never repeated; a step found open is probed. `notify` sees each event after its commit.
        Raises Busy, Interrupted, PartlyDone (with the resume command), or the step's own error when it ended the run.
        """
        ...

    def events(
        self, *, run: str | None = None, environment: str | None = None, kind: str | None = None, after: int = 0
    ) -> Iterator[Event]:
        """Yield events in order, filtered; `kind` may end in `*`."""
        ...

    def note(self, environment: str, kind: str, key: str, data: Mapping[str, Json], *, actor: str) -> Event | None:
        """Record an event that belongs to no run; the same `key` of a kind once (None: it is there already)."""
        ...

    def read_witness(self) -> Witness | None:
        """Return which event is the newest one now, None where there is none."""
        ...


class NumberedJournal(Journal, Protocol):
    """A journal that says how far it goes."""

    def find_newest(self) -> int:
        """Return the place of the newest event, 0 where there is none. Raises JournalUnavailable."""
        ...


class Runs(Protocol):
    """The journal's runs, to read and to control."""

    def runs(self, environment: str | None = None) -> tuple[Run, ...]:
        """Return all runs, newest first: for those who need each of them, there may be thousands."""
        ...

    def walk_runs(self, environment: str | None = None) -> Iterator[Run]:
        """Yield all runs, newest first; they are read as they are asked for."""
        ...

    def walk_history(self, environment: str | None = None) -> Iterator[tuple[Run, Mapping[str, Json]]]:
        """Yield all runs, newest first, with {action: the result of the run's (last) completed step of that action}."""
        ...

    def find(self, run: str) -> Run | None:
        """Return one run by id or unambiguous prefix of an id."""
        ...

    def result(self, run: str, action: str) -> Json:
        """Return the recorded result of the run's (last) completed step of that action; None when there is none."""
        ...

    def ask(self, run: str, what: str, *, actor: str, reason: str) -> None:
        """Record a request that its holder obeys at the next boundary; without a holder it acts at once.

        `abort` ends the run, `pause` stops it until `resume`; `decide:done` and `decide:retry` answer a blocked run.
        """
        ...

    def check_approvable(self, plan: Plan) -> None:
        """Raise Refused when a plan needs a second person's approval, and the journal cannot prove who approves."""
        ...


def find_result(runs: Runs, run: str, kind: type[Arguments[R]]) -> R | None:
    """Return the recorded result of the run's (last) completed step of a kind.

    None when there is none, and when a person declared the step done.

    Raises:
        Undecodable: it is not as such a step is recorded.
    """
    found = runs.result(run, kind.action)
    if found is None:
        return None
    return decode_values(found, kind.result_type(), what=f"the record of step {kind.action}", where=run)


def list_progress(journal: Journal, run: Run, kind: type[StepArguments]) -> list[Mapping[str, Json]]:
    """Return what the run's (last) step of a kind recorded as progress, over all attempts, oldest first.

    Other steps of a run record theirs under the same names, so that of a whole run tells nothing.

    Raises:
        KeyError: the plan has no such step.
    """
    place = run.plan.find_place(kind)
    return [event.data for event in journal.events(run=run.id, kind="step.progress") if event.step == place]


class Marks(Protocol):
    """Judgements on versions that outlive runs."""

    def mark(self, environment: str, mark: VersionMark, *, actor: str) -> None:
        """Record a mark; the same mark by the same run on the same version once, a person's (no run) every time."""
        ...

    def marks(self, environment: str) -> tuple[VersionMark, ...]:
        """Return all marks, oldest first; for one version (or its code) the latest of quarantined/released wins."""
        ...

    def find_mark(self, environment: str, version: str, mark: Mark) -> VersionMark | None:
        """Return the latest such mark of this version, or None."""
        ...


class CountsStore(Protocol):
    """Per-second counts, kept beside the journal and prunable."""

    def keep(self, environment: str, counts: Sequence[Counts]) -> None:
        """Store counts; a row for the same version and second replaces the earlier one."""
        ...

    def load_counts(self, environment: str, since: int, until: int) -> tuple[Counts, ...]:
        """Return the stored counts of the seconds in [since, until)."""
        ...

    def prune(self, older_than: float) -> int:
        """Delete counts and checkpoints from before that time (Unix seconds), no events; return how many rows went."""
        ...


class Checkpoints(Protocol):
    """The newest state of a measurement, kept beside the journal; the latest wins."""

    def save_checkpoint(self, run: str, name: str, data: Json) -> None:
        """Store the newest state under a name; replaces the earlier one."""
        ...

    def load_checkpoint(self, run: str, name: str) -> Json:
        """Return the newest state or None."""
        ...


class Reports(Protocol):
    """The store of incident reports."""

    def write(self, run: str, name: str, text: str) -> Path:
        """Write the report of a run and return its absolute path; writing it again replaces this run's file only."""
        ...

    def amend(self, run: str, change: Callable[[str], str]) -> Path | None:
        """Replace the report of a run by what `change` makes of it, and return its path; None: there is no report.

        What people wrote into it is part of what `change` is given, and stays unless that takes it out. What `change`
        adds has to be without secrets.
        """
        ...

    def write_picture(self, report: Path, picture: str) -> Path:
        """Write the picture of a report beside it, over an earlier one, and return its absolute path."""
        ...

    def of_run(self, run: str) -> Path | None:
        """Return the report written for a run, or None."""
        ...
