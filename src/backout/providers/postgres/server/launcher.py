"""One Postgres server on one data directory: create, start, stop, restart, status; on loopback, never as root.

The state is in the data directory (`postmaster.pid`), so that another process can find and stop a server,
and a start after kill -9 of everything works: stale lock files and zombies are distinguished from a live server.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from backout.errors import BackoutError, Busy, UsageError
from backout.model.value import Value
from backout.private import open_unlinked
from backout.providers.child import (
    NOBODY,
    find_free_ports,
    find_unprivileged_prefix,
    is_running,
    needs_chown,
    tie_to_parent,
)
from backout.providers.postgres.server.template import SUPERUSER, create_data_directory, make_tool_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backout.providers.postgres.server.binaries import Binaries

_POLL_S = 0.01
_ORPHANS = "shared memory block"
"""In the log when processes of a killed server have not gone yet; they do so by themselves, at once."""
_SOCKET_DIRECTORY = "backout-pg-"


class ServerStatus(Value, frozen=True):
    """A running server, from its `postmaster.pid`.

    Args:
        state: `starting`, `ready`, `standby` or `stopping`.
        socket_directory: where its unix socket lies.
    """

    pid: int
    port: int
    socket_directory: Path
    state: str

    @property
    def socket_dsn(self) -> str:
        """The superuser's connection string through the unix socket, without password."""
        return f"host={self.socket_directory} port={self.port} user={SUPERUSER} dbname=postgres"


class Overlay(Value, frozen=True):
    """A data directory overlaid on another one, and mounted where only its server sees it.

    Args:
        lower: the directory below, never written.
        upper: the server's writes; its lock file is visible here.
        work: the mount's own folder. All three, and the data directory, exist before the start.
    """

    lower: Path
    upper: Path
    work: Path

    def prefix(self, data_directory: Path) -> tuple[str, ...]:
        """Return the words in front of a command that is to see it: a mount in a namespace of its own."""
        lower = str(self.lower).replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")
        options = f"lowerdir={lower},upperdir={self.upper.name},workdir={self.work.name}"
        mount = 'cd "$1" && mount -t overlay overlay -o "$2" "$3" && shift 3 && exec "$@"'
        return (
            *("unshare", "--user", "--map-root-user", "--mount", "--", "/bin/sh", "-c", mount, "sh"),
            *(str(self.upper.parent), options, str(data_directory)),
            # Inside, the caller is root, which Postgres refuses to be.
            *("unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}", "--"),
        )


