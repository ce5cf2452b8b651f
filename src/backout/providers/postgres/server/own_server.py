"""Port DatabaseServer: a self-hosted server, stopped and started by the operator's commands, run without a shell."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from backout.errors import BackoutError, Refused, UsageError
from backout.providers.child import is_running
from backout.providers.child_environment import make_bare_environment
from backout.providers.postgres.server import own_files
from backout.providers.postgres.server.template import read_checkpoint_lsn
from backout.providers.postgres.server.template import read_system_identifier as read_identifier

if TYPE_CHECKING:
    from backout.model.database.wal import WalSegment

_TIMEOUT_S: Final = 180.0
_POLL_S: Final = 0.05
_WRITTEN_S: Final = 2.0
"""A starting server has written into its lock file by then."""
_SERVICE_MANAGERS: Final = (
    *("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "SSH_AUTH_SOCK", "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG"),
    *("PGDATA", "PGPORT"),
)
"""The variables for the commands that start and stop a server, beside those that every program needs."""
_WAITS: Final = re.compile(r"^\s*synchronous_standby_names\s*=\s*'(.*)'\s*$\n?", re.MULTILINE)
"""As ALTER SYSTEM writes it: the last one counts."""


class CommandedServer:
    """The server of one data directory.

    Args:
        start, stop: command lines, split as a shell would and run without one.
    """

    def __init__(self, data_directory: Path, start: str, stop: str, *, timeout_s: float = _TIMEOUT_S) -> None:
        self._data_directory = data_directory.absolute()
        self._start = shlex.split(start)
        self._stop = shlex.split(stop)
        self._timeout_s = timeout_s

    @property
    def data_directory(self) -> Path:
        """Where its data is."""
        return self._data_directory

    def check(self, system_identifier: str, incoming: Path | None = None) -> None:
        """Look whether `exchange` can do its work, while the server still runs.

        Raises:
            Refused: it cannot; the reason and another way are named.
        """
        data = self._data_directory
        wrong, option = "", ""
        try:
            found = str(read_identifier(data)) if (data / "global" / "pg_control").exists() else system_identifier
        except OSError as error:
            found, wrong = "", f"it cannot be read: {error.strerror}"
        links = [*_list_links(data), *(_list_links(incoming) if incoming is not None else ())]
        if not data.is_dir():
            wrong, option = "it is not there", "If the disk was lost: create it, empty, owned by the server's user."
        elif os.path.ismount(data):
            wrong, option = "it is a mount point, which cannot be renamed", "Keep the data in a folder below the mount."
        elif not wrong and found != system_identifier:
            wrong = f"its system identifier is {found}, and that of the database is {system_identifier}"
            option = "Name the database's own folder in database.server.data_directory."
        elif incoming is not None and not incoming.is_dir():
            wrong = f"{incoming}, which would replace it, no longer exists"
        elif links:
            wrong = f"it has tablespaces outside, which both would write to: {', '.join(links)}"
            option = "Restore it by hand, with each tablespace mapped elsewhere, or move what is in them back first."
        if wrong:
            options = (option or "Restore another way: backout db restore TARGET --side.",)
            raise Refused(f"the data directory cannot be exchanged: {wrong}", where=str(data), options=options)

    def running(self) -> bool:
        """Whether the process that its lock file names is alive.

        Raises:
            BackoutError: the lock file cannot be read, or names no process.
        """
        deadline = time.monotonic() + _WRITTEN_S
        while True:
            try:
                lines = (self._data_directory / "postmaster.pid").read_text(encoding="utf-8").splitlines()
                return is_running(int(lines[0]))
            except (FileNotFoundError, NotADirectoryError):
                return False
            except (ValueError, IndexError):  # a server that starts makes the file first, and writes into it then
                if time.monotonic() > deadline:
                    raise BackoutError(
                        "whether the server runs cannot be seen: its lock file, postmaster.pid, names no process",
                        where=str(self._data_directory),
                        hint="remove that file if no server runs there, as Postgres itself asks for before it starts",
                    ) from None
                time.sleep(_POLL_S)
            except OSError as error:  # an unreadable state must not be taken for a stopped server
                raise BackoutError(
                    f"whether the server runs cannot be seen: {error.strerror}",
                    where=str(self._data_directory),
                    hint="run backout as the user that owns the data directory",
                ) from error

    def stop(self) -> None:
        """Run the command and return when the server is down. Raises BackoutError when it is not in time."""
        if not self.running():
            return
        self._run(self._stop)
        deadline = time.monotonic() + self._timeout_s
        while self.running():
            if time.monotonic() > deadline:
                raise BackoutError("the server was told to stop but is still running", where=str(self._data_directory))
            time.sleep(_POLL_S)

    def start(self) -> None:
        """Run the command; nothing happens while it runs. Raises BackoutError when it does not come up."""
        if self.running():
            return
        self._run(self._start)
        deadline = time.monotonic() + self._timeout_s
        while not self.running():
            if time.monotonic() > deadline:
                raise BackoutError("the server was told to start but is not running", where=str(self._data_directory))
            time.sleep(_POLL_S)

    def exchange(self, incoming: Path, kept: Path) -> None:
        """Move the data directory to `kept` and `incoming` to its place, both on one file system.

        After a crash between the two moves the data directory is missing and the first one is not repeated.

        Raises:
            Refused: one of them does not lie beside the data directory.
            BackoutError: the server still runs.
            UsageError: `incoming` is not there.
        """
        self._check_beside(incoming)
        self._check_beside(kept)
        if self.running():
            raise BackoutError("the server still runs on its data directory", where=str(self._data_directory))
        if not kept.exists():
            if not incoming.is_dir():
                raise UsageError("the data directory that was to be moved in does not exist", where=str(incoming))
            owner = self._data_directory.stat()
            if os.geteuid() == 0 and incoming.stat().st_uid != owner.st_uid:
                _give(incoming, owner.st_uid, owner.st_gid)
            self._data_directory.rename(kept)
        if not self._data_directory.exists():
            incoming.rename(self._data_directory)
        _sync(self._data_directory.parent)

    def waits_for(self, standby: str) -> int | None:
        """Return the last checkpoint's position where ALTER SYSTEM lets commits wait for that standby, else None.

        Raises:
            BackoutError: its settings, or its control file, cannot be read.
        """
        try:
            names = _WAITS.findall(self._settings.read_text(encoding="utf-8"))
            return read_checkpoint_lsn(self._data_directory) if names[-1:] == [standby] else None
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BackoutError(f"it cannot be read: {error.strerror}", where=str(error.filename)) from error

    def wait_for_nobody(self) -> None:
        """Remove the settings of ALTER SYSTEM again; the server's own file stays as it is."""
        settings = self._settings
        left = _WAITS.sub("", settings.read_text(encoding="utf-8"))
        with settings.open("r+", encoding="utf-8") as file:  # the same file: its owner is the server's
            file.write(left)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())

    @property
    def _settings(self) -> Path:
        return self._data_directory / "postgresql.auto.conf"

    def settings_changed(self, since: float) -> tuple[str, ...]:
        """Return the files of settings that were changed since (Unix seconds)."""
        return own_files.find_changed_since(self._data_directory, since)

    def settings_differ(self, incoming: Path) -> tuple[str, ...]:
        """Return the files of settings that are others in the data directory that would come, or not there."""
        return own_files.list_differing(self._data_directory, incoming)

    def wal_here(self, timeline: int, lsn: int) -> tuple[WalSegment, ...]:
        """Return the WAL of a timeline that lies in the data directory, up to a position."""
        return own_files.list_wal(self._data_directory, timeline, lsn)

    def history_of(self, directory: Path) -> tuple[int, int, tuple[tuple[int, int], ...]]:
        """Return of a data directory that is down its timeline, where its WAL ends, and the timelines before it."""
        return own_files.read_history(directory)

    def size_of(self, directory: str) -> int:
        """Return how many bytes a data directory takes on the disk; of one that is gone 0."""
        return own_files.measure_size(Path(directory))

    def discard(self, kept: str) -> None:
        """Remove a data directory that `exchange` kept beside the live one.

        Raises:
            Refused: it does not lie beside the data directory.
            BackoutError: it cannot be removed.
        """
        folder = Path(kept)
        self._check_beside(folder)
        try:
            folder.unlink() if folder.is_symlink() else shutil.rmtree(folder)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise BackoutError(f"not removed: {error.strerror}", where=str(error.filename or folder)) from error

    def _check_beside(self, folder: Path) -> None:
        if folder.parent != self._data_directory.parent or folder == self._data_directory:
            raise Refused("it is not beside the data directory", where=str(folder))

    def _run(self, argv: list[str]) -> None:
        shown = shlex.join(argv)
        try:
            # Its output goes nowhere: a server that it leaves behind would hold a pipe open for ever.
            done = subprocess.run(
                argv,
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=self._timeout_s,
                env=make_bare_environment(passed=_SERVICE_MANAGERS),
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BackoutError(f"`{shown}` cannot be run: {error}", where="database.server") from error
        if done.returncode != 0:
            raise BackoutError(
                f"`{shown}` ended with {done.returncode}", where="database.server", hint="run it by hand to see why"
            )


def _list_links(data: Path) -> list[str]:
    """Return the tablespaces of a data directory that lie outside of it."""
    return sorted(str(path.resolve()) for path in (data / "pg_tblspc").glob("*") if path.is_symlink())


def _give(directory: Path, uid: int, gid: int) -> None:
    for folder, _, files in os.walk(directory):
        os.chown(folder, uid, gid)
        for name in files:
            os.chown(os.path.join(folder, name), uid, gid, follow_symlinks=False)  # noqa: PTH118 - os.walk gives text


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
