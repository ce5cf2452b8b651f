"""The archive of WAL: complete segments compressed in the store, the newest ones as they are being received.

Names as Postgres gives them: 8 digits of timeline, then the segment's number in two parts (src/include/access/
xlog_internal.h). Everything of one cluster lies under its system identifier, since the names of two clusters collide.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import msgspec

from backout.decoding import Undecodable, decode_json
from backout.errors import BackoutError, Refused
from backout.model.database.wal import WalSegment, find_segment_begin
from backout.model.names import is_history, is_segment, parse_cluster, parse_wal_file
from backout.private import open_unlinked
from backout.providers.archive.listing import Listing
from backout.providers.archive.places import make_layout_key, make_reading_key, make_wal_key, make_wal_prefix
from backout.providers.archive.received import find_end
from backout.providers.archive.record_store import SIGNED
from backout.providers.archive.records import check_segment_bytes, make_unsigned_refusal
from backout.providers.archive.sealing import is_sealed, make_damaged_error, pack, unpack
from backout.providers.archive.stores import make_not_kept_error
from backout.providers.archive.wal_reading import Reading

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backout.providers.archive.record_store import Terms
    from backout.providers.archive.sealing import Key
    from backout.providers.archive.stores import Store

PARTIAL: Final = ".partial"
_PIECE: Final = 1 << 20
"""How much of a segment is read at once: whole pages."""
_ZEROS: Final = bytes(1 << 16)


class Layout(msgspec.Struct, frozen=True):
    """How a cluster's WAL is cut into segments."""

    segment_bytes: int


def format_segment_name(timeline: int, lsn: int, segment_bytes: int) -> str:
    """Return the name of the segment that holds a position.

    >>> format_segment_name(1, 0x1_2A00_0000, 16 << 20)
    '00000001000000010000002A'
    """
    number, per_file = lsn // segment_bytes, 0x1_0000_0000 // segment_bytes
    return f"{timeline:08X}{number // per_file:08X}{number % per_file:08X}"


def make_segment(name: str, segment_bytes: int) -> WalSegment:
    """Return a whole segment from its name.

    >>> make_segment("00000001000000010000002A", 16 << 20).begin_lsn == 0x1_2A00_0000
    True
    """
    begin = find_segment_begin(name, segment_bytes)
    return WalSegment(name, int(name[:8], 16), begin, begin + segment_bytes)


