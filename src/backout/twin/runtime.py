"""The private folder of a twin's sockets: short, since a socket's path holds 107 bytes; removed at the end."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

_NOTE = "runtime"
_PREFIX = "backout-twin-"
_LONGEST_BASE = 60


class RuntimeFolder:
    """A fresh folder that no other user may enter; a note in `directory` lets the next start remove a killed twin's."""

    def __init__(self, directory: Path) -> None:
        self._note = directory / _NOTE
        self._remove_left_over()
        base = tempfile.gettempdir()
        base = base if len(base) <= _LONGEST_BASE else "/tmp"  # noqa: S108 - mkdtemp makes it private
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
        self._note.write_text(str(self.path), encoding="utf-8")

    def socket(self, name: str) -> str:
        """Return the path of a socket in it."""
        return str(self.path / name)

    def remove(self) -> None:
        """Remove the folder and the note."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._note.unlink(missing_ok=True)

    def _remove_left_over(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            left = Path(self._note.read_text(encoding="utf-8"))
            if left.name.startswith(_PREFIX) and left.is_dir() and left.stat().st_uid == os.getuid():
                shutil.rmtree(left, ignore_errors=True)
