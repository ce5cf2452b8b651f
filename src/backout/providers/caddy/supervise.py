"""The small supervisor of a release, for hosts where nothing else starts processes: its words are FOLDER ADDRESS RUN.

It runs the application in the release's folder with the release's environment, PORT and RELEASE, starts it again when
it ends by itself (after 1 s, then twice as long each time, at most 30 s), and ends it when it is told to end (SIGTERM,
after ten seconds SIGKILL). A lock on a file says that it runs.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import BinaryIO, Final

from backout.providers.child_environment import make_bare_environment

LOCK: Final = "running"
_FIRST_S, _LONGEST_S, _STEADY_S, _ENDS_WITHIN_S = 1.0, 30.0, 60.0, 10.0


def is_locked(file: BinaryIO) -> bool:
    """Whether another process holds a file's lock."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(file, fcntl.LOCK_UN)
    return False


class _End(Exception):
    """SIGTERM."""


def _raise_end(_number: int, _frame: object) -> None:
    raise _End


def run_release(place: Path, address: str, words: list[str]) -> int:
    """Run the application until SIGTERM, and return the exit code.

    Args:
        place: the release's folder.
        address: where the application is to listen.
        words: its command line.
    """
    lock = os.open(place / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return 0  # another one does it
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    child: subprocess.Popen[bytes] | None = None
    wait_s = _FIRST_S
    signal.signal(signal.SIGTERM, _raise_end)
    try:
        while True:
            began = time.monotonic()
            child = _start(place, address, words)
            code = child.wait()
            wait_s = _FIRST_S if time.monotonic() - began > _STEADY_S else wait_s
            sys.stdout.write(f"backout: the release ended with {code}; started again in {wait_s:g} s\n")
            sys.stdout.flush()
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, _LONGEST_S)
    except _End:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if child is not None and child.poll() is None:
            child.terminate()
            try:
                child.wait(_ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        return 0


def _start(place: Path, address: str, words: list[str]) -> subprocess.Popen[bytes]:
    lines = (place / "environment").read_text(encoding="utf-8").split("\0")
    own = dict(line.split("=", 1) for line in lines if line)
    environment = make_bare_environment({**own, "PORT": address.rpartition(":")[2], "RELEASE": place.name})
    return subprocess.Popen(words, cwd=place / "app", env=environment, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(run_release(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
