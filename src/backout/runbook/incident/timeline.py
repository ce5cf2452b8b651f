"""What happened in an environment: every source is read by itself, and the others fill in what one lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from backout.errors import BackoutError
from backout.model.incident.timeline import Records
from backout.report.times import format_clock, format_day

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backout.model.deployment import Deployment
    from backout.model.hold import Hold
    from backout.model.incident.incident import Event, Run
    from backout.model.incident.notice import QueuedNotice
    from backout.model.version import VersionMark

T = TypeVar("T")


class Book(Protocol):
    """The part of the journal that is read, see the ports Journal, Runs and Marks."""

    def events(
        self, *, run: str | None = None, environment: str | None = None, kind: str | None = None, after: int = 0
    ) -> Iterator[Event]:
        """Yield events in order."""
        ...

    def runs(self, environment: str | None = None) -> tuple[Run, ...]:
        """Return all runs, newest first."""
        ...

    def marks(self, environment: str) -> tuple[VersionMark, ...]:
        """Return all marks, oldest first."""
        ...


def read_records(
    environment: str,
    *,
    since: float,
    now: float,
    book: Book,
    listed: Callable[[], tuple[Deployment, ...]],
    queued: Callable[[], tuple[QueuedNotice, ...]],
    holds: Callable[[], tuple[Hold, ...]],
) -> Records:
    """Return everything that an environment's timeline is made from; what could not be read is in its notes.

    Raises:
        BackoutError: neither the journal nor the provider could be read: then nothing is known.
    """
    notes: list[str] = []
    provider: tuple[Deployment, ...] = ()
    failed: BackoutError | None = None
    try:
        provider = listed()
    except BackoutError as error:
        failed = error
        notes.append(
            f"the provider could not be asked ({error.what}): this is based on the journal alone, which knows the "
            "deployments that it watched or made"
        )
    runs: tuple[Run, ...] = ()
    events: tuple[Event, ...] = ()
    marks: tuple[VersionMark, ...] = ()
    try:
        # The names of backups' runs: they keep an environment of their own, so that they block nothing.
        names = (environment, f"{environment}/backup", f"{environment}/jobs")
        runs = tuple(run for name in names for run in book.runs(name))
        events = tuple(event for name in names for event in book.events(environment=name) if _tells(event))
        marks = book.marks(environment)
    except BackoutError as error:
        if failed is not None:
            raise
        notes.append(f"the journal could not be read ({error.what}): this is told by the provider alone")
    oldest = provider[-1].created_at if provider else now
    if failed is None and since < oldest:
        notes.append(
            f"the provider lists {len(provider)} deployments, the oldest of {format_day(oldest)} "
            f"{format_clock(oldest)} UTC; older "
            "ones are known as far as the journal watched or made them"
        )
    here, told = _read(holds, "the hold of this host", notes), _read(queued, "the notices", notes)
    return Records(environment, now, provider, runs, events, marks, here, told, tuple(notes))


def _tells(event: Event) -> bool:
    """Whether an event is shown: a watch writes thousands about its progress."""
    return event.kind != "step.progress"


def _read(read: Callable[[], tuple[T, ...]], what: str, notes: list[str]) -> tuple[T, ...]:
    try:
        return read()
    except BackoutError as error:
        notes.append(f"{what} could not be read ({error.what})")
        return ()
