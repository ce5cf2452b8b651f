"""Reads a data directory on this machine: its WAL, its timeline, its configuration files.

Source: PostgreSQL 12 to 18, src/include/catalog/pg_control.h (state behind identifier and two versions; the copy of the
last checkpoint begins with its redo position and the timeline), "Database File Layout".
"""

from __future__ import annotations

import contextlib
import os
import struct
from typing import TYPE_CHECKING, Final

from backout.errors import BackoutError
from backout.model.database.wal import WalSegment, find_segment_begin, parse_lsn
from backout.model.names import is_history, is_segment
from backout.providers.postgres.restore.side_settings import ASIDE, AUTO_CONF, drop_standbys

if TYPE_CHECKING:
    from pathlib import Path

_STATE_AT: Final = 16
_TIMELINE_AT: Final = 48
_CHECKPOINT_AT: Final = 32
_SHUT_DOWN: Final = 1
_SETTINGS: Final = (".conf", ".crt", ".key", ".pem", ".crl")


def list_settings_files(data: Path) -> dict[str, Path]:
    """Return the files of settings in a data directory by name, those in `conf.d` too."""
    found = (*data.glob("*"), *data.glob("conf.d/*"))
    return {str(path.relative_to(data)): path for path in sorted(found) if path.suffix in _SETTINGS and path.is_file()}


def find_changed_since(data: Path, since: float) -> tuple[str, ...]:
    """Return the files of settings whose content or place changed since (Unix seconds)."""
    times = {name: path.stat() for name, path in list_settings_files(data).items()}
    return tuple(name for name, each in times.items() if max(each.st_mtime, each.st_ctime) > since)


def list_differing(data: Path, incoming: Path) -> tuple[str, ...]:
    """Return the files of settings that are others in another data directory, or not there.

    Of a side instance that still runs, the settings of ALTER SYSTEM are those that it gets back when it is stopped.
    """
    there = list_settings_files(incoming)
    if (incoming / ASIDE).exists():
        there[AUTO_CONF] = incoming / ASIDE
    return tuple(
        name
        for name, path in list_settings_files(data).items()
        if name not in there or _read_content(name, path) != _read_content(name, there[name])
    )


def _read_content(name: str, path: Path) -> bytes:
    content = path.read_bytes()
    # The standby that commits waited for is removed from the new directory on purpose; it is not lost.
    return drop_standbys(content) if name == AUTO_CONF else content


def measure_size(folder: Path) -> int:
    """Return how many bytes the files of a folder take on the disk; what is removed meanwhile counts for nothing."""
    found = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                found += os.lstat(os.path.join(parent, name)).st_blocks * 512  # noqa: PTH118 - os.walk gives text
    return found


def was_shut_down(data: Path) -> bool:
    """Whether the server of a data directory was stopped cleanly, so that its files hold everything."""
    return int(struct.unpack_from("=I", _read_control(data), _STATE_AT)[0]) == _SHUT_DOWN


def read_history(data: Path) -> tuple[int, int, tuple[tuple[int, int], ...]]:
    """Return of a data directory that is down its timeline, where its WAL ends, and the timelines before it."""
    content = _read_control(data)
    timeline = int(struct.unpack_from("=I", content, _TIMELINE_AT)[0])
    end = int(struct.unpack_from("=Q", content, _CHECKPOINT_AT)[0])
    return timeline, end, read_histories(data).get(timeline, ())


def read_histories(data: Path) -> dict[int, tuple[tuple[int, int], ...]]:
    """Return of each timeline but the first the ones before it, and where each was left, by the files in `pg_wal`."""
    return read_histories_in(data / "pg_wal")


def read_histories_in(folder: Path) -> dict[int, tuple[tuple[int, int], ...]]:
    """Return the same by the history files of a folder."""
    found = {}
    for path in folder.glob("*.history"):
        if is_history(path.name):
            rows = [line.split("\t") for line in path.read_text(encoding="ascii", errors="replace").splitlines()]
            kept = [row for row in rows if len(row) > 1 and row[0].strip().isdecimal()]
            found[int(path.stem, 16)] = tuple((int(row[0]), parse_lsn(row[1])) for row in kept)
    return found


def list_wal(data: Path, timeline: int, lsn: int) -> tuple[WalSegment, ...]:
    """Return the WAL of a timeline that lies in a data directory, up to a position; what is prepared behind it is not.

    A segment that is renamed meanwhile, to be written again, is left out.
    """
    found = []
    for path in sorted((data / "pg_wal").glob(f"{timeline:08X}*")):
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            continue
        if not is_segment(path.name) or not size:
            continue
        begin = find_segment_begin(path.name, size)
        if begin < lsn:
            end = min(begin + size, lsn)
            found.append(WalSegment(path.name, timeline, begin, end, partial=end < begin + size))
    return tuple(found)


def _read_control(data: Path) -> bytes:
    try:
        return (data / "global" / "pg_control").read_bytes()
    except OSError as error:
        raise BackoutError(f"it cannot be read: {error.strerror}", where=str(error.filename)) from error
