"""The one-host file lock of an environment; the rule: the kernel frees it when its process dies, however it dies.

Never removed from disk: a removed and recreated lock file would be two locks. A child that is forked without exec
inherits it and keeps it held; subprocesses do not (close-on-exec).
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from backout.private import make_private_folder

if TYPE_CHECKING:
    from pathlib import Path


def make_lock_path(directory: Path, name: str) -> Path:
    """Return the lock file of that name, with characters that a file name cannot hold written as %XX."""
    safe = "".join(c if c.isalnum() or c in "-_" else "".join(f"%{b:02X}" for b in c.encode()) for c in name)
    return directory / "locks" / f"{safe}.lock"


class FileLock:
    """An exclusive flock; a second FileLock on the same path conflicts, in the same process too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._fd is not None

    def take(self, *, wait: bool = False) -> bool:
        """Return whether the lock is ours now; with `wait` until it is."""
        make_private_folder(self.path.parent)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(fd)
            return False
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        return True

    def free(self) -> None:
        """Give the lock back; without it, nothing happens."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
