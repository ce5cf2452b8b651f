"""The steps of a restore on the database's own machine: side instances, swaps, and what else goes back.

Positions in the WAL are written as Postgres shows them ("0/1A2B"), times as Unix seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import msgspec

from backout.model.database.also_back import AlsoBack, AlsoKind
from backout.model.database.sequences import Carried
from backout.model.steps.base import Arguments, Record, Result
from backout.model.steps.comparison import ComparisonResult, NoteResult

if TYPE_CHECKING:
    from backout.model.plan import Json


class SideResult(Result, frozen=True, kw_only=True):
    """A side instance.

    Args:
        how: its files were made: "overlay", "reflink" or "copy".
        state: as `SideState`.
        lsn: its target.
        replayed: how far it has replayed.
        dsn: its connection string, "" while it is stopped.
    """

    name: str
    how: str
    state: str
    lsn: str
    replayed: str
    dsn: str


class SideStep(Arguments[SideResult], frozen=True, kw_only=True):
    """Make a side instance that waits at its target; see `model.database.recovery.SideOrder`.

    Args:
        accepted: ids of unsigned backups that a person accepts.
    """

    action: ClassVar[str] = "db_side"
    omitted: ClassVar[frozenset[str]] = frozenset({"accepted"})
    name: str
    backup: str
    lsn: str
    timeline: int
    wal: tuple[str, ...]
    inclusive: bool = False
    xid: int | None = None
    place: str = ""
    accepted: tuple[str, ...] = ()


class SideCheckResult(Result, frozen=True, kw_only=True):
    """The state of a side instance: the newest migration applied there, and how far it has replayed."""

    migration_head: str | None
    replayed: str
    read_only: bool = True


class SideCheckStep(Arguments[SideCheckResult], frozen=True, kw_only=True):
    """Check a side instance, read-only; "" is not checked.

    Args:
        relation: must exist.
        no_migration: must not be applied.
    """

    action: ClassVar[str] = "db_side_check"
    name: str
    database: str
    relation: str = ""
    no_migration: str = ""


class SideOpenStep(Arguments[SideResult], frozen=True, kw_only=True):
    """Open a side instance for reading."""

    action: ClassVar[str] = "db_side_open"
    name: str


class PromoteResult(Result, frozen=True, kw_only=True):
    """The path of the data directory that is ready to be moved in."""

    data_directory: str


class PromoteStep(Arguments[PromoteResult], frozen=True, kw_only=True):
    """Let a side instance become a database of its own, and stop it."""

    action: ClassVar[str] = "db_promote"
    name: str


class DropResult(Result, frozen=True, kw_only=True):
    """The names of the removed side instances."""

    dropped: tuple[str, ...]


class DropSidesStep(Arguments[DropResult], frozen=True, kw_only=True):
    """Remove side instances."""

    action: ClassVar[str] = "db_drop_sides"
    names: tuple[str, ...]


class NoteCopiesResult(ComparisonResult, frozen=True, kw_only=True):
    """How the live rows not written since compare with those of the copy.

    Args:
        kept: why what leaves was not noted, None where it was.
        coming: why what comes was not; then nothing can be compared after the exchange.
    """

    kept: NoteResult | None = None
    coming: NoteResult | None = None

    def to_json(self) -> dict[str, Json]:
        """Return it as JSON values."""
        found = super().to_json()
        notes = {"kept": self.kept, "coming": self.coming}
        for name in notes:
            found.pop(name, None)
        return {**found, **{name: note.to_json() for name, note in notes.items() if note is not None}}


class NoteCopiesStep(Arguments[NoteCopiesResult], frozen=True, kw_only=True):
    """Note what both clusters hold, for the second check.

    Args:
        name: of the side instance that comes, "" where a kept directory does.
        kept: where the live one goes.
    """

    action: ClassVar[str] = "db_note_copies"
    name: str
    kept: str


class CompareCopyStep(Arguments[ComparisonResult], frozen=True, kw_only=True):
    """Compare the server that answers with what was noted of the new cluster; as of `ExchangeStep`."""

    action: ClassVar[str] = "db_compare_copy"
    incoming: str
    kept: str
    name: str


class RunningResult(Result, frozen=True, kw_only=True):
    """Whether the server runs."""

    running: bool


class StopServerStep(Arguments[RunningResult], frozen=True, kw_only=True):
    """Stop the live server."""

    action: ClassVar[str] = "db_stop_server"
    data_directory: str


class StartServerStep(Arguments[RunningResult], frozen=True, kw_only=True):
    """Start the server."""

    action: ClassVar[str] = "db_start_server"
    data_directory: str


class ExchangeResult(Result, frozen=True, kw_only=True):
    """The path where the former data directory is kept."""

    kept: str


class ExchangeStep(Arguments[ExchangeResult], frozen=True, kw_only=True):
    """Move a data directory in, and the live one out.

    Args:
        data_directory: the live one.
        incoming: the new one.
        kept: where the live one goes.
        system_identifier, database: of the server that must answer afterwards.
        name: of the side instance that comes, "" when none does.
    """

    action: ClassVar[str] = "db_exchange"
    data_directory: str
    incoming: str
    kept: str
    system_identifier: str
    database: str
    name: str = ""


class SwappedResult(Result, frozen=True, kw_only=True):
    """The live database's own account of itself after a swap."""

    data_directory: str
    incoming: str
    kept: str
    system_identifier: str
    database: str
    timeline: int
    lsn: str
    migration_head: str | None


