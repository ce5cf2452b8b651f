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
_WRITES: Final = st.lists(
    st.tuples(st.sampled_from(("INSERT", "DELETE", "UPDATE")), st.sampled_from((_NODE, _OTHER)), st.integers(0, 9)),
    max_size=5,
)
_HISTORIES: Final = st.permutations((_DAMAGE, _OURS, _GOOD, _LATER)).flatmap(
    lambda order: st.tuples(*(st.tuples(st.just(xid), _WRITES) for xid in order))
)
"""Transactions one after another, each with what it writes and to which row that is there: (kind, node, which)."""


def _write(kind: str, xid: int, node: int, line: int, new: int, lsn: int) -> str:
    desc = f"old_off: {line}, new_off: {new}" if kind == "UPDATE" else f"off: {line}"
    return (
        f"rmgr: Heap  len (rec/tot): 59/59, tx: {xid}, lsn: {show_lsn(lsn)}, prev 0/0, "
        f"desc: {kind} {desc}, blkref #0: rel 1663/{_DATABASE}/{node} blk 0"
    )


def _commit(xid: int, lsn: int) -> str:
    return f"rmgr: Transaction len (rec/tot): 34/34, tx: {xid}, lsn: {show_lsn(lsn)}, prev 0/0, desc: COMMIT now"


def _read_commit(line: str) -> Commit:
    head, _, rest = line.partition(", lsn:")
    return Commit(xid=int(head.rpartition("tx:")[2]), lsn=parse_lsn(rest.partition(",")[0].strip()), timeline=1, at=0.0)


def _lay_out(history: Sequence[tuple[int, Sequence[tuple[str, int, int]]]]) -> tuple[list[str], int]:
    """Return the lines of a history, each write of a row that is there, and the position of the damage's COMMIT."""
    lines, lsn, begin, line = [], 0x1000, 0x1000, 5
    there = {_NODE: [1, 2, 3], _OTHER: [1, 2, 3]}
    for xid, writes in history:
        for kind, node, which in writes:
            rows = there[node]
            if kind != "INSERT" and not rows:
                continue
            at = line if kind == "INSERT" else rows.pop(which % len(rows))
            rows += [] if kind == "DELETE" else [line if kind == "INSERT" else line + 1]
            lines.append(_write(kind, xid, node, at, line + 1, lsn := lsn + 64))
            line += 2
        lines.append(_commit(xid, lsn := lsn + 64))
        begin = lsn if xid == _DAMAGE else begin
    return lines, begin


def _make_sought(begin: int, *more: int) -> Sought:
    return Sought(_DATABASE, frozenset({_NODE}), frozenset({_DAMAGE}), frozenset({_OURS, *more}), begin)


@given(_HISTORIES)
def test_where_the_first_look_finds_no_removal_there_is_none(
    history: Sequence[tuple[int, Sequence[tuple[str, int, int]]]],
) -> None:
    lines, begin = _lay_out(history)
    sought = _make_sought(begin)
    found = list(Removals(sought).read(lines, _read_commit))
    assert has_removals(lines, sought) or not found


def test_a_row_that_was_made_anew_and_removed_is_found_by_both() -> None:
    history = [(_DAMAGE, [("DELETE", _NODE, 0)]), (_GOOD, [("INSERT", _NODE, 0)]), (_LATER, [("DELETE", _NODE, 2)])]
    lines, begin = _lay_out(history)
    assert [node for node, _ in Removals(_make_sought(begin)).read(lines, _read_commit)] == [_NODE]
    assert has_removals(lines, _make_sought(begin))
    assert not has_removals(lines[:-2], _make_sought(begin)), "the damage's own removal is none of others"
    assert not has_removals(lines, _make_sought(begin, _LATER))
