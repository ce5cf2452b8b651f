"""A twin's folder: its files, its identity, the process that holds it, and the processes that it started.

Everything here is plain files, readable while the daemon is down; the lock is the kernel's, so it cannot go stale.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from backout.decoding import decode_raw
from backout.errors import Busy, UsageError
from backout.model.value import Value
from backout.private import make_private_folder
from backout.providers.child import is_running

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_GRACE_S = 2.0
_POLL_S = 0.02


CLOUDFLARE: Final = "cloudflare"
HOSTS: Final = "hosts"
KINDS: Final = (CLOUDFLARE, HOSTS)
"""What a twin stands in for: Cloudflare, or plain hosts behind Caddy."""


class Identity(Value, frozen=True):
    """What persists between starts.

    Args:
        account_id: the one account.
        port: taken again where it is still free.
        sealed: its Workers reach its own parts alone.
        kind: one of `KINDS`.
    """

    account_id: str
    port: int = 0
    sealed: bool = False
    kind: str = CLOUDFLARE


class ProcessMark(Value, frozen=True):
    """A process, distinguishable from a later one with the same number: `started` is its kernel start tick."""

    pid: int
    started: int

    def is_alive(self) -> bool:
        """Whether exactly this process still runs."""
        return is_running(self.pid) and read_start_tick(self.pid) == self.started


class Note(Value, frozen=True):
    """The daemon's own record while it runs.

    Args:
        daemon: its process.
        port: its port.
        ready: whether everything behind it is up.
        children: the processes it started, by name.
    """

    daemon: ProcessMark
    port: int
    ready: bool
    children: dict[str, ProcessMark]


class Home:
    """The folder of one twin, made on first use with mode 0700."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()

    @property
    def state_file(self) -> Path:
        """The control plane's database."""
        return self.directory / "state.sqlite"

    @property
    def blobs(self) -> Path:
        """Modules and static files by hash."""
        return self.directory / "blobs"

    @property
    def faults_file(self) -> Path:
        """The active faults."""
        return self.directory / "faults.json"

    @property
    def token_file(self) -> Path:
        """The API's bearer token, readable by the owner alone."""
        return self.directory / "api-token"

    @property
    def releases(self) -> Path:
        """The folder of releases of a twin of plain hosts."""
        return self.directory / "releases"

    @property
    def log_file(self) -> Path:
        """What the daemon says."""
        return self.directory / "twin.log"

    def create(self) -> None:
        """Make the folder."""
        make_private_folder(self.directory)
        self.directory.chmod(0o700)

    def identity(self) -> Identity:
        """Return this twin's identity; created on the first call."""
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            return decode_raw(self._identity_file.read_bytes(), Identity)
        identity = Identity(account_id=secrets.token_hex(16))
        _write(self._identity_file, identity)
        return identity

    def read_kind(self) -> str:
        """Return what the twin stands in for; one that was never started may be any, and counts as Cloudflare."""
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            return decode_raw(self._identity_file.read_bytes(), Identity).kind
        return CLOUDFLARE

    def remember_port(self, port: int) -> None:
        """Keep the port for the next start."""
        _write(self._identity_file, replace(self.identity(), port=port))

    def choose_kind(self, kind: str) -> None:
        """Say what the twin stands in for, before its first start.

        Raises:
            UsageError: it was started before, as another one.
        """
        known = self.identity()
        if known.kind == kind:
            return
        if known.port:
            raise UsageError(
                f"a twin of the home {known.kind} is kept here",
                where=str(self.directory),
                hint="choose another folder: `backout twin up --dir DIR`",
            )
        _write(self._identity_file, replace(known, kind=kind))

    def seal(self) -> None:
        """Make the twin sealed, from its next start on: its Workers reach its own parts alone."""
        _write(self._identity_file, replace(self.identity(), sealed=True))

    def token(self) -> str:
        """Return the API's token; made up on the first call."""
        with contextlib.suppress(FileNotFoundError):
            return self.token_file.read_text(encoding="ascii").strip()
        token = secrets.token_urlsafe(30)
        with os.fdopen(os.open(self.token_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(token)
        return token

    def note(self) -> Note | None:
        """Return what the daemon last wrote about itself, whether it still runs or not."""
        try:
            return decode_raw(self._note_file.read_bytes(), Note)
        except (OSError, msgspec.MsgspecError):
            return None

    def write_note(self, note: Note) -> None:
        """Write the daemon's note, atomically."""
        _write(self._note_file, note)

    def remove_note(self) -> None:
        """Forget the note after a clean end."""
        self._note_file.unlink(missing_ok=True)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder as its daemon; the kernel lets go when the process ends, however it ends.

        Raises:
            Busy: another process holds it.
        """
        with _hold_lock(self.directory / "daemon.lock", 0.0, f"another twin runs from {self.directory}"):
            yield

    @contextlib.contextmanager
    def turn(self, timeout_s: float) -> Iterator[None]:
        """Wait until no other `up` or `down` is at work on this folder.

        Raises:
            Busy: it took longer than `timeout_s`.
        """
        with _hold_lock(
            self.directory / "turn.lock", timeout_s, f"another command is starting or stopping {self.directory}"
        ):
            yield

    def sweep(self) -> tuple[int, ...]:
        """End what a killed daemon left behind and return the pids; recorded processes only, matched by start tick.

        The kernel ends the children of a dead daemon by itself, so they get a moment first.
        """
        note = self.note()
        if note is None:
            return ()
        marks = (note.daemon, *note.children.values())
        deadline = time.monotonic() + _GRACE_S
        while time.monotonic() < deadline and any(mark.is_alive() for mark in marks):
            time.sleep(_POLL_S)
        left = tuple(mark.pid for mark in marks if mark.is_alive())
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.remove_note()
        return left

    @property
    def _identity_file(self) -> Path:
        return self.directory / "identity.json"

    @property
    def _note_file(self) -> Path:
        return self.directory / "running.json"


def read_start_tick(pid: int) -> int:
    """Return the clock tick at which the process started, 0 when there is no such process or no /proc."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[19])


def mark_own_process() -> ProcessMark:
    """Return this process with its start tick."""
    return ProcessMark(os.getpid(), read_start_tick(os.getpid()))


def read_marks(pids: Mapping[str, int]) -> dict[str, ProcessMark]:
    """Return the processes with their start ticks."""
    return {name: ProcessMark(pid, read_start_tick(pid)) for name, pid in pids.items()}


@contextlib.contextmanager
def _hold_lock(path: Path, timeout_s: float, who: str) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise Busy(who, where="backout twin", hint="backout twin status") from error
                time.sleep(_POLL_S)
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, value: object) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_bytes(msgspec.json.encode(value))
    os.replace(temporary, path)  # noqa: PTH105 - the atomic one, named as such
