"""A base backup as JSON values, and its size in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.report.times import format_time

if TYPE_CHECKING:
    from backout.model.database.recovery import BaseBackup


def format_megabytes(size_bytes: int) -> str:
    """Return a size for a person.

    >>> format_megabytes(400), format_megabytes(1_500_000), format_megabytes(2_000_000_000)
    ('0.4 kB', '1.5 MB', '2,000 MB')
    """
    kilo, mega = 1000, 1_000_000
    if size_bytes < mega / 10:
        return f"{size_bytes / kilo:.1f} kB"
    return f"{size_bytes / mega:,.1f} MB" if size_bytes < 100 * mega else f"{size_bytes / mega:,.0f} MB"


def make_backup_record(found: BaseBackup) -> dict[str, object]:
    """Return a base backup as JSON values."""
    from backout.model.database.wal import show_lsn

    return {
        "id": found.id,
        "kind": found.kind,
        "parent": found.parent,
        "began_at": format_time(found.began_at),
        "ended_at": format_time(found.ended_at),
        "begin_lsn": show_lsn(found.begin_lsn),
        "end_lsn": show_lsn(found.end_lsn),
        "timeline": found.timeline,
        "system_identifier": found.system_identifier,
        "server_version": found.server_version,
        "size_bytes": found.size_bytes,
        "stored_bytes": found.stored_bytes,
        "encrypted": found.encrypted,
        "verified_at": None if found.verified_at is None else format_time(found.verified_at),
    }
