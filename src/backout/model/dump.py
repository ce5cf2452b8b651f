"""A logical copy of a database, and what proves it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TableContent:
    """How many rows a table has; `checksum` over all of them, "" when it was not asked for."""

    name: str
    rows: int
    checksum: str = ""


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restored dump holds; `left_out` is what only a superuser makes, in words: it was not restored."""

    tables: tuple[TableContent, ...]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Dump:
    """A dump that is complete.

    Args:
        id: sorts by time. tables: what the source held in the very snapshot that was dumped.
        size_bytes: as kept. sha256: of what pg_dump wrote.
        encoding: the database's, which a restore needs as well.
        verified_at: when a restore of it held the same, None before; `problem` is why it does not, or "".
        not_proved: what that restore left out, in words. not_compared: what holds rows and is not among `tables`.
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

    @property
    def rows(self) -> int:
        """All rows."""
        return sum(table.rows for table in self.tables)
