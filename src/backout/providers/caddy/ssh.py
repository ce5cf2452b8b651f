"""A host that OpenSSH reaches, with the user's own configuration and keys; nothing is installed there.

One connection each, made when something is asked for first. The host's Python reads the text of `agent` from it, and
then one question after the other; when the connection ends, so does that process, and what it held is free.

Source: ssh(1) and ssh_config(5) of OpenSSH 10.0: BatchMode, ConnectTimeout, ServerAlive*; tried with its sshd.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import tarfile
import tempfile
import threading
import time
from collections import deque
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import msgspec

from backout.decoding import Undecodable, decode_json
from backout.errors import AuthError, ProviderUnavailable
from backout.escaping import make_printable
from backout.model.value import Value
from backout.providers.caddy import agent
from backout.providers.caddy.machine import Machine
from backout.providers.child_environment import make_bare_environment
from backout.providers.process_group import ProcessGroup

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import PurePath

CONNECT_S: Final = 10
ANSWER_S: Final = 90.0
"""How long an answer may take: a command that starts a release has a minute."""
_QUIET_S: Final = 5
_PIECE: Final = 1 << 20
_MOST_BYTES: Final = 64 << 20
_MOST_SAID: Final = 64 << 10
_ENDS_S: Final = 0.5
_LINE: Final = 200
_PASSED: Final = ("SSH_AUTH_SOCK",)
_DENIED: Final = ("Permission denied", "Host key verification failed", "REMOTE HOST IDENTIFICATION", "Too many authent")


class SshMachine(Machine):
    """A host behind ssh.

    Args:
        destination: as ssh(1) takes it: a name of the user's configuration, or USER@HOST.
        config: a file in place of the user's own configuration, None for that.
        answer_s: how long an answer may take.
    """

    def __init__(self, name: str, destination: str, *, config: Path | None = None, answer_s: float = ANSWER_S) -> None:
        super().__init__(name)
        self._destination = destination
        self._config = config
        self._answer_s = answer_s
        self._link: _Link | None = None
        self._locks: set[str] = set()
        self._one_at_a_time = threading.Lock()
        self._to_close: deque[str] = deque()

    def describe(self, path: PurePath) -> str:
        """Return the path as scp(1) names it."""
        return f"{self._destination}:{path}"

    def close(self) -> None:
        """End the connection; whoever waits for an answer learns that it is lost."""
        link = self._link
        if link is not None:
            link.kill()
            with self._one_at_a_time:
                self._drop(link)

    def close_file(self, opened: str) -> None:
        """Let go of an opened file before the next question: a finalizer, which calls this, must not wait for ssh."""
        self._to_close.append(opened)

    def put(self, folder: Path, to: PurePath) -> None:
        """Send a folder as an archive, through a file that has no name."""
        with tempfile.TemporaryFile() as packed:
            with tarfile.open(fileobj=packed, mode="w") as archive:
                archive.add(folder, ".", filter=_drop_owner)
            size = packed.tell()
            packed.seek(0)
            self._exchange("unpack", {"to": str(to), "size": size}, lambda link: link.send_file(packed))

    def _do(self, deed: str, /, **arguments: object) -> Any:
        return self._exchange(deed, arguments)

    def _exchange(
        self, deed: str, arguments: dict[str, object], then: Callable[[_Link], None] = lambda _link: None
    ) -> Any:
        with self._one_at_a_time:
            if deed == "release_lock":
                self._locks.discard(str(arguments["held"]))
                if self._link is None:
                    return None  # it went with the connection
            link = self._open()
            try:
                while self._to_close:
                    link.begin(self._answer_s)
                    link.ask("close_file", {"opened": self._to_close.popleft()})
                link.begin(self._answer_s)
                answer = link.ask(deed, arguments, then)
            except _Lost as error:
                self._drop(link)
                raise self._make_error(error.what, error.said) from error
            except BaseException:
                self._drop(link)  # an answer that nobody waited for would be taken for the next one
                raise
            if deed == "lock" and answer.done is not None:
                self._locks.add(str(answer.done))
        if answer.odd is not None:
            raise agent.Odd(*answer.odd)
        if answer.failed is not None:
            number, text, path = answer.failed
            raise OSError(number, text, path or None)
        return answer.done

    def _open(self) -> _Link:
        """Return the connection. Raises ProviderUnavailable, AuthError: there is none, or a lock went with the last."""
        if self._link is not None:
            return self._link
        if self._locks:
            raise self._make_error("the lock was lost with the connection", "")
        try:
            self._link = _Link(self._list_words(), time.monotonic() + CONNECT_S + self._answer_s)
        except _Lost as error:
            raise self._make_error(error.what, error.said) from error
        return self._link

    def _drop(self, link: _Link) -> None:
        """End a connection, and open another one for the next question, unless it was done meanwhile."""
        link.close()
        if self._link is link:
            self._link = None

    def _list_words(self) -> Sequence[str]:
        text = Path(agent.__file__).read_bytes()
        start = f"import sys; exec(sys.stdin.buffer.read({len(text)}).decode())"
        options = ("BatchMode=yes", f"ConnectTimeout={CONNECT_S}", f"ServerAliveInterval={_QUIET_S}", "RequestTTY=no")
        chosen = () if self._config is None else ("-F", str(self._config))
        flags = [word for option in options for word in ("-o", option)]
        return ("ssh", *chosen, *flags, "--", self._destination, f"exec python3 -I -c '{start}'")

    def _make_error(self, what: str, said: str) -> ProviderUnavailable | AuthError:
        where = f"host {self.name} (ssh {self._destination})"
        told = f"{what}: {said}" if said else what
        if any(each in said for each in _DENIED):
            return AuthError(f"ssh is not let in: {said}", where=where, hint=f"ssh {self._destination} true")
        if "python3" in said and "not found" in said:
            return ProviderUnavailable("there is no python3 on the host", where=where, hint="install it there")
        return ProviderUnavailable(
            f"the host was not reached: {told}", where=where, hint=f"ssh {self._destination} true"
        )


def _drop_owner(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Have it belong to whoever unpacks it."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


class _Answer(Value, frozen=True):
    """What the agent answers: one of these."""

    ready: bool = False
    done: object = None
    odd: tuple[str, str] | None = None
    failed: tuple[int, str, str] | None = None


class _Lost(Exception):
    """The connection is of no use any more.

    Args:
        what: why.
        said: the last line that ssh itself wrote.
    """

    def __init__(self, what: str, said: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.said = said


class _Link:
    """A connection with the agent at its other end."""

    def __init__(self, words: Sequence[str], deadline: float) -> None:
        self._deadline = deadline
        self._rest = b""
        self._is_closed = False
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the connection
        try:
            self._process = ProcessGroup(
                words,
                env=make_bare_environment(passed=_PASSED),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
            )
        except OSError as error:
            self._errors.close()
            raise _Lost(f"ssh cannot be started: {error.strerror}") from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._in, False)
        try:
            self.send(Path(agent.__file__).read_bytes())
            self.receive()
        except BaseException:
            self.close()
            raise

    def begin(self, within_s: float) -> None:
        """Begin a question that has so many seconds."""
        self._deadline = time.monotonic() + within_s

    def ask(
        self, deed: str, arguments: dict[str, object], then: Callable[[_Link], None] = lambda _link: None
    ) -> _Answer:
        """Return the answer to a question, after what follows it was sent. Raises _Lost."""
        self.send(msgspec.json.encode({"do": deed, "with": arguments}) + b"\n")
        then(self)
        return self.receive()

    def send(self, content: bytes) -> None:
        """Send all of it. Raises _Lost."""
        left = memoryview(content)
        while left:
            self._wait(self._in, select.POLLOUT)
            try:
                left = left[os.write(self._in, left[:_PIECE]) :]
            except BlockingIOError:
                continue
            except OSError:
                raise self._lose("the connection was closed") from None

    def send_file(self, file: IO[bytes]) -> None:
        """Send a file from where it stands; each piece has the whole time of a question."""
        within_s = self._deadline - time.monotonic()
        while piece := file.read(_PIECE):
            self.begin(within_s)
            self.send(piece)
        self.begin(within_s)

    def receive(self) -> _Answer:
        """Return the next answer. Raises _Lost."""
        while b"\n" not in self._rest:
            self._wait(self._out, select.POLLIN)
            piece = os.read(self._out, _PIECE)
            if not piece:
                raise self._lose("the connection was closed")
            self._rest += piece
            if len(self._rest) > _MOST_BYTES:
                raise self._lose("its answer is too long")
        line, _, self._rest = self._rest.partition(b"\n")
        try:
            return decode_json(line, _Answer, what="its answer")
        except Undecodable as error:
            raise self._lose(error.what) from error

    def kill(self) -> None:
        """Have it end."""
        self._process.kill()

    def close(self) -> None:
        """End it."""
        self._is_closed = True
        self.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def __del__(self) -> None:
        """End it, also where nobody closed it."""
        with contextlib.suppress(AttributeError, OSError):
            self.close()

    def _wait(self, descriptor: int, event: int) -> None:
        if self._is_closed:
            raise _Lost("the connection was closed")  # by now the descriptor may be another file's
        poll = select.poll()
        poll.register(descriptor, event)
        if not poll.poll(max(0.0, self._deadline - time.monotonic()) * 1000):
            raise self._lose("it does not answer in time")

    def _lose(self, what: str) -> _Lost:
        """Return the error, with the last line that ssh itself said."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_ENDS_S)
        self._errors.seek(0)
        lines = [each for each in self._errors.read(_MOST_SAID).decode(errors="replace").splitlines() if each.strip()]
        return _Lost(what, make_printable(lines[-1].strip())[:_LINE] if lines else "")
