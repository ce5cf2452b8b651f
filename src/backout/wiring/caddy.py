"""The ports of an environment whose releases run on hosts behind Caddy, on this one or on those that ssh reaches."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, ClassVar

from backout.config.schema.environment import CaddyHost
from backout.config.secret_names import list_own_keys
from backout.errors import ConfigError, ProviderRejected, Unmeasured, UsageError
from backout.model.value import Value
from backout.providers.caddy.bundles import CaddyBundles
from backout.providers.caddy.deployments import CaddyDeployments
from backout.providers.caddy.host import HostReleases
from backout.providers.caddy.hosts import NOT_READ, Host, find_tag
from backout.providers.caddy.jobs import HostJobs, WithheldJobs
from backout.providers.caddy.ledger import Ledger
from backout.providers.caddy.lines import Place, make_card_lines, make_equivalents
from backout.providers.caddy.machine import LOCAL, LocalMachine
from backout.providers.caddy.maintenance import CaddyMaintenance
from backout.providers.caddy.others import read_revision
from backout.providers.caddy.processes import CommandProcesses, OwnProcesses, RemoteProcesses, WithheldProcesses
from backout.providers.caddy.releases import ReleaseFolder
from backout.providers.caddy.route import (
    ADDRESS_HEADER,
    ADMIN_SOCKET,
    SLOTS,
    make_config,
    make_maintenance_server,
    make_route,
    make_show_server,
)
from backout.providers.caddy.slots import LiveSlots
from backout.providers.caddy.versions import CaddySecrets, CaddySecretWriter, CaddyVersions
from backout.providers.clock import SystemClock
from backout.providers.git.checkout import GitCheckout
from backout.wiring.health_line import make_health_question
from backout.wiring.records import find_actor

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from backout.config import Config
    from backout.config.schema.environment import Caddy
    from backout.model.incident.card import CardLines
    from backout.model.plan import Equivalents
    from backout.ports import JobWorkers, SecretWriter
    from backout.providers.caddy.machine import Machine
    from backout.providers.caddy.processes import Processes
    from backout.providers.line_templates import HealthQuestion
    from backout.providers.logs.traffic import Log


class CaddyHome(Value, frozen=True):
    """An `OtherPlatform`: what an environment on this host has in place of a platform's API.

    Args:
        without: variables that commands of the operator do not get.
        has_withheld_jobs: job workers are configured, and their commands are not run.
    """

    doubt: ClassVar[str] = ""
    places_targets: ClassVar[bool] = True

    settings: Caddy
    health: HealthQuestion
    hosts: tuple[Host, ...]
    without: Collection[str] = ()
    has_withheld_jobs: bool = False

    def make_deployments(self) -> CaddyDeployments:
        """Return the port Deployments."""
        return CaddyDeployments(self.hosts, self.make_releases(), SystemClock(), author=find_actor())

    def make_releases(self) -> HostReleases:
        """Return the port Releases."""
        within_s = float(self.settings.starts_within)
        return HostReleases(self.hosts, SystemClock(), author=find_actor(), starts_within_s=within_s)

    def open_logs(self) -> tuple[Log, ...]:
        """Return the access log of each host."""
        from backout.providers.caddy.remote_log import RemoteDisk
        from backout.providers.logs.growing import GrowingFile
        from backout.providers.logs.traffic import Log

        opened = []
        for host, (_, settings) in zip(self.hosts, _list_hosts(self.settings), strict=True):
            path = settings.access_log or self.settings.access_log
            assert path is not None
            disk = None if settings.ssh is None else RemoteDisk(host.releases.machine)
            opened.append(Log(GrowingFile(path, disk=disk), host.releases.name))
        return tuple(opened)

    def find_headers(self, release: str) -> dict[str, str] | None:
        """Return the headers of a request that lead to one release, None where there is none."""
        try:
            known = self.hosts[0].releases.get(release, damaged=True)
        except ProviderRejected:
            return None
        return {ADDRESS_HEADER: known.address} if known.has_process else None

    def make_versions(self) -> CaddyVersions:
        """Return the port Versions."""
        return CaddyVersions(self.make_releases())

    def make_secrets(self) -> CaddySecrets:
        """Return the port Secrets."""
        return CaddySecrets(self.make_releases())

    def find_secret_writer(self) -> Callable[[], SecretWriter]:
        """Return what makes the port SecretWriter."""
        return lambda: CaddySecretWriter(self.make_releases(), self.make_deployments())

    def make_standby(self) -> HostReleases:
        """Return the port Standby."""
        return self.make_releases()

    def make_jobs(self) -> JobWorkers | None:
        """Return the port JobWorkers, None where none are configured."""
        if self.has_withheld_jobs:
            return WithheldJobs()
        jobs, named = self.settings.jobs, self.settings.hosts
        if jobs is None:
            return None
        hosts = tuple(each for each in self.hosts if each.name not in named or named[each.name].jobs)
        within_s = float(jobs.within)
        return HostJobs(
            hosts, start=jobs.start, stop=jobs.stop, show=jobs.show, within_s=within_s, without=self.without
        )

    def make_bundles(self) -> CaddyBundles:
        """Return the port Bundles."""
        return CaddyBundles(self.make_releases())

    def make_release_check(self) -> Callable[[str], str]:
        """Return what says why a release cannot be made live as it is."""
        return self.make_releases().find_obstacle

    def find_maintenance(self) -> CaddyMaintenance | None:
        """Return the port Maintenance, None where a host's Caddy has no server for such a page."""
        page = CaddyMaintenance(self.hosts, self.make_releases(), self.make_deployments())
        with contextlib.suppress(*NOT_READ):  # then the page's own obstacle says so
            if not all(map(page.is_there, self.hosts)):
                return None
        return page

    @property
    def place(self) -> str:
        """What marks are signed for."""
        hosts = "+".join(sorted(self.settings.hosts))
        return f"caddy/{hosts}{self.settings.releases}"

    def find_tag(self) -> str | None:
        """Return the id of the folders of releases."""
        return find_tag(self.hosts)

    def explain_no_tag(self) -> Unmeasured:
        """Return the error that nothing was ever pushed."""
        return Unmeasured(
            "there is no release yet, so there is nothing to pin",
            where=str(self.settings.releases),
            hint="`backout release push`, then the same command again",
        )

    def find_opener(self) -> None:
        """Return None: a release is led to by a header."""

    def list_equivalents(self) -> Equivalents:
        """Return what a person would type instead, with the environment's real names."""
        return make_equivalents(_list_places(self.settings), self.health, self._get_job_lines())

    def _get_job_lines(self) -> tuple[str, str]:
        jobs = self.settings.jobs
        return (jobs.stop, jobs.start) if jobs is not None else ("", "")

    def list_card_lines(self) -> CardLines:
        """Return the lines of the environment's card."""
        return make_card_lines(_list_places(self.settings), self.health)


