"""What a command leaves running ends with it, however it ended; its exit code stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from polling import until
from streamed import await_line

TOOL = Path(__file__).parents[2] / "tools" / "leave_nothing.py"
LEAVE = """
import os, subprocess, sys, time
left = subprocess.Popen([sys.executable, "-c", {sleeper!r}], start_new_session=True, stdout=subprocess.PIPE)
left.stdout.readline()  # it runs, and has made its arrangements
print(left.pid, flush=True)
{end}
"""
SLEEPER = "print(flush=True); import time; time.sleep(600)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEPER


def _run(script: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, TOOL, sys.executable, "-c", script]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def _is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("end", ["sys.exit(3)", "os._exit(3)"])
def test_nothing_is_left_and_the_code_stays(end: str) -> None:
    """A process in a session of its own, as a twin is, ends too."""
    script = LEAVE.format(sleeper=SLEEPER, end=end)
    done = _run(script)
    assert done.returncode == 3
    assert not _is_running(int(done.stdout))
    assert "leave_nothing: 1 left running, ended" in done.stderr


def test_a_command_that_is_killed_leaves_nothing() -> None:
    """Nothing of its own could clean up then."""
    script = LEAVE.format(sleeper=SLEEPER, end="time.sleep(600)")
    command = [sys.executable, TOOL, sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        left = int(await_line(process, ""))
        child = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii"))
        os.kill(child, signal.SIGKILL)
        assert process.wait() == 128 + signal.SIGKILL
    assert not _is_running(left)


def test_an_orphan_that_ended_is_gone_while_the_command_still_runs() -> None:
    """Nobody takes a server that was stopped for one that runs, and waits for its end."""
    script = """
import os, pathlib, subprocess, sys, time
orphan = int(subprocess.check_output(["sh", "-c", "sleep 0 >/dev/null & echo $!"]))
until = time.monotonic() + 60
while pathlib.Path(f"/proc/{orphan}").exists() and time.monotonic() < until:
    time.sleep(0.01)
sys.exit(pathlib.Path(f"/proc/{orphan}").exists())
"""
    assert _run(script).returncode == 0


@pytest.mark.long
def test_what_does_not_end_is_killed() -> None:
    """After ten seconds."""
    script = LEAVE.format(sleeper=STUBBORN, end="sys.exit(0)")
    done = _run(script)
    assert done.returncode == 0
    until(lambda: not _is_running(int(done.stdout)), 5, "its end")
