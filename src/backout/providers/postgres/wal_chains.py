"""Which row became which, from the lines of pg_waldump: the places of a row, write by write; pure.

A row has no name in the WAL but its place, and each record of an update says from which place to which. What a
transaction wrote counts from its commit on, and two of them never write one row at the same time, so that the order of
commits is that of a row's versions.

Source: PostgreSQL 18, src/backend/access/rmgrdesc/heapdesc.c; "Database Page Layout".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from backout.model.chains import Bad, Chain, Followed, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from backout.model.recovery import Commit

_BLOCK: Final = re.compile(r"blkref #(\d+): rel \d+/(\d+)/(\d+)(?: fork \w+)? blk (\d+)")
_OFF: Final = re.compile(r"[ ,](?:old_)?off: (\d+)")
_NEW: Final = re.compile(r"new_off: (\d+)")
_LIST: Final = re.compile(r"offsets: \[([^\]]*)\]")
_MANY: Final = re.compile(r"ntuples: (\d+)")
_KINDS: Final = frozenset({"INSERT", "UPDATE", "HOT_UPDATE", "DELETE", "MULTI_INSERT"})
_Place = tuple[int, int, int]
_Change = tuple[int, _Place | None, _Place | None]


class Follower:
    """Follows the rows of some tables through the WAL."""

    def __init__(self, bad: Bad) -> None:
        self._bad = bad
        self._under_way: dict[int, list[_Change]] = {}
        self._rows: dict[_Place, _Row] = {}
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
            if kind in _KINDS:
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
        found = _BLOCK.findall(rest)
        blocks = {int(number): (int(base), int(file), int(block)) for number, base, file, block in found}
        if 0 not in blocks:
            return
        database, node, block = blocks[0]
        if database != self._bad.database or node not in self._bad.nodes:
            return
        changes = self._under_way.setdefault(xid, [])
        self._number += 1
        if kind == "MULTI_INSERT":
            listed, many = _LIST.search(rest), _MANY.search(rest)
            if listed is not None:
                offsets = [int(text) for text in listed[1].split(",")]
            elif "+INIT" in rest and many is not None:
                offsets = list(range(1, int(many[1]) + 1))
            else:
                self._unknown.add(node)
                return
            changes += [(self._number, None, (node, block, offset)) for offset in offsets]
            return
        off, new = _OFF.search(rest), _NEW.search(rest)
        old_block = blocks.get(1, blocks[0])[2]
        before = (node, old_block, int(off[1])) if off is not None and kind != "INSERT" else None
        after = (node, block, int((new or off)[1])) if off is not None and kind != "DELETE" else None
        changes.append((self._number, before, after))

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
                row = _Row(node, None if before is None else _shown(before))
            touched[id(row)] = row
            row.place = after
            if after is not None:
                self._rows[after] = row
            else:
                self._done.append(row)
        for row in touched.values():
            if self._began and not bad:
                self._others.add(row.node)
            row.steps.append(Step(commit.lsn, bad, None if row.place is None else _shown(row.place)))


class _Row:
    """A row on its way; `place` is where it lies now."""

    def __init__(self, node: int, first: str | None) -> None:
        self.node = node
        self.first = first
        self.place: _Place | None = None
        self.steps: list[Step] = []


def _shown(place: _Place) -> str:
    return f"({place[1]},{place[2]})"
