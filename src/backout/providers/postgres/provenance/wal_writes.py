"""The writes that pg_waldump's lines tell of: of rows, of sequences, and of what is not known here.

Source: PostgreSQL 18, src/include/access/rmgrlist.h (the resource managers). Indexes and maps change only with rows;
records of a resource manager that an extension brought are taken for writes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterator

_LINE: Final = re.compile(r"rmgr: (\S+)\s.*? tx:\s*(\d+), .*?desc: (\w*)")
_BLOCK: Final = re.compile(r"blkref #\d+: rel \d+/(\d+)/(\d+) (fork \w+ )?blk")
_NO_ROWS: Final = frozenset(
    {
        *("XLOG", "Transaction", "Storage", "CLOG", "Database", "Tablespace", "MultiXact", "RelMap", "Standby"),
        *("Btree", "Hash", "Gin", "Gist", "SPGist", "BRIN", "CommitTs", "ReplicationOrigin", "LogicalMessage"),
    }
)
_UPKEEP: Final = re.compile(r"PRUNE|VISIBLE|FREEZE|VACUUM|CLEAN|REWRITE|NEW_CID")
"""Of the resource manager Heap2: what vacuum and readers do too, and what only logical decoding reads."""


class RowWrite(Value, frozen=True):
    """A record with which a transaction changed a relation.

    Args:
        database: 0 for a shared catalog.
        node: the relation's file node.
        kind: as pg_waldump calls it.
    """

    xid: int
    database: int
    node: int
    kind: str


def list_row_writes(line: str) -> Iterator[RowWrite]:
    """Yield the writes of one line of pg_waldump."""
    found = _LINE.match(line)
    if found is None or found[2] == "0" or found[1] in _NO_ROWS:
        return
    if found[1] == "Heap2" and _UPKEEP.match(found[3]):
        return
    for database, node, fork in _BLOCK.findall(line):
        if not fork:
            yield RowWrite(int(found[2]), int(database), int(node), found[3])
