"""The health endpoint of one version at an address of that version's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backout.config import Config
    from backout.config.schema.environment import Health
    from backout.ports import Clock, HealthCheck


def open_health_at(config: Config, settings: Health, url: str, clock: Clock | None = None) -> HealthCheck:
    """Return the health endpoint at another address than its own; no credential goes there."""
    from backout.providers.health.probe import HealthProbe

    return HealthProbe(
        url,
        timeout_s=float(settings.timeout),
        headers=settings.headers,
        format=settings.format,
        names=tuple(config.environment.services),
        clock=clock,
        mask=config.variables.mask,
    )
