"""The journal's ports: plans are driven, steps are probed, marks and counts are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from backout.model.deployment import Mark, VersionMark
    from backout.model.incident import Event, Run
    from backout.model.plan import Json, Plan
    from backout.model.signals import Counts


@dataclass(frozen=True, slots=True)
class Done:
    """The world says: the step's effect is there; `result` is what `do` would have returned."""

    result: Json = None


@dataclass(frozen=True, slots=True)
class NotDone:
    """The world says: the step's effect is not there; doing it now is right."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """The world does not say; `why` in one sentence."""

    why: str


Probe = Done | NotDone | Unknown


@dataclass(frozen=True, slots=True)
class Next:
    """A step's result that ends its run and hands the environment to a following run, in one transaction.

    Only the last step of a plan may return it.
    """

    result: Json
    plan: Plan
    reason: str


class StepContext(Protocol):
    """What a running step may do with the journal."""

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


class Action(Protocol):
    """How one kind of step is done, and how the world is asked whether it was done.

    `key` is the same on every attempt ("RUN:INDEX"): the marker in messages, the name of what is created.
    """

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json | Next:
        """Do it and return what was read back. May be called again after a crash that `probe` answered NotDone."""
        ...

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:
        """Ask the world, never our memory, whether the effect of an interrupted attempt is there."""
        ...


class Journal(Protocol):
    """The durable record of runs: the source of truth."""

    def submit(self, plan: Plan, *, actor: str, reason: str) -> str:
        """Accept a plan and return its run id; the same plan unfinished is the same run (typing it twice is one run).

        Raises Busy when another unfinished run keeps the environment, naming it and its holder.
        """
        ...

    def drive(
        self, run: str, actions: Mapping[str, Action], *, actor: str, notify: Callable[[Event], None] | None = None
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


class Runs(Protocol):
    """The journal's runs, to look at and to steer."""

    def runs(self, environment: str | None = None) -> tuple[Run, ...]:
        """Return all runs, newest first."""
        ...

    def find(self, run: str) -> Run | None:
        """Return one run by id or unambiguous prefix of an id."""
        ...

    def result(self, run: str, action: str) -> Json:
        """Return the recorded result of the run's (last) completed step of that action; None when there is none."""
        ...

    def ask(self, run: str, what: str, *, actor: str, reason: str) -> None:
        """Record a request `abort` that its holder obeys at the next boundary; without a holder it acts at once."""
        ...


class Marks(Protocol):
    """Judgements on versions that outlive runs."""

    def mark(self, environment: str, mark: VersionMark, *, actor: str) -> None:
        """Record a mark; the same mark by the same run on the same version once, a person's (no run) every time."""
        ...

    def marks(self, environment: str) -> tuple[VersionMark, ...]:
        """Return all marks, oldest first; for one version (or its code) the latest of quarantined/released wins."""
        ...

    def marked(self, environment: str, version: str, mark: Mark) -> VersionMark | None:
        """Return the latest such mark of this version, or None."""
        ...


class CountsStore(Protocol):
    """Per-second counts: beside the journal, prunable."""

    def keep(self, environment: str, counts: Sequence[Counts]) -> None:
        """Store counts; a row for the same version and second replaces the earlier one."""
        ...

    def kept(self, environment: str, since: int, until: int) -> tuple[Counts, ...]:
        """Return the stored counts of the seconds in [since, until)."""
        ...

    def prune(self, older_than: float) -> int:
        """Delete counts and checkpoints from before that time (Unix seconds), no events; return how many rows went."""
        ...


class Checkpoints(Protocol):
    """The newest state of something that is measured: beside the journal, latest wins."""

    def save_checkpoint(self, run: str, name: str, data: Json) -> None:
        """Store the newest state under a name; replaces the earlier one."""
        ...

    def load_checkpoint(self, run: str, name: str) -> Json:
        """Return the newest state or None."""
        ...


class Reports(Protocol):
    """Where incident reports are written."""

    def write(self, run: str, name: str, text: str) -> Path:
        """Write the report of a run and return its absolute path; writing it again replaces this run's file only."""
        ...

    def amend(self, run: str, change: Callable[[str], str]) -> Path | None:
        """Write what `change` makes of the report of a run, as it stands now, and return its path; None: there is none.

        What people wrote into it is part of what `change` is given, and stays unless that takes it out.
        """
        ...

    def of_run(self, run: str) -> Path | None:
        """Return the report written for a run, or None."""
        ...
