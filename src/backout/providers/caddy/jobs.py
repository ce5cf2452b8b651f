"""Port JobWorkers on hosts: the operator's commands that stop, start and count the workers of a release."""

from __future__ import annotations

import shlex
import subprocess
from typing import TYPE_CHECKING, Final

from backout.errors import BackoutError, ProviderRejected, ProviderUnavailable
from backout.escaping import shorten
from backout.model.jobs import JobsLook, JobsSetup, RunningJobs
from backout.providers.caddy.machine import LocalMachine
from backout.providers.caddy.processes import put_in
from backout.providers.child_environment import make_team_environment

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from backout.model.release import Release
    from backout.providers.caddy.hosts import Host

STOPPED: Final = "stopped"
"""What the command that shows them prints where they do not run; else the number of their jobs in flight."""
_COMMAND_S: Final = 60.0
_MOST_DIGITS: Final = 9


class HostJobs:
    """Port JobWorkers.

    Args:
        start, stop, show: command lines; `{release}`, `{port}` and `{folder}` are put in.
        within_s: how long jobs in flight may take.
        without: variables that they do not get on this host.
    """

    def __init__(
        self,
        hosts: Sequence[Host],
        *,
        start: str,
        stop: str,
        show: str,
        within_s: float,
        without: Collection[str] = (),
    ) -> None:
        self._hosts = hosts
        self._start, self._stop, self._show = start, stop, show
        self._setup = JobsSetup(within_s)
        self._without = without

    @property
    def hosts(self) -> frozenset[str]:
        """The names of the hosts that have workers."""
        return frozenset(each.name for each in self._hosts)

    @property
    def setup(self) -> JobsSetup:
        """How workers are moved."""
        return self._setup

    def read(self, versions: Collection[str] | None = None) -> JobsLook:
        """Return which workers run, of these releases or of all that are there.

        Raises:
            ProviderUnavailable: a command ends with an error, or says what is no number; or a host is not reached.
            BackoutError: the releases cannot be read.
        """
        running = [
            RunningJobs(release.id, host.name, count)
            for host in self._hosts
            for release in host.releases.list()
            if release.has_process and (versions is None or release.id in versions)
            if (count := self._count(host, release)) is not None
        ]
        return JobsLook(tuple(running))

    def stop(self, version: str) -> None:
        """Run the command that stops the workers of a release, on each host that has it."""
        for host in self._hosts:
            try:
                known = host.releases.get(version, damaged=True)
            except ProviderRejected:
                continue  # it was removed there
            self._move(host, self._stop, known)

    def start(self, version: str) -> None:
        """Run the command that starts them, on each host. Raises ProviderRejected (404): one has no such release."""
        for host in self._hosts:
            self._move(host, self._start, host.releases.get(version))

    def _move(self, host: Host, line: str, release: Release) -> None:
        if release.has_process:  # a maintenance page has no workers, and its address no port
            self._run(host, _fill(host, line, release))

    def _count(self, host: Host, release: Release) -> int | None:
        words = _fill(host, self._show, release)
        said = self._run(host, words, reads=True).strip()
        if said == STOPPED:
            return None
        if said.isascii() and said.isdigit() and len(said) <= _MOST_DIGITS:
            return int(said)
        what = f"the command that shows job workers says {shorten(said)!r}, neither a number nor {STOPPED!r}"
        raise ProviderUnavailable(what, where=f"{host.name}: {shlex.join(words)}")

    def _run(self, host: Host, words: list[str], *, reads: bool = False) -> str:
        """Run a command, and return what it prints where that is read: what it starts may keep its output open.

        Raises:
            ProviderUnavailable: it fails, or does not end; or the host is not reached.
        """
        where = f"{host.name}: {shlex.join(words)}"
        machine = host.releases.machine
        try:
            if isinstance(machine, LocalMachine):
                code, said = self._run_here(words, reads=reads)
            elif reads:
                code, said = machine.run_and_read(words)
            else:
                code, said = machine.run(words), ""
        except (OSError, subprocess.SubprocessError) as error:
            raise ProviderUnavailable(f"the command cannot be run: {error}", where=where) from error
        if code != 0:
            raise ProviderUnavailable(f"the command ended with exit code {code}", where=where)
        return said

    def _run_here(self, words: Sequence[str], *, reads: bool) -> tuple[int, str]:
        ended = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if reads else subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=make_team_environment(without=self._without),
            timeout=_COMMAND_S,
            check=False,
        )
        return ended.returncode, (ended.stdout or b"").decode(errors="replace")


class WithheldJobs:
    """Port JobWorkers where the commands must not be run: nothing is known, and nothing is moved."""

    hosts: frozenset[str] = frozenset()
    setup = JobsSetup(0.0, withheld="their commands are not run (--no-commands)")

    def read(self, versions: Collection[str] | None = None) -> JobsLook:  # noqa: ARG002 - the port's
        """Return that it is not known."""
        return JobsLook(problem=self.setup.withheld)

    def stop(self, version: str) -> None:
        """Refuse."""
        self._refuse(version)

    def start(self, version: str) -> None:
        """Refuse."""
        self._refuse(version)

    def _refuse(self, version: str) -> None:
        raise BackoutError("the commands of job workers are not run (--no-commands)", where=version)


def _fill(host: Host, line: str, release: Release) -> list[str]:
    return [put_in(word, host.releases, release) for word in shlex.split(line)]