class WalArchive:
    """The WAL of one cluster.

    Args:
        incoming: the folder that the receiver writes into; its files count as archived, the `.partial` one as far as it
            was received.
        terms: where a person accepted an unsigned backup, its WAL is accepted too.
    """

    def __init__(
        self, store: Store, system_identifier: str, incoming: Path, key: Key | None, terms: Terms = SIGNED
    ) -> None:
        self.prefix = make_wal_prefix(system_identifier)
        self.incoming = incoming / parse_cluster(system_identifier)
        self._system = system_identifier
        self._store = store
        self._key = key
        self._terms = terms
        self._listing = Listing(store, self.prefix)

    def look_anew(self) -> None:
        """List all of it the next time, not only what came behind what is known."""
        self._listing.forget()

    def set_layout(self, segment_bytes: int) -> None:
        """Record how the cluster's WAL is cut."""
        if self.layout() != segment_bytes:
            self._store.put(make_layout_key(self._system), msgspec.json.encode(Layout(segment_bytes)))

    def layout(self) -> int | None:
        """Return the size of a segment in bytes, None before anything was archived.

        Raises:
            BackoutError: what the archive says of it cannot be read.
        """
        where = make_layout_key(self._system)
        found = self._store.get(where)
        try:
            return None if found is None else check_segment_bytes(decode_json(found, Layout, what=where).segment_bytes)
        except (Undecodable, Refused) as error:
            raise make_damaged_error(
                f"{self._store.name}/{where}", f"how the WAL is cut cannot be read: {error}"
            ) from None

    def reading(self) -> Reading:
        """Return how far it was read back; not at all where it never was, or where the record of it cannot be read.

        With a key, only a record sealed with it counts: write access to the store must not be enough to claim it.
        """
        key = make_reading_key(self._system)
        found = self._store.get(key)
        if found is None:
            return Reading()
        with contextlib.suppress(BackoutError):
            return decode_json(found if self._key is None else unpack(key, found, self._key), Reading)
        return Reading()

    def set_reading(self, reading: Reading) -> None:
        """Record how far it was read back."""
        key, content = make_reading_key(self._system), msgspec.json.encode(reading)
        self._store.put(key, content if self._key is None else pack(key, content, self._key))

    def segments(self) -> tuple[WalSegment, ...]:
        """Return what there is, in the order of positions, timeline by timeline."""
        size = self.layout()
        if size is None:
            return ()
        coming, found = self.coming(size), dict[str, WalSegment]()
        for name in self._listing.names():
            if is_segment(name):
                found[name] = make_segment(name, size)
            elif name.endswith(PARTIAL) and is_segment(name.removesuffix(PARTIAL)):
                found.setdefault(name.removesuffix(PARTIAL), self._measure_partial(name, size))
        for name, segment in coming.items():
            if not segment.partial or name not in found or found[name].partial:
                found[name] = segment
        return tuple(sorted(found.values(), key=lambda segment: (segment.timeline, segment.begin_lsn)))

    def coming(self, segment_bytes: int) -> dict[str, WalSegment]:
        """Return what the receiver's folder holds, by name; a partial segment as far as it was received.

        A segment is renamed when it is whole, and leaves the folder when it is stored, at any moment: what is neither
        here by then is in the store. So code that looks at both looks here first.
        """
        found: dict[str, WalSegment] = {}
        for path in self._incoming():
            whole = make_segment(path.name.removesuffix(PARTIAL), segment_bytes)
            received = None if path.name == whole.name else measure_received(path)
            if received is not None:
                end = whole.begin_lsn + received
                part = WalSegment(whole.name, whole.timeline, whole.begin_lsn, end, partial=True)
                found.setdefault(whole.name, part)
            elif path.name == whole.name or (self.incoming / parse_wal_file(whole.name)).is_file():
                found[whole.name] = whole
        return found

    def histories(self) -> tuple[str, ...]:
        """Return the names of the history files, by timeline."""
        coming = {path.name for path in self.incoming.glob("*.history")} if self.incoming.is_dir() else set()
        kept = {key.removeprefix(self.prefix) for key, _ in self._store.keys(self.prefix)}  # see `coming`
        return tuple(sorted(name for name in kept | coming if is_history(name)))

    def read(self, name: str) -> bytes | None:
        """Return a segment, whole (what was not received yet is zero), or a history file; None when there is none.

        Raises:
            BackoutError: it is damaged, or longer than a segment.
            AuthError: it is sealed, and the key is missing or another.
            Refused: it is not signed, although there is a key.
        """
        size = self.layout() or 0
        where = make_wal_key(self._system, name)
        names = (name, name + PARTIAL, name) if is_segment(name) else (name,)  # it may be renamed between two looks
        for path in (self.incoming / parse_wal_file(each) for each in names):
            if path.is_file():
                try:
                    return path.read_bytes().ljust(size if is_segment(name) else 0, b"\0")
                except FileNotFoundError:  # it was just completed, or archived
                    continue
        for key in (where, where + PARTIAL, where) if is_segment(name) else (where,):
            data = self._store.get(key)
            if data is not None:
                content = self._open_object(key, data)
                if is_segment(name) and len(content) > size:
                    raise make_damaged_error(
                        f"{self._store.name}/{key}", f"it has {len(content)} bytes instead of {size}"
                    )
                return content.ljust(size if is_segment(name) else 0, b"\0")
        return None

    def fetch(self, name: str, into: Path) -> bool:
        """Lay a segment or history file into a folder, under its name once it is whole; False when there is none.

        Raises:
            BackoutError: it cannot be written; otherwise as `read`.
            AuthError, Refused: as `read`.
        """
        content = self.read(name)
        if content is None:
            return False
        making = into / f".{parse_wal_file(name)}.making"
        try:
            with open(making, "wb", opener=open_unlinked) as file:
                file.write(content)
            making.replace(into / parse_wal_file(name))
        except OSError as error:
            making.unlink(missing_ok=True)
            raise make_not_kept_error(error, str(into)) from error
        return True

    def keep(self, name: str, content: bytes) -> None:
        """Store a segment, a partial one (its name ends so; zeros at its end are left out), or a history file."""
        if name.endswith(PARTIAL):
            content = strip_zeros(content)
        key = make_wal_key(self._system, name)
        self._store.put(key, pack(key, content, self._key))

    def forget_partial(self, name: str) -> None:
        """Remove what was stored of a segment that is stored whole by now."""
        self._store.delete([make_wal_key(self._system, name) + PARTIAL])
        self._listing.forget()

    def remove_before(self, lsn: int, *, dry_run: bool = False) -> tuple[tuple[str, int], ...]:
        """Remove the stored segments that end at or before a position; return (name, bytes kept) of each."""
        size = self.layout()
        if size is None:
            return ()
        gone = [
            (key, stored)
            for key, stored in self._store.keys(self.prefix)
            if is_segment(name := key.removeprefix(self.prefix).removesuffix(PARTIAL))
            and make_segment(name, size).end_lsn <= lsn
        ]
        if not dry_run:
            self._store.delete(key for key, _ in gone)
            self._listing.forget()
        return tuple((key.removeprefix(self.prefix), stored) for key, stored in gone)

    def _measure_partial(self, name: str, size: int) -> WalSegment:
        whole = make_segment(name.removesuffix(PARTIAL), size)
        content = self.read_kept(name)
        end = whole.begin_lsn + (find_end(content) if content else 0)
        return WalSegment(whole.name, whole.timeline, whole.begin_lsn, end, partial=True)

    def read_kept(self, name: str) -> bytes | None:
        """Return what the store holds under exactly this name."""
        key = make_wal_key(self._system, name)
        data = self._store.get(key)
        return None if data is None else self._open_object(key, data)

    def _open_object(self, key: str, data: bytes) -> bytes:
        """Return what an object holds. Raises Refused: it is not sealed although there is a key."""
        if self._key is None or is_sealed(data):
            return unpack(key, data, self._key)
        name = key.removeprefix(self.prefix).removesuffix(PARTIAL)
        if not any(each == name or not is_segment(each) for each in self._terms.accepted):
            raise make_unsigned_refusal(
                name, "this WAL is not signed, although there is a key", f"{self._store.name}/{key}"
            )
        return unpack(key, data, None)

    def _incoming(self) -> Iterator[Path]:
        if self.incoming.is_dir():
            yield from sorted(p for p in self.incoming.iterdir() if is_segment(p.name.removesuffix(PARTIAL)))


def strip_zeros(content: bytes) -> bytes:
    """Return it without the zeros at its end: of a segment that was just begun, nearly all of it.

    >>> strip_zeros(bytes(1) + b"ab" + bytes(200_000)) == bytes(1) + b"ab"
    True
    """
    end = len(content)
    while end >= len(_ZEROS) and content[end - len(_ZEROS) : end] == _ZEROS:  # a hundred times faster than rstrip
        end -= len(_ZEROS)
    return content[:end].rstrip(b"\0")


def measure_received(path: Path) -> int | None:
    """Return how far a segment was received: what follows is zero, since the receiver makes the file at full length.

    A record at the end that ends with zeros itself counts whole, see `received`.

    None when there is no such file (any more).

    Raises:
        BackoutError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            end = file.seek(0, 2)
            while end > 0:
                begin = (end - 1) // _PIECE * _PIECE
                file.seek(begin)
                piece = strip_zeros(file.read(end - begin))
                if piece:
                    return find_end(piece, begin)
                end = begin
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BackoutError(f"cannot be read: {error.strerror}", where=str(path)) from error
    return 0
