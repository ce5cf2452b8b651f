"""The writes of each transaction in some WAL, in rows by relation, from the lines of pg_waldump; pure.

Source: PostgreSQL 18, src/backend/access/rmgrdesc (heapdesc.c, smgrdesc.c, xactdesc.c): a heap record bears the id of
the savepoint that wrote it, the COMMIT record those of all its savepoints; a file that is made (`CREATE`) is how a new
table, a TRUNCATE and a rewrite begin.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from backout.model.database.transactions import TableWrites, Transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from backout.model.database.recovery import Commit

_BLOCK: Final = re.compile(r"blkref #\d+: rel \d+/(\d+)/(\d+) ")
_TUPLES: Final = re.compile(r"ntuples: (\d+)")
_MADE: Final = re.compile(r"desc: CREATE base/(\d+)/(\d+)")
_ENDED: Final = re.compile(r"desc: ABORT(?:_PREPARED (?P<own>\d+):)?")
_SUBXIDS: Final = re.compile(r"; subxacts:((?: \d+)+)")
_KINDS: Final = {
    "INSERT": "inserted",
    "MULTI_INSERT": "inserted",
    "UPDATE": "updated",
    "HOT_UPDATE": "updated",
    "DELETE": "deleted",
}
_NEW: Final = "made_anew"
_Node = tuple[int, int]
_Writes = dict[_Node, dict[str, int]]


def list_transactions(lines: Iterable[str], commit_of: Callable[[str], Commit | None]) -> Iterator[Transaction]:
    """Yield the transactions that were committed, in the order of the WAL.

    Args:
        lines: of heap, storage and transaction records.
        commit_of: reads a COMMIT record, None of any other.
    """
    under_way: dict[int, _Writes] = {}
    for line in lines:
        head, _, rest = line.partition(", lsn:")
        xid = int(head.rpartition("tx:")[2])
        kind = rest.partition("desc: ")[2].partition(" ")[0].partition("+")[0]
        if kind in _KINDS:
            _count(under_way.setdefault(xid, {}), kind, rest)
        elif kind == "CREATE":
            made = _MADE.search(rest)
            if made is not None and xid:
                under_way.setdefault(xid, {}).setdefault((int(made[1]), int(made[2])), {})[_NEW] = 1
        elif kind.startswith("COMMIT"):
            commit = commit_of(line)
            if commit is not None:
                yield Transaction(commit, _sum_writes([under_way.pop(each, {}) for each in commit.xids]))
        elif (ended := _ENDED.search(rest)) is not None:
            more = _SUBXIDS.search(rest)
            for each in (int(ended["own"] or xid), *(map(int, more[1].split()) if more else ())):
                under_way.pop(each, None)


def _count(writes: _Writes, kind: str, rest: str) -> None:
    block = _BLOCK.search(rest)
    if block is None:
        return
    many = _TUPLES.search(rest) if kind == "MULTI_INSERT" else None
    counts = writes.setdefault((int(block[1]), int(block[2])), {})
    counts[_KINDS[kind]] = counts.get(_KINDS[kind], 0) + (int(many[1]) if many else 1)


def _sum_writes(parts: list[_Writes]) -> tuple[TableWrites, ...]:
    whole: _Writes = {}
    for part in parts:
        for node, counts in part.items():
            into = whole.setdefault(node, {})
            for kind, count in counts.items():
                into[kind] = into.get(kind, 0) + count
    return tuple(
        TableWrites(
            database,
            node,
            inserted=counts.get("inserted", 0),
            updated=counts.get("updated", 0),
            deleted=counts.get("deleted", 0),
            made_anew=_NEW in counts,
        )
        for (database, node), counts in sorted(whole.items())
    )
