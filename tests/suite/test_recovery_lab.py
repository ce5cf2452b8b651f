"""The folder of WAL that tests restore from: the receiver renames a segment whenever it is complete."""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from recovery_lab import SEGMENT, PlainBackups

if TYPE_CHECKING:
    import pytest

NAME = "000000010000000000000005"


def test_a_segment_may_be_completed_while_it_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Listed, or fetched: it was there under its first name, and is there under its second."""
    backups = PlainBackups(tmp_path)
    backups.received.mkdir()
    partial = backups.received / f"{NAME}.partial"
    real = Path.open

    def opened(path: Path, *mode: Any, **more: Any) -> IO[Any]:
        """Open a file; the segment is completed just before, or just after a look for the whole one."""
        try:
            if path == partial and partial.exists():
                partial.rename(backups.received / NAME)
            return real(path, *mode, **more)
        finally:
            if partial.exists():
                partial.rename(backups.received / NAME)

    monkeypatch.setattr(Path, "open", opened)
    for look in (lambda: backups.wal()[0].partial, lambda: backups.content(NAME) != b"x"):
        (backups.received / NAME).unlink(missing_ok=True)
        partial.write_bytes(b"x")
        assert look() is False
    (found,) = backups.wal()
    assert (found.name, found.end_lsn - found.begin_lsn) == (NAME, SEGMENT)
