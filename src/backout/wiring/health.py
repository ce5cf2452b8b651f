"""The health endpoint, and the requests that guard sends to the same host."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from backout.errors import ConfigError
from backout.providers.clock import SystemClock
from backout.wiring.health_elsewhere import open_health_at
from backout.wiring.other_platform import find_other_platform

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from backout.config import Config
    from backout.config.schema.environment import Health
    from backout.ports import (
        Clock,
        HealthCheck,
    )
    from backout.providers.caddy.health import HostConnection
    from backout.providers.cloudflare.client import ApiClient
    from backout.providers.exchange import Limits, Origin
    from backout.providers.health.sent import SentProbes

_FIND_URL_S: Final = 5.0


def make_health_check(
    config: Config, clock: Clock, *, within_s: float | None = None, sent: SentProbes | None = None
) -> HealthCheck | None:
    """Return the health check, None where none is set up.

    Args:
        within_s: for no longer than this.
        sent: takes note of what was answered.

    Raises:
        AuthError, ConfigError: one of its headers is not there, or may not be sent.
    """
    settings = config.environment.health
    if settings is None:
        return None
    from backout.providers.health.probe import HealthProbe

    usual = _make_probe(partial(HealthProbe, clock=clock, sent=sent), config, settings, within_s)
    if len(config.environment.platform.caddy.hosts if config.environment.platform.caddy else ()) < 2:
        return usual
    from backout.providers.caddy.health import HostsHealth
    from backout.wiring.caddy import open_home

    def open_one(connect: Callable[[Origin, Limits], HostConnection]) -> HealthCheck:
        return _make_probe(partial(HealthProbe, clock=clock, connect=connect), config, settings, within_s)

    return HostsHealth(usual, open_home(config).hosts, open_one, clock)


def make_version_opener(config: Config, client: ApiClient, clock: Clock) -> Callable[[str], HealthCheck] | None:
    """Return what opens the health endpoint at the URL of one version's own, None where no endpoint is set up.

    No credential goes there: it is another host than the one that they were given for.
    """
    settings = config.environment.health
    if settings is None:
        return None

    def open_version(version: str) -> HealthCheck:
        from backout.providers.cloudflare.version_urls import CloudflareVersionUrls

        urls = CloudflareVersionUrls(client.make_hurried(_FIND_URL_S), config.account_id, platform.script)
        parts = urlsplit(str(settings.url))
        own = urlsplit(urls.find(version))._replace(path=parts.path, query=parts.query).geturl()
        return open_health_at(config, settings, own, clock)

    platform = config.environment.platform
    return open_version


def find_answering(config: Config, paths: Sequence[str]) -> tuple[str, ...]:
    """Return those of these paths on the health endpoint's host that answer 2xx to a GET.

    Raises:
        ConfigError: no health endpoint is set up, so no host is known.
        AuthError: as `Config.health_headers`.
    """
    asker = make_health_check(config, SystemClock())
    if asker is None:
        raise ConfigError(("health is not set up, so no host is known",))
    return tuple(path for path in paths if 200 <= (asker.fetch(path).status or 0) < 300)


def _make_probe(
    make: Callable[..., HealthCheck], config: Config, settings: Health, within_s: float | None
) -> HealthCheck:
    timeout_s = float(settings.timeout)
    return make(
        str(settings.url),
        timeout_s=timeout_s if within_s is None else min(timeout_s, within_s),
        headers=config.health_headers(),
        script=config.environment.platform.script,
        override=_find_override(config),
        format=settings.format,
        names=tuple(config.environment.services),
        mask=config.variables.mask,
        credentials=config.check_credentials,
    )


def _find_override(config: Config) -> Callable[[str], Mapping[str, str] | None] | None:
    """Return what leads a request to one version, None where the platform does it by the Worker's name."""
    other = find_other_platform(config)
    return None if other is None else other.find_headers
