"""Runs a program so that all of its processes end with us: the program itself, and those that it starts.

`tie_to_parent` is enough for a program that is one process. pg_basebackup and pgBackRest start further ones, which go
on by themselves when the first is killed: they hold a replication slot of the server, or write into a folder that the
resumed run has begun anew.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any, Final

from backout.providers.child import tie_to_parent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.providers.child_environment import ChildEnvironment

_LEADER: Final = """trap 'kill -KILL 0' TERM
exec 3<&0
"$@" <&3 3<&- &
exec 3<&- </dev/null
wait "$!"
code=$?
test "$code" -lt 128 || kill -KILL 0
exit "$code"
"""
"""The group's leader ends all of it when its parent dies (TERM), and when the program itself was killed.

A shell gives what it starts in the background no input but what it is told to."""


class ProcessGroup(subprocess.Popen[str]):
    """A program in a process group of its own; a signal goes to each process of it.

    A killed parent (kill -9 too) ends them all, where the system has util-linux; elsewhere (macOS) they may outlive it.

    Args:
        argv: the program and its arguments.
        stdin: its input, none by default.
        pass_fds: descriptors that each process of the group keeps open.
        options: as of `subprocess.Popen`.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: ChildEnvironment,
        stdin: int = subprocess.DEVNULL,
        pass_fds: Sequence[int] = (),
        **options: Any,
    ) -> None:
        super().__init__(
            tie_to_parent(("/bin/sh", "-c", _LEADER, "sh", *argv), signal.SIGTERM),
            stdin=stdin,
            text=True,
            errors="replace",
            env=env,
            pass_fds=pass_fds,
            start_new_session=True,
            **options,
        )

    def send_signal(self, sig: int) -> None:
        """Send a signal to all of its processes, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, sig)


def run_group(
    argv: Sequence[str], *, env: ChildEnvironment, timeout_s: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, and return its exit code and what it wrote.

    Args:
        timeout_s: after which all of its processes are killed; None for no limit.

    Raises:
        subprocess.TimeoutExpired: it took longer.
    """
    with ProcessGroup(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            out, err = process.communicate(timeout=timeout_s)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(argv, process.returncode, out, err)
