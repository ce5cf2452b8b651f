"""Exclusive jobs in a folder: a lock that the kernel releases when its process dies, however it dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
from typing import TYPE_CHECKING, Final

from backout.errors import Busy
from backout.model.names import parse_id
from backout.private import make_private_folder
from backout.providers.archive.stores import make_not_kept_error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_POLL_S: Final = 0.02


class Holding:
    """One job of a folder, such as `receiver`; the lock file contains the pid of its holder."""

    def __init__(self, directory: Path, job: str) -> None:
        self._path = directory / f"{parse_id(job)}.lock"
        self._job = job

    @contextlib.contextmanager
    def held(self, patience_s: float = 0.0) -> Iterator[int]:
        """Do the job alone, with the lock's descriptor: a child that gets it holds the lock until it ends.

        Args:
            patience_s: how long another process's end is waited for.

        Raises:
            Busy: another process does it.
            BackoutError: the lock's file cannot be written.
        """
        try:
            make_private_folder(self._path.parent)
            opened = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise make_not_kept_error(error, str(self._path)) from error
        try:
            if not _await_lock(opened, patience_s):
                raise Busy(f"process {self.holder()} is already doing it", where=str(self._path))
            os.ftruncate(opened, 0)
            os.pwrite(opened, str(os.getpid()).encode(), 0)
            yield opened
            os.ftruncate(opened, 0)
        finally:
            os.close(opened)

    def holder(self) -> int | None:
        """Return the pid of the process that holds it now, None when none does."""
        try:
            opened = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with contextlib.suppress(ValueError):
                return int(os.pread(opened, 20, 0) or b"0") or None
            return None
        finally:
            os.close(opened)
        return None

    def end(self, timeout_s: float) -> bool:
        """Ask the holder to stop (SIGTERM), then kill it; return whether there was one."""
        pid = self.holder()
        if pid is None:
            return False
        for number, patience_s in ((signal.SIGTERM, timeout_s), (signal.SIGKILL, 5.0)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            deadline = time.monotonic() + patience_s
            while time.monotonic() < deadline:
                with contextlib.suppress(ChildProcessError):  # started by this very process: collect it
                    os.waitpid(pid, os.WNOHANG)
                if self.holder() != pid:
                    return True
                time.sleep(_POLL_S)
        return True


def _await_lock(opened: int, patience_s: float) -> bool:
    until = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(_POLL_S)
        else:
            return True
