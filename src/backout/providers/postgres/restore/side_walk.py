"""A side instance that moves from one position to the next, and is read at each: one copy for many moments.

It is a standby that finds its WAL in its own folder, where we write it as far as the next position: it replays what is
there, retries for more, and can be read meanwhile. It is never restarted on the way.

Source: PostgreSQL 18, "Standby Server Operation" (what is put into pg_wal by hand is replayed at any time),
src/include/access/xlogrecord.h (a record begins with its length), xlog_internal.h (the headers of pages).
"""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING, Any, Final

from backout.errors import BackoutError
from backout.model.database.wal import find_segment_begin, parse_lsn, show_lsn
from backout.model.names import parse_segment
from backout.providers.postgres.restore.side_files import read_text
from backout.providers.postgres.server.session import open_working

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from backout.model.database.chains import Stay
    from backout.providers.postgres.server.launcher import PostgresServer, ServerStatus

WALKING: Final = {
    "restore_command": "",
    "wal_retrieve_retry_interval": "2ms",
    "wal_recycle": "off",  # a segment that is renamed would be one that is to come
    "recovery_prefetch": "off",
}
"""The settings of an instance that walks, beside those of every one."""
_PAGE: Final = 8192
_HEADER, _FIRST_HEADER = 24, 40
"""Of a page, and of the first one in a segment."""
_LENGTH: Final = 4
_POLL_S: Final = 0.005
_LOOK_S: Final = 60.0
_TIMEOUT_S: Final = 3600.0
_REPLAYED: Final = "SELECT pg_last_wal_replay_lsn()::text"


class GivenWal:
    """The WAL that a walking instance may have so far.

    Args:
        whole: the folder with all of its segments.
        given: the folder with those that it may read.
        names: of the segments, in WAL order.
    """

    def __init__(self, whole: Path, given: Path, names: Sequence[str]) -> None:
        self._whole = whole
        self._given = given
        self._names = tuple(map(parse_segment, names))
        self._size = (whole / self._names[0]).stat().st_size
        self._had: dict[str, int] = {}

    def link(self, data: Path) -> None:
        """Let the server find its segments, and the timeline files, in its data directory."""
        self._given.mkdir()
        (data / "pg_wal").mkdir(mode=0o700, exist_ok=True)
        for name in self._names:
            (data / "pg_wal" / name).symlink_to(self._given / name)
        for path in self._whole.glob("*.history"):
            shutil.copyfile(path, data / "pg_wal" / path.name)

    def end_of(self, lsn: int) -> int:
        """Return the position behind the record that begins at `lsn`."""
        with self._file_at(lsn).open("rb") as file:
            file.seek(lsn % self._size)
            left = int.from_bytes(file.read(_LENGTH), "little")
        at = lsn
        while left > (room := _PAGE - at % _PAGE):
            left -= room
            at += room
            at += _FIRST_HEADER if at % self._size == 0 else _HEADER
        return -(-(at + left) // 8) * 8

    def give(self, end: int) -> None:
        """Let it have all WAL up to a position, and nothing behind it."""
        for name in self._names:
            begin = self._begin_of(name)
            if begin < end:
                self._grow(name, min(end - begin, self._size))

    def _grow(self, name: str, size: int) -> None:
        place, had = self._given / name, self._had.get(name, 0)
        if had < size:
            writing = place if had else place.with_suffix(".making")
            if not had:
                with writing.open("wb") as file:
                    file.truncate(self._size)
            _copy_range(self._whole / name, writing, had, size)
            writing.replace(place)
            self._had[name] = size

    def _file_at(self, lsn: int) -> Path:
        for name in reversed(self._names):  # of a segment in which the timeline changed, the newer one has it all
            if self._begin_of(name) <= lsn < self._begin_of(name) + self._size:
                return self._whole / name
        raise BackoutError(f"no WAL with {show_lsn(lsn)} is there", where=str(self._whole))

    def _begin_of(self, name: str) -> int:
        return find_segment_begin(name, self._size)


def walk(
    server: PostgresServer,
    given: GivenWal,
    dsn_of: Callable[[ServerStatus], str],
    stops: Iterable[Stay],
    look: Callable[[Stay, str], bool],
) -> None:
    """Let a server come to just behind the record at which each of these begins, and call `look` there.

    Where something is locked there (by a transaction that was under way, a vacuum even), nothing but replay ends that:
    it goes on to the record at which the stay ends, and `look` is called once more.

    Args:
        stops: in the order of the WAL.
        look: as of port SideWalk.

    Raises:
        BackoutError: it ended, did not come there, or what is to be read is locked; Postgres is quoted.
    """
    connection: Any = None
    status: ServerStatus | None = None
    try:
        for stop in stops:
            for end in (given.end_of(stop.begin), stop.end):
                given.give(end)
                status = status or server.start(timeout_s=_TIMEOUT_S)
                dsn = dsn_of(status)
                connection = connection or open_working(dsn, statement_timeout_s=_LOOK_S)
                _await(server, connection, end)
                if look(stop, dsn):
                    break
            else:
                where = f"from {show_lsn(stop.begin)} to {show_lsn(stop.end)}"
                raise BackoutError(f"what is to be read in between is locked {where}", where=str(server.data_directory))
    finally:
        if connection is not None:
            connection.close()


def _await(server: PostgresServer, connection: Any, end: int) -> None:
    import psycopg

    deadline = time.monotonic() + _TIMEOUT_S
    end -= end % _PAGE if end % _PAGE in (_HEADER, _FIRST_HEADER) else 0  # nothing but a header lies between
    while time.monotonic() < deadline:
        try:
            (replayed,) = connection.execute(_REPLAYED).fetchone()
        except psycopg.OperationalError:
            break
        if replayed is not None and parse_lsn(replayed) >= end:
            return
        if "lower setting than on the primary" in read_text(server.log_file):
            break
        time.sleep(_POLL_S)
    said = read_text(server.log_file)[-1500:].strip()
    raise BackoutError(f"replay did not come to {show_lsn(end)}: {said}", where=str(server.data_directory))


def _copy_range(source: Path, target: Path, begin: int, end: int) -> None:
    with source.open("rb") as reading_from, target.open("r+b") as writing_to:
        reading_from.seek(begin)
        writing_to.seek(begin)
        writing_to.write(reading_from.read(end - begin))
