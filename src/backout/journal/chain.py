"""Canonical JSON and the hash chain over events; the rule: a row's hash covers every column and the hash before it.

On a server a row has one column more, `writer`: the role that wrote it, as the server says. It is covered, too; rows
from before there was that column, and those that were moved there, have none, and the hash that they always had.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backout.model.plan import Json

Row = tuple[int, float, str, str, int | None, str, str, str, str, str]
"""(seq, at, environment, run, step, kind, data, actor, prev_hash, hash), as stored."""

WrittenRow = tuple[int, float, str, str, int | None, str, str, str, str, str, str | None]
"""The same, and the role that wrote it; None: the server does not say."""

COLUMNS = "seq, at, environment, run, step, kind, data, actor, prev_hash, hash"


def make_plain(value: object, place: str = "value") -> Json:
    """Return the value as plain JSON (tuples become lists, mappings dicts); nothing is coerced.

    Raises TypeError, naming the place, for anything that JSON would change or cannot hold: other types, keys that are
    no strings, NaN and infinities.

    >>> make_plain({"a": (1, None)})
    {'a': [1, None]}
    """
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"{place} is {value}, which JSON cannot hold")
        return value
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{place} has the key {key!r}; JSON keys are strings")
        return {key: make_plain(item, f"{place}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [make_plain(item, f"{place}[{index}]") for index, item in enumerate(value)]
    raise TypeError(f"{place} is a {type(value).__name__}; the journal takes JSON only")


def format_canonical(value: object, place: str = "value") -> str:
    """Return the one JSON text of the value: sorted keys, no spaces, ASCII. Raises TypeError as `make_plain` does."""
    return json.dumps(make_plain(value, place), sort_keys=True, separators=(",", ":"))


def hash_row(row: tuple[object, ...], writer: str | None = None) -> str:
    """Return the SHA-256 of a row's columns without its own hash, `prev_hash` last, and then who wrote it, if known."""
    covered = row if writer is None else (*row, writer)
    return hashlib.sha256(json.dumps(covered, separators=(",", ":")).encode()).hexdigest()


class ChainReport(Value, frozen=True):
    """The result of checking the chain: `count` good events, and the first bad seq (None when all is well)."""

    count: int
    broken_at: int | None = None
    why: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether every event is there as it was written."""
        return self.broken_at is None


def check(rows: Iterable[Row | WrittenRow], head: tuple[int, str]) -> ChainReport:
    """Return whether the rows (in order of seq) are the unbroken chain that ends at `head` (seq, hash)."""
    count, before = 0, ""
    for row in rows:
        seq = row[0]
        if seq != count + 1:
            where = min(seq, count + 1)
            what = f"event {where} is missing" if seq > count else f"event {seq} was never written by backout"
            return ChainReport(count, where, what)
        if row[8] != before:
            return ChainReport(count, seq, f"event {seq} does not follow event {count}")
        if hash_row(row[:9], *row[10:]) != row[9]:
            return ChainReport(count, seq, f"event {seq} was changed after it was written")
        count, before = seq, row[9]
    if count < head[0]:
        return ChainReport(count, count + 1, f"event {count + 1} is missing (the journal had {head[0]})")
    if (count, before) != head:
        return ChainReport(count, count, f"event {count} was added around the journal")
    return ChainReport(count)
