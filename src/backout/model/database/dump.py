"""A logical copy of a database, and its proof."""

from __future__ import annotations

from msgspec import field

from backout.model.value import Value


class TableContent(Value, frozen=True):
    """A table's row count; `checksum` over all rows, "" when it was not asked for."""

    name: str
    rows: int
    checksum: str = ""


class Figures(Value, frozen=True):
    """The content of the dumped snapshot beside its rows, as read by our own SQL.

    Args:
        server_version: of the source, as libpq says it (180006).
        definitions: a digest of each by its name.
        sequences: (the last value that was handed out, increment, whether it cycles) by name.
        large_objects: size and digest by id.
        owners, privileges: each as the statement that sets it.
        not_noted: what could not be read, with the reason.
    """

    server_version: int
    definitions: dict[str, str] = field(default_factory=dict)
    sequences: dict[str, tuple[int | None, int, bool]] = field(default_factory=dict)
    large_objects: dict[str, str] = field(default_factory=dict)
    owners: tuple[str, ...] = ()
    privileges: tuple[str, ...] = ()
    not_noted: tuple[str, ...] = ()


class DumpCheck(Value, frozen=True):
    """A restored database compared with the figures of its dump: the second check.

    Args:
        tables, rows, definitions, sequences, large_objects: how many were compared.
        differs: what differs from the dump, in words.
        not_compared: what was not compared, with the reason.
        not_restored: owners and privileges that differ from before, each as the statement that sets it.
        failed: why nothing could be compared, else "".
    """

    tables: int = 0
    rows: int = 0
    definitions: int = 0
    sequences: int = 0
    large_objects: int = 0
    differs: tuple[str, ...] = ()
    not_compared: tuple[str, ...] = ()
    not_restored: tuple[str, ...] = ()
    failed: str = ""

    def with_more(self, other: DumpCheck) -> DumpCheck:
        """Return both as one."""
        return DumpCheck(
            self.tables + other.tables,
            self.rows + other.rows,
            self.definitions + other.definitions,
            self.sequences + other.sequences,
            self.large_objects + other.large_objects,
            self.differs + other.differs,
            self.not_compared + other.not_compared,
            self.not_restored + other.not_restored,
            "; ".join(filter(None, (self.failed, other.failed))),
        )


class Restored(Value, frozen=True):
    """The content of a restored dump; `left_out`, in words, is what only a superuser creates and was not restored."""

    tables: tuple[TableContent, ...]
    left_out: tuple[str, ...] = ()
    check: DumpCheck = DumpCheck()


class Dump(Value, frozen=True):
    """A dump that is complete.

    Args:
        id: sorts by time.
        tables: the content of the source in the very snapshot that was dumped.
        size_bytes: as stored.
        sha256: of pg_dump's output.
        encoding: the database's, which a restore needs too.
        verified_at: when a restore of it held the same, None before; `problem` is why it does not, or "".
        not_proved: what the restore left out, in words.
        not_compared: what holds rows but is not among `tables`.
        figures: what a restore of it is compared with; None where `no_figures` says why, "": of an earlier version.
    """

    id: str
    began_at: float
    ended_at: float
    database: str
    server_version: int
    size_bytes: int
    sha256: str
    tables: tuple[TableContent, ...]
    encoding: str = "UTF8"
    verified_at: float | None = None
    problem: str = ""
    not_proved: tuple[str, ...] = ()
    not_compared: tuple[str, ...] = ()
    figures: Figures | None = None
    no_figures: str = ""

    @property
    def rows(self) -> int:
        """All rows."""
        return sum(table.rows for table in self.tables)
