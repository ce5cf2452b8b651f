"""Port DeployCommand on a shell: the team's own command line, as a person would type it."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import tempfile
from collections import deque
from typing import IO, TYPE_CHECKING, Final

from backout.errors import BackoutError, Busy
from backout.model.deployment import CommandEnd
from backout.private import make_private_folder, open_unlinked
from backout.providers.child_environment import make_team_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

_LOOK_EVERY_S: Final = 0.1
_TAIL_LINES, _LINE_CHARACTERS, _ENDS_WITHIN_S = 20, 400, 5.0
_KEPT = '(eval "$1") </dev/null; exit $?'
"""The shell in front holds the lock as its standard input and the command does not, so that a daemon which the command
leaves behind does not keep the lock. `exit` keeps the shell from becoming the command."""


class ShellDeployCommand:
    """Port DeployCommand.

    The command runs in a session of its own, with this process's variables but for those of `without`, no input, and
    its output in a nameless file: Ctrl-C at the terminal and the end of this process, kill -9 too, leave it to end by
    itself. A second Ctrl-C ends it.

    Args:
        folder: where it runs: that of backout.toml.
        lock: a file that is locked while it runs; made when needed.
        redact: takes every secret out of what it writes.
        without: variables that it does not get.
    """

    def __init__(self, folder: Path, lock: Path, redact: Callable[[str], str], *, without: Iterable[str] = ()) -> None:
        self._folder = folder
        self._lock = lock
        self._redact = redact
        self._without = frozenset(without)

    def run(self, command: str, hear: Callable[[str], None]) -> CommandEnd:
        """Run it with `/bin/sh -c` to its end.

        Raises:
            Busy: one runs already.
            BackoutError: it cannot be started.
        """
        heard = _Heard(self._redact, hear)
        try:
            make_private_folder(self._lock.parent)
            with open(self._lock, "a+b", opener=open_unlinked) as lock, tempfile.TemporaryFile() as output:
                if not _try_lock(lock):
                    raise Busy(
                        "a deploy command is already running",
                        where=str(self._folder),
                        hint="wait until it has finished",
                    )
                child = subprocess.Popen(
                    ["/bin/sh", "-c", _KEPT, "sh", command],
                    cwd=self._folder,
                    stdin=lock,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=make_team_environment(without=self._without),
                    start_new_session=True,
                )
                return CommandEnd(self._await_end(child, output, heard), tuple(heard.tail))
        except OSError as error:
            what = f"the deploy command cannot be started: {error.strerror or error}"
            raise BackoutError(what, where=str(error.filename or self._folder)) from error

    def still_runs(self) -> bool:
        """Whether the lock is taken."""
        try:
            with self._lock.open("rb") as lock:
                return not _try_lock(lock)
        except FileNotFoundError:
            return False

    def _await_end(self, child: subprocess.Popen[bytes], output: IO[bytes], heard: _Heard) -> int:
        try:
            while True:
                code = _wait_briefly(child)
                heard.read(output.fileno(), last=code is not None)
                if code is not None:
                    return code
        except BaseException:
            os.killpg(child.pid, signal.SIGTERM)
            try:
                child.wait(_ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
            raise


def _wait_briefly(child: subprocess.Popen[bytes]) -> int | None:
    try:
        return child.wait(_LOOK_EVERY_S)
    except subprocess.TimeoutExpired:
        return None


def _try_lock(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class _Heard:
    """The lines of a growing file; a line is passed on when it is complete."""

    def __init__(self, redact: Callable[[str], str], tell: Callable[[str], None]) -> None:
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._redact = redact
        self._tell = tell
        self._at = 0
        self._open = b""

    def read(self, file: int, *, last: bool) -> None:
        """Pass on new lines; `last`: an incomplete line as well."""
        while chunk := os.pread(file, 65_536, self._at):
            self._at += len(chunk)
            *lines, self._open = (self._open + chunk).split(b"\n")
            for line in lines:
                self._line(line)
        if last and self._open:
            self._line(self._open)

    def _line(self, line: bytes) -> None:
        said = line.decode("utf-8", "replace").rstrip()
        text = self._redact(said.rpartition("\r")[2])  # of a line that was written over, what was seen last
        if text:
            self.tail.append(text[:_LINE_CHARACTERS])
            self._tell(text)
