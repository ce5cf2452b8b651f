"""A child never outlives the process that started it, however early that one dies."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from polling import until

SCRIPT = """
import os, signal, subprocess
from backout.providers.child import tie_to_parent
subprocess.Popen(tie_to_parent(("sleep", "{seconds}"), signal.SIGKILL))
os.kill(os.getpid(), signal.SIGKILL)
"""
SECONDS = "97.53125"


def survivors() -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if SECONDS.encode() in words:
            found.append(process.name)
    return found


def test_a_parent_that_dies_at_once_leaves_no_child() -> None:
    """Also when it is killed before the kernel was told to watch it."""
    for _ in range(8):
        done = subprocess.run([sys.executable, "-c", SCRIPT.format(seconds=SECONDS)], check=False)
        assert done.returncode == -signal.SIGKILL
    until(lambda: not survivors(), 5.0, "the end of every child")
