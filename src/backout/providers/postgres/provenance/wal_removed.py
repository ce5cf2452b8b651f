"""Rows inserted and removed again within some WAL: the record that inserted each, and its content; pure but for files.

Their keys are found nowhere else. `pg_waldump` shows the places of a row and its removal, but not its content: that
is read from the record that inserted it.

Source: PostgreSQL 18, src/include/access (xlogrecord.h, xlog_internal.h, heapam_xlog.h, htup_details.h) and
src/backend/access/transam/xlogreader.c (DecodeXLogRecord); the same since version 15.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from backout.model.database.removed import StoredRow
from backout.model.database.wal import parse_lsn
from backout.providers.postgres.provenance.wal_chains import KINDS, find_node, moves_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from backout.model.database.recovery import Commit
    from backout.model.database.removed import Sought
    from backout.model.database.wal import WalSpan
    from backout.providers.postgres.provenance.wal_chains import Place

_PAGE: Final = 8192
_SHORT_HEADER, _LONG_HEADER = 24, 40
_RECORD: Final = struct.Struct("<IIQBBxxI")
_BLOCK: Final = struct.Struct("<BBH")
_IMAGE: Final = struct.Struct("<HHB")
_MOST: Final = 64 << 20
_LAST_BLOCK: Final = 32
_SHORT, _LONG = 255, 254
_OTHERS: Final = {_SHORT: 2, _LONG: 5, 253: 3, 252: 5}
"""Headers that are no block's, and how long they are: of the arguments, the origin, the topmost transaction."""
_HAS_IMAGE, _SAME_RELATION = 0x10, 0x80
_HAS_HOLE, _COMPRESSED = 0x01, 0x04 | 0x08 | 0x10
_HAS_NULLS, _COLUMNS = 0x0001, 0x07FF
_BITS: Final = 23
"""The bytes of a stored row before its null bits."""
_MULTI: Final = struct.Struct("<HHHB")
Birth = tuple[int, int]
"""(position of the record that made a row, which of its rows)."""


class Removals:
    """Finds the rows that good transactions made and others removed again."""

    def __init__(self, sought: Sought) -> None:
        self._sought = sought
        self._under_way: dict[int, list[tuple[int, Place | None, Place | None, Birth]]] = {}
        self._births: dict[Place, tuple[int, Birth]] = {}
        self._number = 0
        self.unknown: set[int] = set()

    def read(self, lines: Iterable[str], commit_of: Callable[[str], Commit | None]) -> Iterator[tuple[int, Birth]]:
        """Yield (file node, what made the row); `lines` begin before the damage does."""
        for line in lines:
            head, _, rest = line.partition(", lsn:")
            kind = rest.partition("desc: ")[2].partition(" ")[0].partition("+")[0]
            if kind in KINDS:
                self._change(int(head.rpartition("tx:")[2]), kind, rest)
            elif kind.startswith("COMMIT") and (commit := commit_of(line)) is not None:
                yield from self._commit(commit)

    def _change(self, xid: int, kind: str, rest: str) -> None:
        node = find_node(rest, self._sought.database)
        if node not in self._sought.nodes:
            return
        moves, lsn = moves_of(kind, rest), parse_lsn(rest.partition(",")[0].strip())
        if moves is None:
            self.unknown.add(node)
            return
        self._number += 1
        changes = self._under_way.setdefault(xid, [])
        changes += [(self._number, *move, (lsn, place)) for place, move in enumerate(moves)]

    def _commit(self, commit: Commit) -> Iterator[tuple[int, Birth]]:
        xids, sought = frozenset(commit.xids), self._sought
        changes = sorted((each for xid in xids for each in self._under_way.pop(xid, ())), key=lambda each: each[0])
        for _, before, after, record in changes:
            known = self._births.pop(before, None) if before is not None else None
            if after is not None:
                is_new = before is None and commit.lsn > sought.begin_lsn and not xids & sought.bad
                if known is not None or is_new:
                    self._births[after] = known or (commit.lsn, record)
            elif before is not None and known is not None and known[0] != commit.lsn and not xids & sought.ours:
                yield before[0], known[1]


def has_removals(lines: Iterable[str], sought: Sought) -> bool:
    """Whether others removed any row of these tables behind the damage: where none did, there is nothing to follow."""
    for line in lines:
        head, _, rest = line.partition(", lsn:")
        if "desc: DELETE" in rest and find_node(rest, sought.database) in sought.nodes:
            by_others = int(head.rpartition("tx:")[2]) not in sought.ours
            if by_others and parse_lsn(rest.partition(",")[0].strip()) > sought.begin_lsn:
                return True
    return False


def make_reader(folder: Path, spans: Sequence[WalSpan]) -> tuple[Callable[[int, int], bytes], int]:
    """Return what reads WAL that was laid out in a folder, and a segment's size in bytes."""
    with (folder / spans[0].names[0]).open("rb") as file:
        segment = int.from_bytes(file.read(_LONG_HEADER)[32:36], "little")

    def read(lsn: int, size: int) -> bytes:
        timeline = next((each.timeline for each in spans if each.begin_lsn <= lsn < each.end_lsn), spans[-1].timeline)
        place, each = lsn // segment, (1 << 32) // segment
        with (folder / f"{timeline:08X}{place // each:08X}{place % each:08X}").open("rb") as file:
            file.seek(lsn % segment)
            return file.read(size)

    return read, segment


