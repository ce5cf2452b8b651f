"""Migrations of the working copy, and the state of each by the history that the database keeps."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import field

from backout.errors import ProviderUnavailable
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.database.schema import SchemaState


class KnownMigration(Value, frozen=True):
    """One migration of the working copy: what is needed to find its place in the history.

    Args:
        name: as the history calls it.
        after: the migrations that must be applied before it.
        checksum: of its file, "" where the tool keeps none.
        title: its title, beside its name.
        replaces: the migrations it was squashed from; where all of these are applied, it is too.
        application: its application, where a history has several; names then begin with it and a dot.
        stamp: the tool applies it only above every stamp that is applied already; None: whatever is applied.
    """

    name: str
    after: tuple[str, ...] = ()
    checksum: str = ""
    title: str = ""
    replaces: tuple[str, ...] = ()
    application: str = ""
    stamp: int | None = None


class StoredNames(Value, frozen=True):
    """The names of migrations whose history table holds no names.

    Args:
        stamps: {the table's key: the names that have it}.
        checksums: of the files, by name.
    """

    stamps: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)

    def get_name(self, stored: str, checksum: str) -> str:
        """Return the name of a row; the row's key where no file fits it.

        >>> names = StoredNames({"7": ("a", "b")}, {"a": "1", "b": "2"})
        >>> names.get_name("7", "2"), names.get_name("7", "3"), names.get_name("8", "1")
        ('b', 'a', '8')
        """
        found = self.stamps.get(stored, (stored,))
        return next((name for name in found if self.checksums.get(name) == checksum), found[0])

    def get_stored(self, name: str) -> str:
        """Return the key of a name; a name without one is its own.

        >>> names = StoredNames({"7": ("a",)})
        >>> names.get_stored("a"), names.get_stored("8")
        ('7', '8')
        """
        return next((stored for stored, names in self.stamps.items() if name in names), name)


def make_stamp_key(stamp: int) -> str:
    """Return what Drizzle's row is called where no file names it: the second at which its file was generated.

    drizzle-kit 1.0 keeps seconds in the names of its folders, and the rows of before have milliseconds.
    """
    return str(stamp // 1000)


class MigrationState(StrEnum):
    """The state of one migration; see `docs/concepts.md`."""

    APPLIED = "applied"
    PENDING = "pending"
    FAILED = "failed"
    ROLLED_BACK = "rolled back"
    EDITED = "edited"
    UNKNOWN = "unknown"
    OUT_OF_ORDER = "out of order"
    UNTOLD = "untold"


class MigrationStatus(Value, frozen=True):
    """One migration in one database.

    Args:
        finding: whether something is wrong with it.
        why: one sentence, "" for none.
        applied_at: when it was applied (at the latest, where `dated` is False); None: never.
        logs: the failure's output.
    """

    name: str
    state: MigrationState
    finding: bool = False
    why: str = ""
    title: str = ""
    applied_at: float | None = None
    dated: bool = True
    logs: str = ""


class MigrationReport(Value, frozen=True):
    """All migrations of one database; `findings` are sentences on their order as a whole."""

    migrations: tuple[MigrationStatus, ...]
    findings: tuple[str, ...] = ()

    @property
    def in_order(self) -> bool:
        """Whether nothing is wrong; what is only pending is in order."""
        return not self.findings and not any(m.finding for m in self.migrations)

    def list_names(self, *states: MigrationState) -> tuple[str, ...]:
        """Return the names of the migrations in these states."""
        return tuple(m.name for m in self.migrations if m.state in states)


class Comparison(Value, frozen=True):
    """Two databases side by side.

    Args:
        later, earlier: migrations reach `earlier` (staging) first, so `later` (production) must have none of its own.
        never_ran: applied in `later`, never in `earlier`.
        not_yet: applied in `earlier` alone.
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


class HistoryLook(Value, frozen=True):
    """The history of one environment, or why there is none, with that error's exit code."""

    environment: str
    state: SchemaState | None = None
    problem: str = ""
    exit_code: int = 0


class Standing(Value, frozen=True):
    """The state of the migrations in the chosen environment, and compared with others."""

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
