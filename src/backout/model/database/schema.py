"""The database's migrations by the history that it keeps itself."""

from __future__ import annotations

from backout.model.value import Value


class AppliedMigration(Value, frozen=True):
    """One row of the migration history; `finished_at` None means failed or still running.

    Args:
        checksum: of the file when it was applied, "" where the tool keeps none.
        logs: the failure's output.
        steps: how many statements are known to have been applied, None where the tool does not count.
        dated: False where the tool keeps no times; the times are then upper bounds.
        stamp: the number by which the tool puts it in order, None where it has none.
    """

    name: str
    started_at: float
    finished_at: float | None
    rolled_back_at: float | None = None
    checksum: str = ""
    logs: str = ""
    steps: int | None = None
    dated: bool = True
    stamp: int | None = None

    @property
    def stands(self) -> bool:
        """Whether it was applied and was not rolled back."""
        return self.finished_at is not None and self.rolled_back_at is None


class SchemaState(Value, frozen=True):
    """The migration history as read from the database, oldest first.

    An empty history is a fact ("no migration was ever applied"); a history that cannot be read is an error, not this.

    Args:
        heads: the heads of the revisions, where the tool keeps only these; `applied` then has no others.
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
