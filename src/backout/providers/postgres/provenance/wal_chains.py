"""Follows rows through the lines of pg_waldump: the places of a row, write by write; pure.

In the WAL a row is identified only by its place, and each update's record gives the old place and the new one. What a
transaction wrote counts from its commit on, and two of them never write one row at the same time, so that the order of
commits is that of a row's versions.

Source: PostgreSQL 18, src/backend/access/rmgrdesc/heapdesc.c; src/backend/access/heap/heapam.c (a write to a page that
was all-visible names a block of the visibility map beside the row's: so does 18.6); "Database Page Layout".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from backout.model.database.chains import Bad, Chain, Followed, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from backout.model.database.recovery import Commit

_BLOCK: Final = re.compile(r"blkref #(\d+): rel \d+/(\d+)/(\d+) blk (\d+)")
"""A block of a table itself: of one in another fork, such as the visibility map, pg_waldump names the fork."""
_OFF: Final = re.compile(r"[ ,](?:old_)?off: (\d+)")
_NEW: Final = re.compile(r"new_off: (\d+)")
_LIST: Final = re.compile(r"offsets: \[([^\]]*)\]")
_MANY: Final = re.compile(r"ntuples: (\d+)")
KINDS: Final = frozenset({"INSERT", "UPDATE", "HOT_UPDATE", "DELETE", "MULTI_INSERT"})
Place = tuple[int, int, int]
"""(file node, block, line)."""
_Change = tuple[int, Place | None, Place | None]


class Follower:
    """Follows the rows of some tables through the WAL."""

    def __init__(self, bad: Bad) -> None:
        self._bad = bad
        self._under_way: dict[int, list[_Change]] = {}
        self._rows: dict[Place, _Row] = {}
        self._done: list[_Row] = []
        self._number = 0
        self._began = False
        self._others: set[int] = set()
        self._unknown: set[int] = set()

    def read(self, lines: Iterable[str], commit_of: Callable[[str], Commit | None]) -> Followed:
        """Return the rows that bad transactions wrote to; `lines` begin before any of their writers did."""
        for line in lines:
            head, _, rest = line.partition(", lsn:")
            kind = rest.partition("desc: ")[2].partition(" ")[0].partition("+")[0]
            if kind in KINDS:
                self._change(int(head.rpartition("tx:")[2]), kind, rest)
            elif kind.startswith("COMMIT"):
                commit = commit_of(line)
                if commit is not None:
                    self._commit(commit)
                    if commit.lsn >= self._bad.end_lsn:
                        break
        rows = [row for row in (*self._done, *self._rows.values()) if any(step.bad for step in row.steps)]
        chains = tuple(Chain(row.node, row.first, tuple(row.steps)) for row in rows)
        removed = [row for row in self._done if row.first is not None and not any(step.bad for step in row.steps)]
        places = tuple((row.node, row.first) for row in removed if row.first is not None)
        return Followed(chains, frozenset(self._others), frozenset(self._unknown), places)

    def _change(self, xid: int, kind: str, rest: str) -> None:
        node = find_node(rest, self._bad.database)
        if node not in self._bad.nodes:
            return
        changes = self._under_way.setdefault(xid, [])
        self._number += 1
        moves = moves_of(kind, rest)
        if moves is None:
            self._unknown.add(node)
            return
        changes += [(self._number, *move) for move in moves]

    def _commit(self, commit: Commit) -> None:
        if not self._began and commit.lsn >= self._bad.begin_lsn:
            self._began = True
            self._rows.clear()  # what was written until now, the first version that is read has
            self._done.clear()
        bad = commit.xid in self._bad.xids
        changes = sorted((change for xid in commit.xids for change in self._under_way.pop(xid, ())), key=lambda c: c[0])
        touched: dict[int, _Row] = {}
        for _, before, after in changes:
            row = self._rows.pop(before, None) if before is not None else None
            if row is None:
                node = (before or after or (0,))[0]
                row = _Row(node, None if before is None else _format_place(before))
            touched[id(row)] = row
            row.place = after
            if after is not None:
                self._rows[after] = row
            else:
                self._done.append(row)
        for row in touched.values():
            if self._began and not bad:
                self._others.add(row.node)
            row.steps.append(Step(commit.lsn, bad, None if row.place is None else _format_place(row.place)))


def find_node(rest: str, database: int) -> int:
    """Return the file node that a record wrote to first, 0 where it wrote to none in this database."""
    found = _BLOCK.search(rest)
    return int(found[3]) if found is not None and found[1] == "0" and int(found[2]) == database else 0


def moves_of(kind: str, rest: str) -> list[tuple[Place | None, Place | None]] | None:
    """Return from which place to which each row of a record went (None: it was not there, or is gone).

    Returns:
        None where rows were copied in and the record does not show to which places.
    """
    found = _BLOCK.findall(rest)
    blocks = {int(number): (int(file), int(block)) for number, _, file, block in found}
    node, block = blocks[0]
    if kind == "MULTI_INSERT":
        listed, many = _LIST.search(rest), _MANY.search(rest)
        if listed is not None:
            offsets = [int(text) for text in listed[1].split(",")]
        elif "+INIT" in rest and many is not None:
            offsets = list(range(1, int(many[1]) + 1))
        else:
            return None
        return [(None, (node, block, offset)) for offset in offsets]
    off, new = _OFF.search(rest), _NEW.search(rest)
    old_block = blocks.get(1, blocks[0])[1]
    before = (node, old_block, int(off[1])) if off is not None and kind != "INSERT" else None
    after = (node, block, int((new or off)[1])) if off is not None and kind != "DELETE" else None
    return [(before, after)]


class _Row:
    """A row being followed; `place` is its current position."""

    def __init__(self, node: int, first: str | None) -> None:
        self.node = node
        self.first = first
        self.place: Place | None = None
        self.steps: list[Step] = []


def _format_place(place: Place) -> str:
    return f"({place[1]},{place[2]})"
