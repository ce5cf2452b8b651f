"""What is known of the database's migrations: the history that it keeps itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AppliedMigration:
    """One row of the migration history; `finished_at` None means failed or still running.

    Args:
        checksum: of the file when it was applied, "" where the tool keeps none. logs: what a failure said.
        steps: how many statements are known to have been applied, None where the tool does not count.
        dated: False where the tool keeps no time; the times are then the latest that they can be.
    """

    name: str
    started_at: float
    finished_at: float | None
    rolled_back_at: float | None = None
    checksum: str = ""
    logs: str = ""
    steps: int | None = None
    dated: bool = True

    @property
    def stands(self) -> bool:
        """Whether it was applied and was not rolled back."""
        return self.finished_at is not None and self.rolled_back_at is None


@dataclass(frozen=True, slots=True)
class SchemaState:
    """The migration history as read from the database, oldest first.

    An empty history is a fact ("no migration was ever applied"); a history that cannot be read is an error, not this.

    Args:
        heads: where the tool keeps nothing but the heads of its revisions, these; `applied` has no others then.
    """

    read_at: float
    applied: tuple[AppliedMigration, ...]
    heads: tuple[str, ...] = ()

    @property
    def head(self) -> str:
        """Name of the last migration that finished and was not rolled back (several heads: all of them); or ""."""
        done = [m.name for m in self.applied if m.stands]
        return "+".join(self.heads) or (done[-1] if done else "")

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of migrations that started, did not finish and were not rolled back."""
        return tuple(m.name for m in self.applied if m.finished_at is None and m.rolled_back_at is None)
