"""Ports of the trial of a way back: the application in both versions, and its database; neither is production's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backout.model.database.certificate import HeardStatement, RowLoss, TableRows, TrialAnswer, TrialRequest
    from backout.model.database.compatibility import MigrationFile


class TrialApplication(Protocol):
    """The old and the new code, of which one is live."""

    def switch(self, version: str) -> None:
        """Make "old" or "new" live, and return when requests reach it. Raises BackoutError when it does not start."""
        ...

    def send(self, request: TrialRequest, number: int) -> TrialAnswer:
        """Send a request without placeholders and return its answer; none is a `status` of None."""
        ...

    def list_refused(self) -> tuple[str, ...]:
        """Return the calls to the outside that were refused so far."""
        ...


class TrialDatabase(Protocol):
    """The database that both use: made for the trial, thrown away after it."""

    def read_rows(self) -> Mapping[str, TableRows]:
        """Return the rows of all tables of the application by table, as they are."""
        ...

    def find_losses(self, before: Mapping[str, TableRows]) -> tuple[RowLoss, ...]:
        """Return what the database does not hold any more, or holds with another value."""
        ...

    def take_statements(self) -> tuple[HeardStatement, ...]:
        """Return what the application sent since the last call."""
        ...

    def migrate(self, files: Sequence[MigrationFile]) -> str:
        """Apply migrations; return why they could not be applied, "" if they were."""
        ...

    def count_read_again(
        self, rows: Mapping[str, Sequence[tuple[str | None, ...]]], statements: Sequence[HeardStatement]
    ) -> int:
        """Return how many of these rows, keys by table, at least one of the statements depends on."""
        ...
