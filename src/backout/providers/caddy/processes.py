"""The processes of releases: started and stopped by the operator's commands, or by the small supervisor here."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Final, Protocol

from backout.errors import BackoutError, Refused
from backout.private import open_unlinked
from backout.providers.caddy.agent import accepts
from backout.providers.child_environment import make_bare_environment, make_module_command, make_team_environment
from backout.rules import SafetyRule

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from backout.model.release import Release
    from backout.providers.caddy.releases import ReleaseFolder

_LOOK_EVERY_S: Final = 0.02
_COMMAND_S: Final = 60.0
_PUSH: Final = "`backout release push`"


class Processes(Protocol):
    """Starts and stops the process of a release; both are safe to repeat."""

    def start(self, release: Release) -> None:
        """Have it run; returns when that was asked for, not when it answers. Raises BackoutError."""
        ...

    def stop(self, release: Release) -> None:
        """Have it end. Raises BackoutError."""
        ...


class CommandProcesses:
    """The operator's commands, such as `systemctl start shop@{release}`.

    Args:
        start, stop: command lines; `{release}`, `{port}` and `{folder}` are put in.
        without: variables that they do not get.
    """

    def __init__(self, folder: ReleaseFolder, start: str, stop: str, *, without: Collection[str] = ()) -> None:
        self._folder = folder
        self._start = start
        self._stop = stop
        self._without = without

    def start(self, release: Release) -> None:
        """Run the command that starts it."""
        self._run(self._start, release)

    def stop(self, release: Release) -> None:
        """Run the command that stops it."""
        self._run(self._stop, release)

    def _run(self, line: str, release: Release) -> None:
        words = [put_in(word, self._folder, release) for word in shlex.split(line)]
        environment = make_team_environment(without=self._without)
        try:
            ended = subprocess.run(  # what it starts may keep its output open
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                timeout=_COMMAND_S,
                check=False,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise BackoutError(f"the command cannot be run: {error}", where=shlex.join(words)) from error
        if ended.returncode != 0:
            raise BackoutError(f"the command ended with exit code {ended.returncode}", where=shlex.join(words))


class RemoteProcesses(CommandProcesses):
    """The operator's commands on another host, run there with what the user has who is let in.

    Args:
        start, stop: as of `CommandProcesses`.
    """

    def _run(self, line: str, release: Release) -> None:
        words = [put_in(word, self._folder, release) for word in shlex.split(line)]
        where = f"{self._folder.machine.name}: {shlex.join(words)}"
        try:
            code = self._folder.machine.run(words)
        except OSError as error:
            raise BackoutError(f"the command cannot be run: {error.strerror or error}", where=where) from error
        if code != 0:
            raise BackoutError(f"the command ended with exit code {code}", where=where)


class WithheldProcesses:
    """Where the operator's commands must not be run: a release that answers is used as it is, and none is ended."""

    def __init__(self, folder: ReleaseFolder) -> None:
        self._folder = folder

    def start(self, release: Release) -> None:
        """Change nothing. Raises BackoutError: it does not run."""
        if not self._folder.machine.accepts(release.address):
            what = f"nothing answers at {release.address}, and the command that starts releases is not run"
            raise BackoutError(f"{what} (--no-commands)", where=release.id)

    def stop(self, release: Release) -> None:
        """Raise BackoutError, always: whether the release runs is not known."""
        raise BackoutError("the command that stops releases is not run (--no-commands)", where=release.id)


def put_in(word: str, folder: ReleaseFolder, release: Release) -> str:
    """Return a word of a command with the release's own values in place of their names."""
    values = {
        "{release}": release.id,
        "{port}": release.address.rpartition(":")[2],
        "{folder}": str(folder.get_code(release.id)),
    }
    for name, value in values.items():
        word = word.replace(name, value)
    return word


class OwnProcesses:
    """The small supervisor: it starts a release in its folder, and again when it ends by itself.

    Args:
        run: the command line of the application; PORT and RELEASE are in its environment, beside the release's own.
    """

    def __init__(self, folder: ReleaseFolder, run: str) -> None:
        self._folder = folder
        self._run = run

    def start(self, release: Release) -> None:
        """Start its supervisor, unless it runs.

        Raises:
            Refused: something else listens where it is to.
            BackoutError: it cannot be started.
        """
        if self._find(release) is not None:
            return
        if accepts(release.address):
            raise Refused(
                f"something else listens at {release.address}, where release {release.id} is to",
                where=release.id,
                rule=SafetyRule.TARGET,
                options=(f"end it (`ss -ltnp` shows which it is), or push the code again: {_PUSH}",),
            )
        words = [put_in(word, self._folder, release) for word in shlex.split(self._run)]
        if not words:
            raise BackoutError("no command is configured that runs a release", where=release.id)
        place = self._folder.folder / release.id
        command = make_module_command("backout.providers.caddy.supervise", str(place), release.address, *words)
        try:
            with open(place / "log", "ab", opener=open_unlinked) as log:
                subprocess.run(  # the shell ends at once, so that nobody has to wait for the supervisor
                    ("/bin/sh", "-c", '"$@" &', "sh", *command),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=make_bare_environment(),
                    start_new_session=True,
                    timeout=_COMMAND_S,
                    check=True,
                )
        except (OSError, subprocess.SubprocessError) as error:
            raise BackoutError(f"the release cannot be started: {error}", where=release.id) from error

    def stop(self, release: Release) -> None:
        """End its supervisor and the application, within ten seconds. Raises BackoutError: it does not end."""
        pid = self._find(release)
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _COMMAND_S
        while self._find(release) == pid:
            if time.monotonic() > deadline:
                raise BackoutError("the release does not stop", where=release.id, hint=f"kill {pid}")
            time.sleep(_LOOK_EVERY_S)

    def _find(self, release: Release) -> int | None:
        """Return the supervisor's process id, None where none holds the release's lock."""
        return find_supervisor(self._folder.folder / release.id)


def find_supervisor(place: Path) -> int | None:
    """Return the process id of the supervisor that holds a release's folder, None where none does."""
    from backout.providers.caddy.supervise import LOCK, is_locked

    path = place / LOCK
    try:
        with path.open("rb") as file:
            return int(file.read(20) or b"0") or None if is_locked(file) else None
    except (OSError, ValueError):
        return None
