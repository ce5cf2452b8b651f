"""The tools that work without the provider's API and its token: each part that can be opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.errors import BackoutError, Untrusted
from backout.providers.clock import SystemClock
from backout.providers.files.bundles import FileBundleStore
from backout.runbook.incident.in_need import Sources
from backout.wiring.health import make_health_check
from backout.wiring.records import open_journal

if TYPE_CHECKING:
    from backout.config import Config
    from backout.ports import BundleStore, HealthCheck

HEALTH_WITHIN_S = 3.0
"""No longer than this is waited for the health endpoint, whatever is configured: a person waits."""


def make_sources(config: Config) -> Sources:
    """Return what is left. Raises UsageError: no environment was chosen."""
    missing: list[str] = []
    book = open_journal(config, hurried=True)
    settings = config.environment.health
    return Sources(
        environment=config.name,
        runs=book,
        marks=book,
        journal=book,
        card=config.places.card_path,
        card_doubt=explain_card_doubt(config),
        kept=_open_bundle_store(config),
        health=_make_health(config, missing),
        health_url=str(settings.url) if settings else "",
        missing=tuple(missing),
    )


def explain_card_doubt(config: Config) -> str:
    """Return why what is in the card's place is not taken for a card of ours; "" if it is."""
    try:
        config.places.card  # noqa: B018 - it raises
    except Untrusted as error:
        return f"{error.what} ({'; '.join(error.mistakes)})"
    return ""


def _open_bundle_store(config: Config) -> BundleStore | None:
    try:
        application = f"{config.account_id}-{config.environment.platform.script}"
    except BackoutError:  # which account it is stands nowhere here
        return None
    return FileBundleStore(config.places.bundles, application)


def _make_health(config: Config, missing: list[str]) -> HealthCheck | None:
    try:
        return make_health_check(config, SystemClock(), within_s=HEALTH_WITHIN_S)
    except BackoutError as error:
        missing.append(f"the health endpoint cannot be asked: {error.what}")
    return None
