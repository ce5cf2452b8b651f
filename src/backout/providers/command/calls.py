"""Runs the team's platform commands: one question each, with a time limit, a bound on the answer, and no shell."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from backout.decoding import Undecodable, decode_json
from backout.errors import (
    AuthError,
    BackoutError,
    NoSplit,
    ProviderRejected,
    ProviderUnavailable,
    Refused,
    WorldMoved,
)
from backout.escaping import make_printable
from backout.model.value import Value
from backout.providers.command.protocol import PROTOCOL, Failed, Request
from backout.providers.process_group import ProcessGroup
from backout.rules import SafetyRule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from backout.providers.child_environment import ChildEnvironment
    from backout.providers.command.protocol import Name

T = TypeVar("T")

MOST_BYTES: Final = 1024 * 1024
_MOST_SAID: Final = 16 * 1024
_LINE_CHARACTERS: Final = 200
_NOT_FOUND: Final = 404
_NOT_STARTED: Final = (126, 127)
"""What a shell ends with where there is no such program, or it may not be run."""
_KILLED_S: Final = 5.0


class _End(Value, frozen=True):
    """How a command ended: its exit code (negative: the signal), and what it wrote."""

    code: int
    out: bytes
    said: str


class PlatformCommands:
    """The commands of one environment.

    Args:
        argv: each command with its arguments, by its name.
        folder: where they run.
        timeout_s: after which one is killed, with all that it started.
        make_environment: returns all variables of a command.
        read_secrets: returns the values that commands get on their standard input; raises AuthError.
        write_line: returns the line with which a person runs one.
        mask: takes every secret out of what they say.
    """

    def __init__(
        self,
        argv: Mapping[Name, Sequence[str]],
        folder: Path,
        *,
        timeout_s: float,
        make_environment: Callable[[], ChildEnvironment],
        read_secrets: Callable[[], dict[str, str]],
        write_line: Callable[[Name], str],
        mask: Callable[[str], str],
    ) -> None:
        self._argv = argv
        self._write_line = write_line
        self._folder = folder
        self._timeout_s = timeout_s
        self._make_environment = make_environment
        self._read_secrets = read_secrets
        self._mask = mask

    def has(self, name: Name) -> bool:
        """Whether there is a command of that name."""
        return bool(self._argv.get(name))

    def ask(self, name: Name, answer: type[T], request: Request | None = None) -> T:
        """Return what a command answers.

        Raises:
            ProviderUnavailable: it cannot be started, does not end in time, was killed, ends with another code than 0
                and no error, or answers something that cannot be used: whether it did something is not known.
            BackoutError: it says so, and changed nothing (WorldMoved, ProviderRejected, Refused, NoSplit, AuthError).
        """
        where = f"platform.command.{name}"
        asked = request or Request(protocol=PROTOCOL, command=name)
        line = msgspec.json.encode(msgspec.structs.replace(asked, secrets=self._read_secrets())) + b"\n"
        end = self._run(name, line, where)
        failed = _find_error(end.out)
        if failed is not None:
            raise self._make_error(failed, where)
        if end.code != 0:
            ended = "was killed" if end.code < 0 else f"ended with exit code {end.code}"
            ended = "cannot be started" if end.code in _NOT_STARTED else ended
            raise self._lose(name, f"{ended}{f': {end.said}' if end.said else ' and said nothing'}")
        if not end.out.strip():
            raise self._lose(name, "answers nothing")
        try:
            return decode_json(end.out, answer, what="its answer")
        except Undecodable as error:
            raise self._lose(name, error.what.replace("its answer", "answers something that", 1)) from error

    def _run(self, name: Name, line: bytes, where: str) -> _End:
        try:
            process = ProcessGroup(
                self._argv[name],
                cwd=self._folder,
                env=self._make_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except OSError as error:
            raise ProviderUnavailable(f"it cannot be started: {error.strerror}", where=where) from error
        return _Conversation(process, line, time.monotonic() + self._timeout_s).hold(
            lambda what: self._lose(name, what), self._clean, self._timeout_s
        )

    def _clean(self, said: bytes) -> str:
        """Return the last line of what a command said, masked and cut."""
        lines = [each for each in self._mask(said.decode(errors="replace")).splitlines() if each.strip()]
        return make_printable(lines[-1].strip())[:_LINE_CHARACTERS] if lines else ""

    def _lose(self, name: Name, what: str) -> ProviderUnavailable:
        hint = f"run it by hand: {self._write_line(name)}" if name in ("history", "current") else None
        return ProviderUnavailable(f"the command {what}", where=f"platform.command.{name}", hint=hint)

    def _make_error(self, failed: Failed, where: str) -> BackoutError:
        said = make_printable(self._mask(failed.message))[:_LINE_CHARACTERS]
        match failed.error:
            case "conflict":
                return WorldMoved(said or "another deployment is live by now", where=where)
            case "unknown_version":
                return ProviderRejected(said or "there is no such version", status=_NOT_FOUND, where=where)
            case "not_found":
                return ProviderRejected(said or "there is no such application", status=_NOT_FOUND, where=where)
            case "refused":
                way = "choose another version: `backout deployments list`"
                return Refused(said or "it is refused", where=where, rule=SafetyRule.TARGET, options=(way,))
            case "no_split":
                return NoSplit(said or "these versions cannot share the traffic", status=0, where=where)
            case "denied":
                return AuthError(said or "the platform does not allow it", where=where)
            case "unavailable":
                return ProviderUnavailable(said or "the platform does not answer", where=where)


def _find_error(out: bytes) -> Failed | None:
    """Return the error that a command answers, None where it answers something else."""
    try:
        return decode_json(out, Failed)
    except Undecodable:
        return None


class _Conversation:
    """One run of a command: what it is asked goes in and what it writes comes out, side by side."""

    def __init__(self, process: ProcessGroup, line: bytes, deadline: float) -> None:
        self._process = process
        self._line = line
        self._deadline = deadline
        self._out, self._said = bytearray(), bytearray()
        self._is_too_long = False

    def hold(self, lose: Callable[[str], ProviderUnavailable], clean: Callable[[bytes], str], timeout_s: float) -> _End:
        """Return how it ended. Raises what `lose` makes of a reason."""
        threads = [threading.Thread(target=each, daemon=True) for each in (self._write, self._read, self._hear)]
        for each in threads:
            each.start()
        is_late = not self._await_end(threads[1:])
        if is_late or self._is_too_long:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for each in threads:
            each.join(_KILLED_S)
        if not any(each.is_alive() for each in threads):  # else one reads what a process that got away still holds
            for stream in (self._process.stdout, self._process.stderr):
                assert stream is not None
                stream.close()
        if self._is_too_long:
            raise lose(f"answers more than {MOST_BYTES >> 20} MiB")
        if is_late:
            raise lose(f"did not end within {timeout_s:g} s, and was stopped")
        return _End(self._process.returncode, bytes(self._out), clean(bytes(self._said)))

    def _await_end(self, readers: Sequence[threading.Thread]) -> bool:
        """Whether the command, and whatever holds its output, ends in time."""
        try:
            self._process.wait(max(0.0, self._deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return False
        for each in readers:
            each.join(max(0.0, self._deadline - time.monotonic()))
        return not any(each.is_alive() for each in readers)

    def _write(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError, OSError):
            written = 0
            while written < len(self._line):
                written += os.write(self._process.stdin.fileno(), self._line[written:])
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        while piece := os.read(self._process.stdout.fileno(), 65536):
            self._out += piece
            if len(self._out) > MOST_BYTES:
                self._is_too_long = True
                self._process.kill()
                return

    def _hear(self) -> None:
        assert self._process.stderr is not None
        while piece := os.read(self._process.stderr.fileno(), 65536):
            self._said = (self._said + piece)[-_MOST_SAID:]
