"""A command that a worker starts, of its own or for a person: this program, once more."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from typing import IO, TYPE_CHECKING, Final

from backout.decoding import Undecodable, decode_json
from backout.errors import BackoutError
from backout.providers.child import tie_to_parent
from backout.providers.child_environment import make_team_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backout.model.plan import Json

MOST_BYTES: Final = 1024 * 1024
"""Of an answer; a longer one is not kept."""


class WorkerChild:
    """A command at work. When the worker is killed, the kernel kills it too.

    Args:
        folder: in which it is started.
        hear: is told each line that it writes, by a thread of its own.
        name: for that thread.
        answers: what it writes to stdout is its answer, and no line to hear.
        given: variables that it gets beside ours.

    Raises:
        BackoutError: it cannot be started.
    """

    def __init__(
        self,
        argv: tuple[str, ...],
        folder: str,
        hear: Callable[[str], None],
        name: str,
        *,
        answers: bool = False,
        given: Mapping[str, str] | None = None,
    ) -> None:
        try:
            self._process = subprocess.Popen(
                tie_to_parent(argv, signal.SIGKILL),
                env=make_team_environment({**os.environ, **(given or {})}),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE if answers else subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is the worker's, which tells the command to end
            )
        except OSError as error:
            raise BackoutError(f"this program cannot be started again ({error.strerror})", where=argv[0]) from error
        self._hear = hear
        self._answer = bytearray()
        lines = self._process.stderr if answers else self._process.stdout
        assert lines is not None
        readers = [threading.Thread(target=self._read_lines, args=(lines,), name=f"backout-child-{name}", daemon=True)]
        if answers:
            readers.append(threading.Thread(target=self._keep_answer, name=f"backout-answer-{name}", daemon=True))
        self._readers = readers
        for reader in readers:
            reader.start()

    def _read_lines(self, lines: IO[bytes]) -> None:
        with lines:
            for line in lines:
                text = line.decode("utf-8", "replace").rstrip()
                if text:
                    self._hear(text)

    def _keep_answer(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            while block := stream.read(65536):
                if len(self._answer) <= MOST_BYTES:
                    self._answer += block

    def wait(self, seconds: float) -> int | None:
        """Return its exit code, or None when it has not ended within that time."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        for reader in self._readers:
            reader.join(seconds)  # what it left behind may hold the pipe open: that is not waited for longer
        return code

    def read_answer(self) -> Mapping[str, Json]:
        """Return the last object that it wrote to stdout; empty where that is none, or too long."""
        if len(self._answer) > MOST_BYTES:
            return {"error": "too-long", "message": "the answer is longer than 1 MiB; the runs have what was done"}
        lines = bytes(self._answer).strip().splitlines()
        try:
            found = decode_json(lines[-1]) if lines else {}
            return found if isinstance(found, dict) else {}
        except Undecodable:
            return {}

    def terminate(self) -> None:
        """Tell it to end (SIGTERM)."""
        self._process.terminate()

    def kill(self) -> None:
        """End it at once, if it has not ended."""
        self._process.kill()
        self._process.wait()