class PostgresServer:
    """The server of one data directory.

    Args:
        data_directory: made by `create`, or a restored one.
        binaries: the installation to run.
        settings: given on the server's command line, so they win over postgresql.conf (`fsync=off` for a drill); or
            what returns them when it is started.
        log_file: the server's log; default is beside the data directory.
        dies_with_parent: the kernel stops the server when the thread that started it ends.
        overlay: the layers of the data directory, when it is only mounted for the server.
    """

    def __init__(
        self,
        data_directory: Path,
        binaries: Binaries,
        *,
        settings: Mapping[str, str] | Callable[[], Mapping[str, str]] | None = None,
        log_file: Path | None = None,
        dies_with_parent: bool = True,
        overlay: Overlay | None = None,
    ) -> None:
        self.data_directory = data_directory.absolute()
        self._overlay = overlay
        self._visible = self.data_directory if overlay is None else overlay.upper
        self.log_file = log_file or self.data_directory.with_name(f"{self.data_directory.name}.log")
        self._binaries = binaries
        self._make_settings = settings if callable(settings) else lambda: settings or {}
        self._dies_with_parent = dies_with_parent
        self._process: subprocess.Popen[bytes] | None = None

    def create(self, *, cache_directory: Path | None = None, settings: Mapping[str, str] | None = None) -> bool:
        """Make the data directory unless it exists; `settings` go to postgresql.conf. Return whether it was made."""
        if (self.data_directory / "PG_VERSION").is_file():
            return False
        create_data_directory(self.data_directory, self._binaries, cache_directory=cache_directory, settings=settings)
        return True

    def start(
        self, *, port: int | None = None, password: str | None = None, take_over: bool = False, timeout_s: float = 30.0
    ) -> ServerStatus:
        """Start the server and return when it takes connections.

        Args:
            port: TCP port on 127.0.0.1; a free one if None.
            password: set as the superuser's, for TCP; None leaves it (a server in recovery cannot set one).
            take_over: stop a server that already runs on this directory, instead of refusing.
            timeout_s: for the whole start, replay of WAL included.

        Raises:
            Busy: another server runs on this data directory.
            UsageError: there is no data directory.
            BackoutError: it did not come up; the end of its log is quoted.
        """
        lower = self.data_directory if self._overlay is None else self._overlay.lower
        if not (lower / "PG_VERSION").is_file():
            raise UsageError("not a Postgres data directory", where=str(self.data_directory))
        deadline = time.monotonic() + timeout_s
        self._make_room(take_over=take_over, deadline=deadline)
        port = port or find_free_ports(1)[0]
        while (status := self._attempt(port, deadline)) is None:
            time.sleep(_POLL_S * 10)
        if password is not None:
            _set_password(status, password)
        return status

    def stop(self, *, mode: str = "fast", timeout_s: float = 20.0) -> None:
        """Stop the server, cleanly (`fast`: sessions are cut, a checkpoint is written) or at once (`immediate`).

        A fast stop that exceeds `timeout_s` becomes an immediate one. Nothing happens where none runs.
        """
        status = self.status()
        if status is not None:
            first = signal.SIGINT if mode == "fast" else signal.SIGQUIT
            for number, patience_s in ((first, timeout_s), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(status.pid, number)
                if self._gone(status.pid, patience_s):
                    break
            _remove_socket_directory(status.socket_directory)
        if self._process is not None:
            self._process.wait(timeout=5.0)
            self._process = None

    def restart(self, *, port: int | None = None, password: str | None = None) -> ServerStatus:
        """Stop and start, on the same port unless another is given."""
        before = self.status()
        self.stop()
        return self.start(port=port or (before.port if before else None), password=password)

    def status(self) -> ServerStatus | None:
        """Return the server that runs on this data directory, even if started elsewhere; None if none does."""
        status = self._lock_file()
        return status if status is not None and is_running(status.pid) and self._is_ours(status.pid) else None

    def _is_ours(self, pid: int) -> bool:
        """Whether the process is this directory's server: a stale file may name any process."""
        process = Path(f"/proc/{pid}")
        with contextlib.suppress(OSError):
            works_in = process.joinpath("cwd")
            here = self._overlay is not None and works_in.readlink() == self.data_directory.resolve()
            here = here or works_in.samefile(self.data_directory)
            return process.joinpath("exe").readlink().name == "postgres" and here
        return not Path("/proc/self").exists()

    def _lock_file(self) -> ServerStatus | None:
        """Parse postmaster.pid: pid, data, start time, port, socket directory, address, shared memory, state."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            lines = (self._visible / "postmaster.pid").read_text(encoding="utf-8").splitlines()
            state = lines[7].strip() if len(lines) > 7 else "starting"
            return ServerStatus(int(lines[0]), int(lines[3]), Path(lines[4]), state)
        return None

    def _make_room(self, *, take_over: bool, deadline: float) -> None:
        """Wait for a server that is just stopping, stop or refuse a running one, remove a dead one's lock file."""
        patience = time.monotonic() + 2.0
        while (status := self.status()) is not None:
            if status.state == "stopping" and time.monotonic() < deadline:
                time.sleep(_POLL_S)
            elif take_over:
                self.stop()
            elif time.monotonic() > patience:
                raise Busy(
                    f"another Postgres (process {status.pid}) runs on this data directory",
                    where=str(self.data_directory),
                    hint="stop it first",
                )
            else:
                time.sleep(_POLL_S)  # its parent may have been killed this very moment
        if self._process is not None:
            self._process.wait(timeout=5.0)  # it ended by itself or was killed: reap it
            self._process = None
        for sockets in Path(tempfile.gettempdir()).glob(f"{self._socket_prefix()}*"):
            shutil.rmtree(sockets, ignore_errors=True)  # of a server that its parent's death ended
        # A zombie still has its pid, so the server itself would take its lock file for a living one's.
        (self._visible / "postmaster.pid").unlink(missing_ok=True)

    def _attempt(self, port: int, deadline: float) -> ServerStatus | None:
        """Start once; None if a killed server's remains are still in the way and there is time to wait for them."""
        begin = self.log_file.stat().st_size if self.log_file.exists() else 0
        # A socket path may have 107 bytes at most, so it cannot lie beside the data; fresh, so nothing is in the way.
        sockets = Path(tempfile.mkdtemp(prefix=self._socket_prefix()))
        if needs_chown():
            os.chown(sockets, NOBODY, NOBODY)
        process = self._spawn(port, sockets)
        while time.monotonic() < deadline:
            status = self._lock_file()
            if status is not None and status.pid == process.pid and status.state in {"ready", "standby"}:
                self._process = process
                if not self._dies_with_parent:
                    process.returncode = 0  # it outlives us: this process does not wait for it
                return status
            if process.poll() is not None:
                break
            time.sleep(_POLL_S)
        exited = process.poll() is not None
        _end_process(process)
        _remove_socket_directory(sockets)
        said = self._log_since(begin)
        if exited and _ORPHANS in said and time.monotonic() < deadline:
            return None
        reason = "it stopped" if exited else "it was not ready in time"
        raise BackoutError(f"Postgres did not start: {reason}: {said[-1500:].strip()}", where=str(self.data_directory))

    def _spawn(self, port: int, sockets: Path) -> subprocess.Popen[bytes]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": str(sockets),
            "unix_socket_permissions": "0700",
            "logging_collector": "off",
            **self._make_settings(),
        }
        argv = [self._binaries.path("postgres"), "-D", str(self.data_directory)]
        for name, value in settings.items():
            argv += ["-c", f"{name}={value}"]
        inner = tie_to_parent(argv, signal.SIGINT) if self._dies_with_parent else tuple(argv)
        prefix = find_unprivileged_prefix() if self._overlay is None else self._overlay.prefix(self.data_directory)
        with open(self.log_file, "ab", opener=open_unlinked) as log:
            return subprocess.Popen(
                (*prefix, *inner),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C at the terminal is for the parent alone
                env=make_tool_environment(),
            )

    def _socket_prefix(self) -> str:
        """Return the same for the same data directory, so that a later start finds what an earlier one left."""
        return f"{_SOCKET_DIRECTORY}{hashlib.sha256(bytes(self.data_directory)).hexdigest()[:10]}-"

    def _gone(self, pid: int, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self._process is not None and self._process.pid == pid:
                self._process.poll()  # reaps it
            if not is_running(pid):
                return True
            time.sleep(_POLL_S)
        return False

    def _log_since(self, begin: int) -> str:
        with contextlib.suppress(OSError), self.log_file.open("rb") as log:
            log.seek(begin)
            return log.read(100_000).decode("utf-8", "replace")
        return ""


def _set_password(status: ServerStatus, password: str) -> None:
    from psycopg import sql

    from backout.providers.postgres.server.session import open_working

    with open_working(status.socket_dsn) as connection:
        # The client hashes, so that the password itself is in no log of the server.
        hashed = connection.pgconn.encrypt_password(password.encode(), SUPERUSER.encode(), b"scram-sha-256").decode()
        connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(SUPERUSER), sql.Literal(hashed)))


def _end_process(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGQUIT)
        try:
            process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def _remove_socket_directory(directory: Path) -> None:
    if directory.name.startswith(_SOCKET_DIRECTORY):
        shutil.rmtree(directory, ignore_errors=True)
