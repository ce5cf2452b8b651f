"""What is known of the database's migrations."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AppliedMigration:
    """One row of the migration history; `finished_at` None means failed or still running.

    `checksum`: the tool's own, of the file as it was applied, "" where it keeps none.
    """

    name: str
    started_at: float
    finished_at: float | None
    rolled_back_at: float | None = None
    checksum: str = ""


@dataclass(frozen=True, slots=True)
class SchemaState:
    """The migration history as read from the database, oldest first.

    An empty history is a fact ("no migration was ever applied"); a history that cannot be read is an error, not this.
    """

    read_at: float
    applied: tuple[AppliedMigration, ...]

    @property
    def head(self) -> str:
        """Name of the last migration that finished and was not rolled back; "" when there is none."""
        done = [m.name for m in self.applied if m.finished_at is not None and m.rolled_back_at is None]
        return done[-1] if done else ""

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of migrations that started, did not finish and were not rolled back."""
        return tuple(m.name for m in self.applied if m.finished_at is None and m.rolled_back_at is None)
