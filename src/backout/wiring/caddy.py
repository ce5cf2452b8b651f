"""The ports of an environment whose releases run on this host behind Caddy."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from backout.config.secret_names import list_own_keys
from backout.errors import ConfigError, ProviderRejected, Unmeasured
from backout.model.value import Value
from backout.providers.caddy.deployments import CaddyDeployments
from backout.providers.caddy.host import HostReleases
from backout.providers.caddy.ledger import Ledger
from backout.providers.caddy.processes import CommandProcesses, OwnProcesses
from backout.providers.caddy.releases import ReleaseFolder
from backout.providers.caddy.route import ADDRESS_HEADER, make_route, make_show_server
from backout.providers.caddy.slots import LiveSlots
from backout.providers.caddy.versions import CaddySecrets, CaddySecretWriter, CaddyVersions
from backout.providers.clock import SystemClock
from backout.providers.git.checkout import GitCheckout
from backout.wiring.records import find_actor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backout.config import Config
    from backout.config.schema.environment import Caddy
    from backout.model.incident.card import CardLines
    from backout.model.plan import Equivalents
    from backout.ports import SecretWriter
    from backout.providers.caddy.processes import Processes


class CaddyHome(Value, frozen=True):
    """An `OtherPlatform`: what an environment on this host has in place of a platform's API."""

    doubt: ClassVar[str] = ""
    places_targets: ClassVar[bool] = True

    settings: Caddy
    health_url: str
    releases: ReleaseFolder
    ledger: Ledger
    processes: Processes

    def make_deployments(self) -> CaddyDeployments:
        """Return the port Deployments."""
        return CaddyDeployments(
            self.releases,
            self.ledger,
            LiveSlots(self.settings.releases),
            self.make_releases(),
            SystemClock(),
            author=find_actor(),
        )

    def make_releases(self) -> HostReleases:
        """Return the port Releases."""
        return HostReleases(
            self.releases,
            self.ledger,
            self.processes,
            SystemClock(),
            author=find_actor(),
            starts_within_s=float(self.settings.starts_within),
        )

    def find_headers(self, release: str) -> dict[str, str] | None:
        """Return the headers of a request that lead to one release, None where there is none."""
        try:
            return {ADDRESS_HEADER: self.releases.get(release).address}
        except ProviderRejected:
            return None

    def make_versions(self) -> CaddyVersions:
        """Return the port Versions."""
        return CaddyVersions(self.releases)

    def make_secrets(self) -> CaddySecrets:
        """Return the port Secrets."""
        return CaddySecrets(self.releases)

    def find_secret_writer(self) -> Callable[[], SecretWriter]:
        """Return what makes the port SecretWriter."""
        return lambda: CaddySecretWriter(self.releases, self.ledger, self.make_deployments(), SystemClock())

    @property
    def place(self) -> str:
        """What marks are signed for."""
        return f"caddy/{self.settings.releases}"

    def find_tag(self) -> str | None:
        """Return the id of the folder of releases."""
        return self.releases.find_tag()

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
        from backout.providers.caddy.lines import make_equivalents

        return make_equivalents(self.settings.releases, self.health_url)

    def list_card_lines(self) -> CardLines:
        """Return the lines of the environment's card."""
        from backout.providers.caddy.lines import make_card_lines

        return make_card_lines(self.settings.releases, self.health_url)


def open_home(config: Config) -> CaddyHome:
    """Return the environment's releases; nothing is asked yet. Raises ConfigError: it does not run on hosts."""
    platform, health = config.environment.platform, config.environment.health
    settings = platform.caddy if platform.provider == "caddy" else None
    if settings is None:
        where = f"{config.path.name}: environments.{config.name}.platform"
        raise ConfigError((f'{where}: releases on this host need provider = "caddy"',))
    folder = ReleaseFolder(settings.releases, settings.ports)
    processes = _make_processes(config, settings, folder)
    return CaddyHome(settings, str(health.url) if health else "", folder, Ledger(settings.releases), processes)


def describe_caddy(config: Config) -> dict[str, dict[str, object]]:
    """Return the `route` of the application and the `server` that shows what is live, as Caddy reads them."""
    home = open_home(config)
    folder = home.releases.folder
    return {
        "route": make_route(f"backout-{config.name}", folder, home.settings.ports),
        "server": make_show_server(folder),
    }


def find_commit(folder: Path) -> str:
    """Return the commit that is checked out where a folder lies, "" where it is not known."""
    return GitCheckout(folder).find_head()


def _make_processes(config: Config, settings: Caddy, folder: ReleaseFolder) -> Processes:
    if settings.start and settings.stop:
        return CommandProcesses(folder, settings.start, settings.stop, without=list_own_keys(config.settings))
    return OwnProcesses(folder, settings.run or "")