def open_home(config: Config) -> CaddyHome:
    """Return the environment's releases; nothing is asked yet. Raises ConfigError: it does not run on hosts."""
    platform = config.environment.platform
    settings = platform.caddy if platform.provider == "caddy" else None
    if settings is None:
        where = f"{config.path.name}: environments.{config.name}.platform"
        raise ConfigError((f'{where}: releases on this host need provider = "caddy"',))
    kept = config.kept.get(f"hosts of {config.name}")
    if isinstance(kept, CaddyHome):
        return kept
    home = CaddyHome(
        settings,
        make_health_question(config),
        _make_hosts(config, settings),
        without=list_own_keys(config.settings),
        has_withheld_jobs=(config.name, "platform.caddy.jobs.start") in config.withheld,
    )
    config.kept[f"hosts of {config.name}"] = home
    return home


def describe_caddy(config: Config, site: str = "") -> dict[str, dict[str, object]]:
    """Return the `route` of the application, the `server` that shows what is live, and that of the maintenance page.

    Args:
        config: of the environment.
        site: with an address or a name, also a whole configuration, `config`; see `make_config`.

    Raises:
        ConfigError: it does not run on hosts, or has no access log although a whole configuration is asked for.
    """
    settings = open_home(config).settings
    route = make_route(f"backout-{config.name}", settings.releases, settings.ports)
    shown, maintenance = make_show_server(settings.releases), make_maintenance_server(settings.releases)
    described = {"route": route, "server": shown, "maintenance": maintenance}
    if not site:
        return described
    if settings.access_log is None:
        where = f"{config.path.name}: environments.{config.name}.platform.caddy.access_log"
        raise ConfigError((f"{where}: a site needs one, for its counts",))
    admin = {"listen": f"unix/{settings.releases / ADMIN_SOCKET}|0600"}  # no port that every user of the host reaches
    beside = {"backout": shown, "maintenance": maintenance}
    return {**described, "config": {"admin": admin, **make_config(site, route, beside, settings.access_log)}}


def check_share(share: float) -> None:
    """Raise UsageError where the visitors cannot be shared so: whoever gets any gets one slot at least."""
    if share * SLOTS % 100:
        raise UsageError(f"a share is a multiple of {100 / SLOTS:g} %", where=f"--traffic {share:g}")


def find_commit(folder: Path) -> str:
    """Return the commit that a folder was made from, as its file REVISION or its working copy says; "": not known."""
    return read_revision(folder) or GitCheckout(folder).find_head()


def _make_hosts(config: Config, settings: Caddy) -> tuple[Host, ...]:
    return tuple(_make_host(config, settings, name, host) for name, host in _list_hosts(settings))


def _list_hosts(settings: Caddy) -> tuple[tuple[str, CaddyHost], ...]:
    """Return the hosts by their names; without any, this one."""
    return tuple((settings.hosts or {LOCAL: CaddyHost()}).items())


def _list_places(settings: Caddy) -> tuple[Place, ...]:
    """Return where a person types what backout would do."""
    config = str(settings.ssh_config or "")
    return tuple(
        Place(host.releases or settings.releases, host.ssh or "", config, host.jobs)
        for _, host in _list_hosts(settings)
    )


def _make_host(config: Config, settings: Caddy, name: str, host: CaddyHost) -> Host:
    machine = make_machine(settings, name, host)
    place = host.releases or settings.releases
    folder = ReleaseFolder(place, host.ports or settings.ports, machine)
    processes = _make_processes(config, settings, folder, is_here=host.ssh is None)
    return Host(folder, Ledger(place, machine), LiveSlots(place, machine), processes)


def make_machine(settings: Caddy, name: str, host: CaddyHost) -> Machine:
    """Return a host, with a connection of its own; nothing is asked yet."""
    if host.ssh is None:
        return LocalMachine(name)
    from backout.providers.caddy.ssh import SshMachine

    return SshMachine(name, host.ssh, config=settings.ssh_config)


def _make_processes(config: Config, settings: Caddy, folder: ReleaseFolder, *, is_here: bool) -> Processes:
    start, stop = settings.start or "", settings.stop or ""
    if any((config.name, f"platform.caddy.{each}") in config.withheld for each in ("start", "stop")):
        return WithheldProcesses(folder)
    if not is_here:
        return RemoteProcesses(folder, start, stop)
    if start and stop:
        return CommandProcesses(folder, start, stop, without=list_own_keys(config.settings))
    return OwnProcesses(folder, settings.run or "")
