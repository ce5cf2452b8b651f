"""Ports that measure: counts, health, logs, the schema's history, connections; and the clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backout.model.database.compatibility import MigrationFile
    from backout.model.database.schema import SchemaState
    from backout.model.guard.connections import ConnectionUse
    from backout.model.guard.fetched import Fetched
    from backout.model.guard.policy import SyntheticCheck
    from backout.model.guard.signals import CountsPage, HealthReport, SourceTraits
    from backout.model.incident.events import LogPage


class Clock(Protocol):
    """Time, so that tests can control it."""

    def now(self) -> float:
        """Return Unix seconds UTC."""
        ...

    def sleep(self, seconds: float) -> None:
        """Return after that many seconds (a fake clock moves instead)."""
        ...


class Traffic(Protocol):
    """Counts per version and second."""

    @property
    def traits(self) -> SourceTraits:
        """What this source can see."""
        ...

    def read(self, since: int, until: int) -> CountsPage:
        """Return the counts of the seconds in [since, until), all versions; gaps mean no request."""
        ...


class LearnsRoutes(Protocol):
    """A further ability of a Traffic that names routes itself, from the answers it sees."""

    def learn(self, names: Iterable[str]) -> None:
        """Take routes that are known from before, the most used first: they have a name then, whatever they answer."""
        ...


class TellsKeys(Protocol):
    """A further ability of a Traffic that tells apart requests whose version a key chose."""

    def count_keyed(self, *, wanted: bool) -> None:
        """Count these as all others, as at first, or leave them out; of all seconds that are read from now on."""
        ...


class WaitsForVersion(Protocol):
    """A further ability of a Traffic whose counts may come late, and not of all versions alike."""

    def watch(self, version: str) -> None:
        """Wait for late counts of this version alone from now on, so that those of others hold nothing up; "": of all.

        What comes late of another version is counted in the first second that is still open.
        """
        ...


class HealthCheck(Protocol):
    """The application's health endpoint."""

    def look(self, version: str | None = None) -> HealthReport:
        """Ask once (one version, through the provider's override, when given); a sick application never raises."""
        ...

    def fetch(self, path: str, version: str | None = None, *, check: SyntheticCheck | None = None) -> Fetched:
        """Return the answer to a GET of that path on the same host, of one version as `look`.

        Redirects on that host are followed, so that it is known where they end; the answer is the first one. `check`:
        sends its method, its origin and its credentials instead, which go to that host alone.
        """
        ...


class Logs(Protocol):
    """The application's own reports of errors."""

    def read(self, since: float, until: float) -> LogPage:
        """Return what was said between two times in Unix seconds, counted, of all versions; the newest of too many.

        Raises AuthError, ProviderRejected, ProviderUnavailable.
        """
        ...


class Schema(Protocol):
    """The database's migration history."""

    def read(self) -> SchemaState:
        """Return the history; an empty one when the table does not exist. Raises ProviderUnavailable otherwise."""
        ...


class MigrationFiles(Protocol):
    """The migrations of the working copy."""

    def read(self) -> tuple[MigrationFile, ...]:
        """Return them in the order in which they are applied. Raises UsageError when the folder is not there."""
        ...


class Connections(Protocol):
    """The database's connections."""

    def read(self) -> ConnectionUse:
        """Return how many are in use of how many; a database that has none left is a reading, not an error.

        Raises AuthError, or ProviderUnavailable when it does not answer.
        """
        ...
