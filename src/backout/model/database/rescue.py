"""A damage in the rows of a database, and what a rescue does about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET, UnsetType, field
from msgspec.structs import replace

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.database.chains import Chain, Image, Stay


class Written(Value, frozen=True):
    """The id of a transaction committed between two branches; `xid` as stored in rows (32 bits).

    Args:
        at: when it was committed, None where the server does not record it.
        changes_schema: rows of the catalog carry the id.
    """

    xid: int
    at: float | None = None
    changes_schema: bool = False


class Damage(Value, frozen=True):
    """The damage that a rescue repairs.

    Args:
        xids: all transaction ids of the damage.
        written: the relations it wrote to, as file nodes of the database `database`, each with the kinds of records;
            None where there is no WAL that tells, so that every table is compared.
        conflicts: `live` keeps a row that was changed since, `side` overwrites it; `new-keys` keeps it, and gives new
            numbers to old rows whose numbers were handed out again.
        skip: tables to leave alone, as `schema.table`.
        exact: only the damage was committed between before and after, so that it must have deleted any row that is
            gone.
        chains: of several transactions together the rows that they wrote to; None of one alone.
        images: versions in between, by how long they were there, file node and place.
        others: file nodes that good transactions wrote to meanwhile.
        unknown: into which rows were copied whose places the WAL does not tell.
        removed: (file node, place) of rows that good ones alone wrote, and deleted.
    """

    xids: frozenset[int]
    written: tuple[tuple[int, tuple[str, ...]], ...] | None
    conflicts: str = "live"
    skip: tuple[str, ...] = ()
    queues: bool = False
    exact: bool = True
    chains: tuple[Chain, ...] | None = None
    images: Mapping[tuple[Stay, int, str], Image] = field(default_factory=dict)
    others: frozenset[int] = frozenset()
    unknown: frozenset[int] = frozenset()
    removed: tuple[tuple[int, str], ...] = ()

    @property
    def keeps_newer(self) -> bool:
        """Whether a row that was changed since stays as it is."""
        return self.conflicts != "side"

    @property
    def gives_new_keys(self) -> bool:
        """Whether old rows get new numbers where theirs were handed out again."""
        return self.conflicts == NEW_KEYS

    @property
    def checked(self) -> Damage:
        """The damage as the check after a rescue asks for it: numbers that were given count, and no more are given."""
        return replace(self, conflicts="live") if self.gives_new_keys else self


NEW_KEYS = "new-keys"
RENAMED = "not brought back, since their name or type was changed"
"""What is said of columns of a table whose rows come back."""


class TableRescue(Value, frozen=True):
    """What a rescue does to one table, in rows.

    Args:
        columns: the damaged ones.
        updated, inserted, deleted: rows written.
        conflicts: rows that were changed again since, or that could not be written (`unwritten`, in a dry run those
            that it foresees); `examples` their keys.
        renumbered: rows among the inserted ones, of this rescue and earlier ones of the same damage, that have new keys
            since newer rows have theirs; not there where there are none.
        triggers: those that are kept from firing.
        left: why the table is left alone.
    """

    table: str
    columns: tuple[str, ...] = ()
    updated: int = 0
    inserted: int = 0
    deleted: int = 0
    conflicts: int = 0
    examples: tuple[str, ...] = ()
    triggers: tuple[str, ...] = ()
    left: str = ""
    unwritten: int = 0
    renumbered: int | UnsetType = UNSET

    @property
    def is_left_alone(self) -> bool:
        """Whether none of its rows comes back; where a column was renamed all other columns do."""
        return bool(self.left) and not self.left.startswith(RENAMED)


class LeftOut(Value, frozen=True):
    """A part of the damage that was not repaired, or that cannot be determined.

    Args:
        what: such as `NOT NULL of public.users.email`.
        reason: why.
        sql: how to repair it by hand, "" for no way.
        seen: whether it is known to be damaged; otherwise it may be.
        asked: a person asked for it.
    """

    what: str
    reason: str
    sql: str = ""
    seen: bool = True
    asked: bool = False


class DefinitionDifference(Value, frozen=True):
    """How one definition differs from before the damage, whatever changed it.

    Args:
        what: such as `index public.users_email`.
        before, live: the lines that only this one has, "" for none.
    """

    what: str
    before: str
    live: str


class RescueReport(Value, frozen=True):
    """The result of a rescue: restored definitions, rows by table, and what it cannot do.

    Args:
        left_out: the damage that is not repaired.
        differences: of the definitions before the damage and live ones after the rescue.
    """

    definitions: tuple[str, ...]
    tables: tuple[TableRescue, ...]
    notes: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    differences: tuple[DefinitionDifference, ...] = ()

    @property
    def leaves_something(self) -> bool:
        """Whether rows or definitions stay as they were found."""
        return bool(self.left_out) or any(each.left or each.conflicts for each in self.tables)

    @property
    def left_alone(self) -> frozenset[str]:
        """The tables of which no row comes back."""
        return frozenset(each.table for each in self.tables if each.is_left_alone)
