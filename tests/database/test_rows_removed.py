"""Rows that others removed, followed through the lines of pg_waldump, and the first look whether there are any."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hypothesis import given
from hypothesis import strategies as st

from backout.model.database.recovery import Commit
from backout.model.database.removed import Sought
from backout.model.database.wal import parse_lsn, show_lsn
from backout.providers.postgres.provenance.wal_removed import Removals, has_removals

if TYPE_CHECKING:
    from collections.abc import Sequence

_DATABASE, _NODE, _OTHER = 5, 100, 200
_DAMAGE, _OURS, _GOOD, _LATER = 10, 11, 12, 13
_WRITES: Final = st.tuples(
    st.sampled_from(("INSERT", "DELETE", "UPDATE")),
    st.sampled_from((_DAMAGE, _OURS, _GOOD, _LATER)),
    st.sampled_from((_NODE, _OTHER)),
    st.integers(1, 3),
)


def _write(kind: str, xid: int, node: int, line: int, lsn: int) -> str:
    desc = f"old_off: {line}, new_off: {line + 1}" if kind == "UPDATE" else f"off: {line}"
    return (
        f"rmgr: Heap  len (rec/tot): 59/59, tx: {xid}, lsn: {show_lsn(lsn)}, prev 0/0, "
        f"desc: {kind} {desc}, blkref #0: rel 1663/{_DATABASE}/{node} blk 0"
    )


def _commit(xid: int, lsn: int) -> str:
    return f"rmgr: Transaction len (rec/tot): 34/34, tx: {xid}, lsn: {show_lsn(lsn)}, prev 0/0, desc: COMMIT now"


def _read_commit(line: str) -> Commit:
    head, _, rest = line.partition(", lsn:")
    return Commit(xid=int(head.rpartition("tx:")[2]), lsn=parse_lsn(rest.partition(",")[0].strip()), timeline=1, at=0.0)


def _lay_out(writes: Sequence[tuple[str, int, int, int]]) -> tuple[list[str], int]:
    """Return the lines of writes, each transaction's COMMIT at its last one, and the position of the damage's."""
    lines, lsn, begin = [], 0x1000, 0x1000
    last = {xid: number for number, (_, xid, *_) in enumerate(writes)}
    for number, (kind, xid, node, line) in enumerate(writes):
        lines.append(_write(kind, xid, node, line, lsn := lsn + 64))
        if last[xid] == number:
            lines.append(_commit(xid, lsn := lsn + 64))
            begin = lsn if xid == _DAMAGE else begin
    return lines, begin


@given(st.lists(_WRITES, max_size=12))
def test_where_the_first_look_finds_no_removal_there_is_none(writes: list[tuple[str, int, int, int]]) -> None:
    lines, begin = _lay_out(writes)
    sought = Sought(_DATABASE, frozenset({_NODE}), frozenset({_DAMAGE}), frozenset({_OURS}), begin)
    found = list(Removals(sought).read(lines, _read_commit))
    assert has_removals(lines, sought) or not found


def test_a_row_that_was_made_anew_and_removed_is_found_by_both() -> None:
    writes = [("DELETE", _DAMAGE, _NODE, 1), ("INSERT", _GOOD, _NODE, 1), ("DELETE", _LATER, _NODE, 1)]
    lines, begin = _lay_out(writes)
    sought = Sought(_DATABASE, frozenset({_NODE}), frozenset({_DAMAGE}), frozenset({_OURS}), begin)
    assert [node for node, _ in Removals(sought).read(lines, _read_commit)] == [_NODE]
    assert has_removals(lines, sought)
    assert not has_removals(lines[:-2], sought), "the damage's own removal is none of others"
    ours = Sought(_DATABASE, frozenset({_NODE}), frozenset({_DAMAGE}), frozenset({_OURS, _LATER}), begin)
    assert not has_removals(lines, ours)