def read_stored_row(read: Callable[[int, int], bytes], segment: int, birth: Birth) -> StoredRow | None:
    """Return a row as the record that made it shows it, None where it does not: its page was compressed.

    Args:
        read: returns the requested number of bytes of the WAL at a position; fewer where it ends.
        segment: a segment's size in bytes.
    """
    lsn, number = birth
    try:
        return _find_row(_read_record(read, segment, lsn), number)
    except (struct.error, IndexError, KeyError, OSError):
        return None


def _read_record(read: Callable[[int, int], bytes], segment: int, lsn: int) -> bytes:
    """Return a record without the headers of the pages that it lies on. Raises IndexError: it is not all there."""
    size = int.from_bytes(read(lsn, 4), "little")
    if not _RECORD.size <= size <= _MOST:
        raise IndexError
    whole, at = b"", lsn
    while len(whole) < size:
        if at % _PAGE == 0:
            at += _LONG_HEADER if at % segment == 0 else _SHORT_HEADER
        wanted = min(_PAGE - at % _PAGE, size - len(whole))
        found = read(at, wanted)
        if len(found) < wanted:
            raise IndexError
        whole += found
        at += wanted
    return whole


class _Parts(NamedTuple):
    """The needed parts of a record: its flags, the first block's page and data, and the arguments."""

    info: int
    image: tuple[bytes, int, int] | None
    data: bytes
    arguments: bytes


def _find_row(record: bytes, number: int) -> StoredRow | None:
    info, image, data, arguments = _split_record(record)
    many = info & 0x70 == 0x50
    if data:
        return _decode_many(data, number) if many else _decode_single(data[:5], data[5:])
    if image is None:
        return None
    if not many:
        line = int.from_bytes(arguments[0:2], "little")
    elif info & 0x80:  # the page was new, and the rows are all that it holds
        line = number + 1
    else:
        line = int.from_bytes(arguments[4 + 2 * number : 6 + 2 * number], "little")
    return _decode_page(*image, line)


def _split_record(record: bytes) -> _Parts:
    """Take a record apart: headers of blocks, then of the arguments, then what belongs to each in the same order."""
    at, left = _RECORD.size, 0
    image = (0, 0, 0)
    data_size = main = 0
    while len(record) - at > left:
        if (block := record[at]) > _LAST_BLOCK:
            size = _OTHERS[block]
            main = int.from_bytes(record[at + 1 : at + size], "little") if block in (_SHORT, _LONG) else main
            left += main
            at += size
            continue
        _, flags, size = _BLOCK.unpack_from(record, at)
        at += _BLOCK.size
        left += size
        if flags & _HAS_IMAGE:
            length, hole, kind = _IMAGE.unpack_from(record, at)
            at += _IMAGE.size + (2 if kind & _HAS_HOLE and kind & _COMPRESSED else 0)
            left += length
            image = (length, hole, kind) if block == 0 else image
        data_size = size if block == 0 else data_size
        at += (0 if flags & _SAME_RELATION else 12) + 4
    length, hole, kind = image
    data = at + length
    page = (record[at:data], hole, kind) if length else None
    return _Parts(_RECORD.unpack_from(record)[3], page, record[data : data + data_size], record[len(record) - main :])


def _decode_single(head: bytes, rest: bytes) -> StoredRow:
    """Return the row of an insert: a short header, and all of the row from its bits for nulls on."""
    flags, mask, begin = struct.unpack("<HHB", head)
    return _parse_stored_row(flags, mask, begin, rest)


def _decode_many(data: bytes, number: int) -> StoredRow:
    at = 0
    for _ in range(number + 1):
        at += at % 2
        size, flags, mask, begin = _MULTI.unpack_from(data, at)
        at += _MULTI.size
        rest, at = data[at : at + size], at + size
    return _parse_stored_row(flags, mask, begin, rest)


def _decode_page(image: bytes, hole: int, kind: int, line: int) -> StoredRow | None:
    """Return a row of a page as it was behind the insert; the hole in its middle is left out of the record."""
    if kind & _COMPRESSED:
        return None
    page = image[:hole] + bytes(_PAGE - len(image)) + image[hole:] if kind & _HAS_HOLE else image
    pointer = int.from_bytes(page[20 + 4 * line : 24 + 4 * line], "little")
    begin, size = pointer & 0x7FFF, pointer >> 17
    row = page[begin : begin + size]
    flags, mask, data = struct.unpack_from("<HHB", row, 18)
    return _parse_stored_row(flags, mask, data, row[_BITS:])


def _parse_stored_row(flags: int, mask: int, begin: int, rest: bytes) -> StoredRow:
    columns = flags & _COLUMNS
    nulls = rest[: (columns + 7) // 8] if mask & _HAS_NULLS else b""
    return StoredRow(columns, nulls, rest[begin - _BITS :])
