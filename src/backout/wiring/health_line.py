"""How a person asks the health endpoint: the same on every platform."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.providers.line_templates import HealthQuestion

if TYPE_CHECKING:
    from backout.config import Config


def make_health_question(config: Config) -> HealthQuestion:
    """Return how a person asks the environment's health endpoint: with the names of secret headers' variables alone."""
    health = config.environment.health
    return HealthQuestion(str(health.url), health.headers, health.headers_env) if health else HealthQuestion()
