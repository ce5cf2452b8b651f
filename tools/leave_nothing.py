#!/usr/bin/env python3
"""Run a command, and end everything it left running: an interrupted test run leaves no twin and no server.

Orphans are adopted by this process (PR_SET_CHILD_SUBREAPER, Linux 3.4 and later; prctl(2)), however often they forked.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_GRACE_S = 10.0
"""How long a process may take to end before it is killed."""
_POLL_S = 0.1


def main(arguments: list[str]) -> int:
    """Run a command line and return its exit code (128 + N after signal N); SIGINT is left to the command."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        sys.exit(f"leave_nothing: prctl: {os.strerror(ctypes.get_errno())}")
    process = subprocess.Popen(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(process.pid, signal.SIGTERM))
    while (ended := os.waitpid(-1, 0))[0] != process.pid:  # an orphan that ended would stay a zombie, and look alive
        pass
    code = process.returncode = os.waitstatus_to_exitcode(ended[1])
    _end_what_is_left()
    return code if code >= 0 else 128 - code


def _end_what_is_left() -> None:
    """Tell children to end, those that are handed on by them too, and kill what does not."""
    told: dict[int, str] = {}
    kill_at = time.monotonic() + _GRACE_S
    while children := _children():
        for pid in children:
            number = signal.SIGKILL if time.monotonic() > kill_at else signal.SIGTERM
            if number == signal.SIGKILL or pid not in told:
                told[pid] = _name(pid)
                os.kill(pid, number)  # a child that ended stays until it is waited for: its number is not reused
        time.sleep(_POLL_S)
        while _waited():
            pass
    if told:
        sys.stderr.write(f"leave_nothing: {len(told)} left running, ended\n")
        sys.stderr.writelines(f"  {name}\n" for name in told.values())


def _name(pid: int) -> str:
    """Return the beginning of a process's command line."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return ascii(b" ".join(words).decode("utf-8", "replace").strip())[1:-1][:200] or f"process {pid}"


def _children() -> list[int]:
    text = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii")
    return [int(pid) for pid in text.split()]


def _waited() -> bool:
    try:
        return os.waitpid(-1, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
