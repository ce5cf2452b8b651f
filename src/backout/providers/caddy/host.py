"""Ports Releases and Standby on hosts: pushed into the folder of releases of each, run by its processes."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.errors import BackoutError, ProviderRejected, Refused, UsageError
from backout.model.release import Leftover, ReleaseProcess, count_next
from backout.model.secrets import SecretValues
from backout.providers.caddy.hosts import NOT_READ, find_tag, prepare_hosts
from backout.providers.caddy.machine import LocalMachine
from backout.providers.caddy.releases import draw_id, hash_code
from backout.providers.caddy.variables import check_variables
from backout.rules import SafetyRule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.release import OtherRelease, Release, ReleaseNote
    from backout.ports import Clock
    from backout.providers.caddy.hosts import Host


class HostReleases:
    """Port Releases; a release has the same id and number on every host.

    Args:
        author: who pushes.
        starts_within_s: how long a release may take until it accepts connections.
    """

    def __init__(self, hosts: Sequence[Host], clock: Clock, *, author: str = "", starts_within_s: float = 30.0) -> None:
        self._hosts = hosts
        self._clock = clock
        self._author = author
        self._starts_within_s = starts_within_s

    def list(self) -> tuple[Release, ...]:
        """Return them, newest first; none where nothing was ever pushed."""
        if find_tag(self._hosts) is None:
            return ()
        return tuple(self._look(each) for each in self.read())

    def list_others(self) -> tuple[OtherRelease, ...]:
        """Return the releases of other tools, by name and host, as far as hosts are read."""
        found: list[OtherRelease] = []
        for host in self._hosts:
            with suppress(*NOT_READ):
                found += host.releases.list_others()
        return tuple(found)

    def read(self) -> tuple[Release, ...]:
        """Return them, newest first, as far as hosts are read; it is not asked which of them run.

        Raises:
            ProviderRejected: nothing was ever pushed.
            BackoutError: no host was read, or what was read cannot be used.
        """
        found: dict[str, Release] = {}
        lost: list[BackoutError] = []
        for host in self._hosts:
            try:
                for each in host.releases.list():
                    found[each.id] = _join(found[each.id], each) if each.id in found else each
            except (*NOT_READ, ProviderRejected) as error:
                lost.append(error)
        if len(lost) == len(self._hosts):
            raise lost[0]
        return tuple(sorted(found.values(), key=lambda each: -each.number))

    def get(self, release: str, *, damaged: bool = False) -> Release:
        """Return one, as a host's `ReleaseFolder.get`. Raises ProviderRejected (404): none has it; BackoutError."""
        lost: BackoutError | None = None
        for host in self._hosts:
            try:
                return host.releases.get(release, damaged=damaged)
            except (*NOT_READ, ProviderRejected) as error:
                lost = error if lost is None or isinstance(lost, ProviderRejected) else lost
        assert lost is not None
        raise lost

    def read_environment(self, release: str) -> SecretValues:
        """Return the environment of a release. Raises as `get`, and where it cannot be read."""
        for host in self._hosts[:-1]:
            try:
                host.releases.get(release)
                return host.releases.read_environment(release)
            except (*NOT_READ, ProviderRejected):
                continue
        return self._hosts[-1].releases.read_environment(release)

    def read_newest_environment(self) -> SecretValues:
        """Return the environment of the newest release. Raises BackoutError: as `get`, or nobody knows which."""
        for host in self._hosts:
            if damaged := next((each for each in host.releases.list_newest() if each.damage), None):
                what = f"the newest variables are not known: release {damaged.id} may have them, and {damaged.damage}"
                hint = "backout release push DIR --env-file FILE"
                raise BackoutError(what, where=host.name, hint=hint)
        return self.read_environment(self.read()[0].id)

    def push(self, folder: Path, note: ReleaseNote, environment: SecretValues | None = None) -> Release:
        """Copy a folder as a new release to every host or to none; `environment`: None: that of the newest one."""
        if environment is not None:
            check_variables(environment)
        return self.add(folder, note, environment)

    def add(
        self, code: Path | Release, note: ReleaseNote, environment: SecretValues | None = None, source: str = "push"
    ) -> Release:
        """Make a new release on every host, or on none; it does not run yet.

        Args:
            code: a folder on this machine, or a release whose code is to run again.
            environment: None: that of the newest one.
            source: what makes it.

        Raises:
            BackoutError: as `ReleaseFolder.send` and `make`, or a host was not reached; then no host has it.
        """
        if isinstance(code, Path):
            for host in self._hosts:
                _check_apart(code, host)
        code_hash, drawn = hash_code(code) if isinstance(code, Path) else code.code_hash, draw_id()
        prepare_hosts(self._hosts)
        begun: list[Host] = []
        try:
            for host in self._hosts:
                begun.append(host)
                host.releases.send(code, drawn, code_hash)
            with ExitStack() as held:
                for host in sorted(self._hosts, key=lambda host: host.name):  # everybody in the same order
                    held.enter_context(host.ledger.lock())
                known = self.read()
                if environment is None:
                    environment = self.read_newest_environment() if known else SecretValues({})
                number = count_next(known)
                now, author = self._clock.now(), self._author
                made = [
                    host.releases.make(
                        drawn, code_hash, note, environment, now, author=author, source=source, number=number
                    )
                    for host in self._hosts
                ]
        except BaseException:
            for host in begun:
                host.releases.drop(drawn)
            raise
        return made[0]

    def start(self, release: str) -> Release:
        """Have it run on every host, and return it when it accepts connections there. Raises Refused: it does not."""
        for host in self._hosts:
            self.start_on(host, release)
        return self._look(self.get(release))

    def start_on(self, host: Host, release: str) -> None:
        """Have it run on one host. Raises Refused: nothing accepts connections within the time."""
        known = host.releases.get(release)
        host.start(known)
        if host.releases.machine.await_accepting(known.address, self._starts_within_s):
            return
        host.stop(known)  # else it would be started again and again
        raise Refused(
            f"release {release} does not start: nothing answers at {known.address}",
            where=host.releases.machine.describe(host.releases.folder / release),
            rule=SafetyRule.TARGET,
            options=("choose another release: `backout deployments list`", "read its log, and push a fixed one"),
        )

    def measure(self, version: str) -> tuple[ReleaseProcess, ...]:
        """Return what runs of a release, on each host that is reached. Raises as `get`."""
        self.get(version)
        found: list[ReleaseProcess] = []
        for host in self._hosts:
            try:
                known, machine = host.releases.get(version), host.releases.machine
                runs = machine.accepts(known.address)
                found.append(ReleaseProcess(host.name, runs, machine.measure_memory(known.address) if runs else None))
            except ProviderRejected:
                found.append(ReleaseProcess(host.name, runs=False))
            except NOT_READ:
                continue
        return tuple(found)

    def find_obstacle(self, release: str) -> str:
        """Return what speaks against making it live as it is, on each host; "" for nothing. Raises NOT_READ."""
        found: list[str] = []
        for host in self._hosts:
            try:
                if host.releases.is_changed(host.releases.get(release)):
                    found.append(f"on {host.name} its code is not what was pushed any more")
            except ProviderRejected:
                found.append(f"{host.name} does not have it")
            except NOT_READ:
                raise
            except BackoutError as error:
                found.append(f"on {host.name} {error.what}")
        return "; ".join(found)

    def stop(self, release: str) -> None:
        """Have it end, on every host that has it."""
        for host, known in self._find(release):
            host.stop(known)

    def remove(self, release: str) -> None:
        """Stop it and remove its folder, on every host that has it."""
        for host, known in self._find(release):
            with host.ledger.lock():
                host.stop(known)
                host.releases.remove(release)

    def clear(self, *, dry_run: bool = False) -> tuple[Leftover, ...]:
        """Remove what was left on each host that is reached, and return that; the lock is held for looking alone."""
        found: list[Leftover] = []
        for host in self._hosts:
            with suppress(*NOT_READ):
                found += _clear_host(host, dry_run=dry_run)
        return tuple(found)

    def _find(self, release: str) -> tuple[tuple[Host, Release], ...]:
        """Return the hosts that have a release. Raises ProviderRejected (404): none has it; NOT_READ."""
        found: list[tuple[Host, Release]] = []
        missing: ProviderRejected | None = None
        for host in self._hosts:
            try:
                found.append((host, host.releases.get(release, damaged=True)))
            except ProviderRejected as error:
                missing = error
        if not found and missing is not None:
            raise missing
        return tuple(found)

    def _look(self, release: Release) -> Release:
        """Return a release with where it runs."""
        running: dict[str, bool | None] = {}
        for host in self._hosts:
            try:
                known = host.releases.get(release.id, damaged=True)
                running[host.name] = host.releases.machine.accepts(known.address)
            except (*NOT_READ, ProviderRejected):
                running[host.name] = None
        return replace(release, hosts=running)


def _join(one: Release, other: Release) -> Release:
    """Return a release as two hosts know it: by a record that can be read, with the damage of the other one's."""
    whole, less = (other, one) if one.damage else (one, other)
    return replace(whole, damage=less.damage or whole.damage)


def _check_apart(folder: Path, host: Host) -> None:
    """Raise UsageError where a folder holds that of the releases: a release would hold all others, and itself."""
    releases = host.releases.folder
    if isinstance(host.releases.machine, LocalMachine) and releases.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"the releases are in it ({releases}): build into a folder of its own", where=str(folder))


def _clear_host(host: Host, *, dry_run: bool) -> tuple[Leftover, ...]:
    folder = host.releases
    if folder.find_tag() is None:
        return ()  # nothing was ever pushed there
    with host.ledger.lock():
        names = left = folder.list_leftovers()
    if names and not dry_run:
        folder.clear(names)
        left = folder.list_leftovers()
    return tuple(Leftover(folder.machine.describe(folder.folder / each), each not in left) for each in names)