class SwappedStep(Arguments[SwappedResult], frozen=True, kw_only=True):
    """Read back which server answers; as of `ExchangeStep`."""

    action: ClassVar[str] = "db_read_back"
    data_directory: str
    incoming: str
    kept: str
    system_identifier: str
    database: str


class AlsoBackRecord(Record, frozen=True, kw_only=True):
    """One thing that goes back too: `model.database.also_back.AlsoBack`; `word` is what agrees to it."""

    kind: AlsoKind
    name: str = ""
    count: int | None = None
    text: str = ""
    word: str = ""

    @classmethod
    def of(cls, thing: AlsoBack) -> AlsoBackRecord:
        """Return what is recorded of a thing."""
        return cls(kind=thing.kind, name=thing.name, count=thing.count, text=thing.text, word=thing.word)

    @property
    def thing(self) -> AlsoBack:
        """The thing itself."""
        return AlsoBack(self.kind, self.name, self.count, self.text)


class ComesRecord(Record, frozen=True, kw_only=True):
    """The cluster that comes: its timelines, each with the position at which it is left; when its files were copied."""

    way: tuple[tuple[int, str], ...]
    copied_at: float
    undo: bool


class AlsoBackResult(Result, frozen=True, kw_only=True):
    """What goes back too, as the last look before the stop found it.

    Args:
        counted_to: position up to which rows of other databases were counted, 0: not at all.
        databases: object id and name.
        superuser: the cluster's own, "" where it does not answer.
        sequences: by database: object id, name, and the file that holds it.
    """

    things: tuple[AlsoBackRecord, ...]
    counted_to: int = 0
    databases: tuple[tuple[int, str], ...] = ()
    superuser: str = ""
    sequences: dict[str, tuple[tuple[int, str, str], ...]] = msgspec.field(default_factory=dict)


class AlsoBackStep(Arguments[AlsoBackResult], frozen=True, kw_only=True):
    """Check that no more goes back than was agreed to.

    Args:
        incoming, name, system_identifier: as of `ExchangeStep`.
        things: what was shown.
        accepted: the words of consent.
        again: the command that shows it again.
    """

    action: ClassVar[str] = "db_also_back"
    incoming: str
    name: str
    system_identifier: str
    comes: ComesRecord
    things: tuple[AlsoBackRecord, ...]
    accepted: tuple[str, ...] = ()
    again: str = ""


class SequencesStep(Arguments[Carried], frozen=True, kw_only=True):
    """Advance sequences past the values handed out before; `superuser` is the cluster's own."""

    action: ClassVar[str] = "db_sequences"
    data_directory: str
    incoming: str
    superuser: str
