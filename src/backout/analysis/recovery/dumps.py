"""Which dumps may be pruned, whether a new one is due, and how two contents differ; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.recovery.ages import list_ages
from backout.model.database.capability import Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.database.dump import Dump, TableContent

_SHOWN = 3


def find_expired(dumps: Sequence[Dump], now: float, keep_s: float) -> tuple[Dump, ...]:
    """Return the dumps older than `keep_s`, never the newest verified one: it is the last that surely works."""
    best, ordered = find_newest_verified(dumps), sorted(dumps, key=lambda dump: dump.ended_at)
    age = dict(zip((dump.id for dump in ordered), list_ages([dump.ended_at for dump in ordered], now), strict=True))
    until = min([now, *(dump.ended_at for dump in ordered[-2:-1])])  # no single reading of a clock decides
    return tuple(dump for dump in dumps if min(age[dump.id], until - dump.ended_at) > keep_s and dump is not best)


def find_newest_verified(dumps: Sequence[Dump]) -> Dump | None:
    """Return the newest dump that a restore has proven."""
    proven = [dump for dump in dumps if dump.verified_at is not None]
    return max(proven, key=lambda dump: dump.began_at, default=None)


def is_due(dumps: Sequence[Dump], now: float, every_s: float) -> bool:
    """Whether the newest verified dump is older than `every_s`."""
    best = find_newest_verified(dumps)
    return best is None or now - best.began_at >= every_s


def find_window(dumps: Sequence[Dump]) -> Window:
    """Return what the verified dumps reach: their moments alone."""
    moments = [dump.began_at for dump in dumps if dump.verified_at is not None]
    return Window(len(moments), min(moments, default=None), max(moments, default=None))


def list_differences(wanted: Sequence[TableContent], found: Sequence[TableContent]) -> tuple[str, ...]:
    """Return what differs, one sentence a table; checksums are compared where both have one."""
    there = {table.name: table for table in found}
    said = []
    for table in wanted:
        other = there.get(table.name)
        if other is None:
            said.append(f"{table.name} is missing")
        elif other.rows != table.rows:
            said.append(f"{table.name} has {other.rows:,} rows instead of {table.rows:,}")
        elif table.checksum and other.checksum and table.checksum != other.checksum:
            said.append(f"{table.name} has the same {table.rows:,} rows with other content")
    return tuple(said)


def summarize(differing: Sequence[str]) -> str:
    """Return a few of them in one sentence.

    >>> summarize(["a is missing", "b is missing", "c is missing", "d is missing"])
    'a is missing; b is missing; c is missing; and 1 more'
    """
    more = len(differing) - _SHOWN
    return "; ".join([*differing[:_SHOWN], *([f"and {more} more"] if more > 0 else [])])
