"""Migrations as they lie in the working copy, and how each stands against the history that the database keeps."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from backout.errors import ProviderUnavailable

if TYPE_CHECKING:
    from backout.model.schema import SchemaState


@dataclass(frozen=True, slots=True)
class KnownMigration:
    """One migration of the working copy, as far as its place in the history goes.

    Args:
        name: as the history calls it. after: what has to be applied before it.
        checksum: of its file, "" where the tool keeps none. title: what it is called beside its name.
        replaces: what it was squashed from; where all of these are applied, it is.
        application: whose it is, where a history has several; names begin with it and a dot then.
    """

    name: str
    after: tuple[str, ...] = ()
    checksum: str = ""
    title: str = ""
    replaces: tuple[str, ...] = ()
    application: str = ""


class MigrationState(StrEnum):
    """How one migration stands; see `docs/concepts.md`."""

    APPLIED = "applied"
    PENDING = "pending"
    FAILED = "failed"
    ROLLED_BACK = "rolled back"
    EDITED = "edited"
    UNKNOWN = "unknown"
    OUT_OF_ORDER = "out of order"
    UNTOLD = "untold"


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """One migration in one database.

    Args:
        finding: whether something is wrong with it. why: one sentence, "" where there is nothing to say.
        applied_at: when it was applied, or at the latest when `dated` is False; None: it was not.
        logs: what a failure said.
    """

    name: str
    state: MigrationState
    finding: bool = False
    why: str = ""
    title: str = ""
    applied_at: float | None = None
    dated: bool = True
    logs: str = ""


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """All migrations of one database; `findings` are sentences on their order as a whole."""

    migrations: tuple[MigrationStatus, ...]
    findings: tuple[str, ...] = ()

    @property
    def in_order(self) -> bool:
        """Whether nothing is wrong; what is only pending is in order."""
        return not self.findings and not any(m.finding for m in self.migrations)

    def named(self, *states: MigrationState) -> tuple[str, ...]:
        """Return the names of the migrations in these states."""
        return tuple(m.name for m in self.migrations if m.state in states)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two databases side by side.

    Args:
        later, earlier: migrations reach `earlier` (staging) first, so `later` (production) must have none of its own.
        never_ran: applied in `later`, never in `earlier`. not_yet: applied in `earlier` alone.
        differ: applied in both, from different files.
    """

    later: str
    earlier: str
    never_ran: tuple[str, ...] = ()
    not_yet: tuple[str, ...] = ()
    differ: tuple[str, ...] = ()

    @property
    def in_order(self) -> bool:
        """Whether `earlier` has run all of `later`'s, from the same files."""
        return not self.never_ran and not self.differ


@dataclass(frozen=True, slots=True)
class HistoryLook:
    """What was read of one environment: a history, or why there is none, with the exit code of that."""

    environment: str
    state: SchemaState | None = None
    problem: str = ""
    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """How the migrations stand: in the environment that was asked for, and compared with others."""

    asked: HistoryLook
    report: MigrationReport | None
    others: tuple[HistoryLook, ...] = ()
    comparisons: tuple[Comparison, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 in order, 1 a finding; where the database cannot be read, as that says; where another one cannot, 7."""
        if self.asked.exit_code:
            return self.asked.exit_code
        if any(look.exit_code for look in self.others):
            return ProviderUnavailable.exit_code
        in_order = self.report is not None and self.report.in_order and all(c.in_order for c in self.comparisons)
        return 0 if in_order else 1
