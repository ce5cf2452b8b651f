"""What stands in for Cloudflare's API in an environment that runs elsewhere: one kind for each `platform.provider`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backout.config import Config
    from backout.errors import Unmeasured
    from backout.model.incident.card import CardLines
    from backout.model.plan import Equivalents
    from backout.ports import (
        Bundles,
        Deployments,
        HealthCheck,
        JobWorkers,
        Maintenance,
        Secrets,
        SecretWriter,
        Standby,
        Versions,
    )


class OtherPlatform(Protocol):
    """A platform that needs no account."""

    @property
    def place(self) -> str:
        """What marks are signed for: no other application has the same."""
        ...

    @property
    def doubt(self) -> str:
        """Why nothing may be done automatically here, "" where something may."""
        ...

    @property
    def places_targets(self) -> bool:
        """Whether a version can be asked only while it stands beside what is live, at 0 %."""
        ...

    def make_deployments(self) -> Deployments:
        """Return the port."""
        ...

    def make_versions(self) -> Versions:
        """Return the port."""
        ...

    def make_secrets(self) -> Secrets | None:
        """Return the port, None where the platform has no secrets that backout knows of."""
        ...

    def make_bundles(self) -> Bundles | None:
        """Return the port, None where the code of versions cannot be uploaded again."""
        ...

    def make_release_check(self) -> Callable[[str], str] | None:
        """Return what says why a version cannot be made live as it is; None where only the platform knows."""
        ...

    def find_maintenance(self) -> Maintenance | None:
        """Return the port, None where no maintenance page can be shown. Raises BackoutError: that is not known."""
        ...

    def find_secret_writer(self) -> Callable[[], SecretWriter] | None:
        """Return what makes the port, None where there is none."""
        ...

    def make_jobs(self) -> JobWorkers | None:
        """Return the port, None where backout knows of no job workers."""
        ...

    def make_standby(self) -> Standby | None:
        """Return the port, None where the platform has no processes that backout knows of."""
        ...

    def find_tag(self) -> str | None:
        """Return what never changes of the application, None where it is not there yet."""
        ...

    def explain_no_tag(self) -> Unmeasured:
        """Return the error that there is nothing to pin."""
        ...

    def find_headers(self, version: str) -> Mapping[str, str] | None:
        """Return the headers of a request that lead to one version, None where there are none."""
        ...

    def find_opener(self) -> Callable[[str], HealthCheck] | None:
        """Return what opens the health endpoint at the URL of one version's own, None where there are no such URLs."""
        ...

    def list_equivalents(self) -> Equivalents:
        """Return what a person would type instead of a plan's steps."""
        ...

    def list_card_lines(self) -> CardLines:
        """Return the platform's lines of the card."""
        ...


def find_other_platform(config: Config) -> OtherPlatform | None:
    """Return the platform of the chosen environment, None where it is Cloudflare. Raises ConfigError, Refused."""
    match config.environment.platform.provider:
        case "cloudflare":
            return None
        case "caddy":
            from backout.wiring.caddy import open_home

            return open_home(config)
        case "command":
            from backout.wiring.command import open_commands

            return open_commands(config)
