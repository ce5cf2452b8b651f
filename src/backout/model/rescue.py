"""A damage in the rows of a database, and what a rescue makes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.chains import Chain, Image, Stop


@dataclass(frozen=True, slots=True)
class Written:
    """An id under which something was committed between two branches; `xid` as rows carry it (32 bits).

    Args:
        at: when it was committed, None where the server does not record it. changes_schema: rows of the catalog carry
            the id.
    """

    xid: int
    at: float | None = None
    changes_schema: bool = False


@dataclass(frozen=True, slots=True)
class Damage:
    """What a rescue takes back.

    Args:
        xids: every id under which the damage was written. written: the relations it wrote to, as file nodes of the
            database `database`, each with the kinds of records; None where there is no WAL that tells, so that every
            table is compared. conflicts: `live` keeps a row that was changed again, `side` overwrites it. skip: tables
            that are left alone, as `schema.table`. exact: nothing but the damage was committed between before and
            after, so that a row that is gone is the damage's. chains: of several transactions together the rows that
            they wrote to; None of one alone. images: versions in between, by when they were read, file node and place.
            others: file nodes that good transactions wrote to meanwhile. unknown: into which rows were copied whose
            places the WAL does not tell. removed: (file node, place) of rows that good ones alone wrote, and deleted.
    """

    xids: frozenset[int]
    written: tuple[tuple[int, tuple[str, ...]], ...] | None
    conflicts: str = "live"
    skip: tuple[str, ...] = ()
    queues: bool = False
    exact: bool = True
    chains: tuple[Chain, ...] | None = None
    images: Mapping[tuple[Stop, int, str], Image] = field(default_factory=dict)
    others: frozenset[int] = frozenset()
    unknown: frozenset[int] = frozenset()
    removed: tuple[tuple[int, str], ...] = ()


RENAMED = "not brought back, since their name or type was changed"
"""What is said of columns of a table whose rows come back."""


@dataclass(frozen=True, slots=True)
class TableRescue:
    """What a rescue does to one table, in rows.

    Args:
        columns: the ones that were damaged. updated, inserted, deleted: rows written. conflicts: rows that somebody
            changed again since, or that could not be written (`unwritten`, in a dry run those that it foresees);
            `examples` their keys. triggers: that are kept from firing. left: why it is left alone.
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


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something of the damage that did not come back, or that nobody can see.

    Args:
        what: such as `NOT NULL of public.users.email`. reason: why. sql: how to do it by hand, "" without a way.
        seen: whether it is known to be damaged; else it is only not known to be whole. asked: a person wanted it so.
    """

    what: str
    reason: str
    sql: str = ""
    seen: bool = True
    asked: bool = False


@dataclass(frozen=True, slots=True)
class DefinitionDifference:
    """What of one definition is other than before the damage, whoever changed it.

    Args:
        what: such as `index public.users_email`. before, live: the lines that the other has not, "" for none.
    """

    what: str
    before: str
    live: str


@dataclass(frozen=True, slots=True)
class RescueReport:
    """What a rescue does: definitions that come back, rows by table, and what it cannot do.

    Args:
        left_out: what of the damage is not taken back. differences: of the definitions before the damage and live ones
            after the rescue.
    """

    definitions: tuple[str, ...]
    tables: tuple[TableRescue, ...]
    notes: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    differences: tuple[DefinitionDifference, ...] = ()
