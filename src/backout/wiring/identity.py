"""Who an environment is, what of that is pinned, and what its marks are signed with."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from backout.model.identity import Identity
from backout.providers.clock import SystemClock
from backout.wiring.database import database_identity
from backout.wiring.platform import api_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.analysis.seal import Seal
    from backout.config import Config
    from backout.ports import (
        Identities,
    )
    from backout.providers.cloudflare.client import ApiClient


def pinned(config: Config) -> Identity:
    """Return the identity that the file pins."""
    pin = config.environment.pin
    return Identity(
        account_id=pin.account_id,
        script_tag=pin.script_tag,
        database_system_identifier=pin.database_system_identifier,
        bucket=pin.bucket,
        health_host=pin.health_host,
    )


def seal(config: Config, say: Callable[[str], None]) -> Seal | None:
    """Return what marks are signed with, None where they are not. Raises AuthError as `Config.marks_keys`."""
    if not config.signs_marks:
        return None
    from backout.analysis.seal import Seal  # noqa: PLC0415 only where it is set up

    keys, variable = config.marks_keys(), config.settings.marks.key_env or ""
    if not keys:
        say(f"marks are signed, and {variable} is not set here: no mark of another machine counts")
    place = f"{config.account_id}/{config.environment.platform.script}"
    return Seal(place, tuple(key.reveal().encode() for key in keys), variable)


def pinned_identities(config: Config, client: ApiClient) -> Identities | None:
    """Return who reads the parts of the identity that are pinned, None where none is."""
    parts = [part.name for part in fields(Identity) if getattr(pinned(config), part.name) is not None]
    return _identities(config, client, parts) if parts else None


def identities(config: Config, within_s: float | None = None) -> Identities:
    """Return who the environment is, all of it, for what is to be pinned. Raises AuthError without a token."""
    until = None if within_s is None else SystemClock().now() + within_s
    return _identities(config, api_of(config, until).reads, None)


def _identities(config: Config, client: ApiClient, parts: list[str] | None) -> Identities:
    from backout.providers.cloudflare.identity import Beside, CloudflareIdentities  # noqa: PLC0415 only with a pin

    settings = config.environment
    beside = Beside(
        database=database_identity(config),
        bucket=settings.storage.bucket if settings.storage else None,
        bucket_is_ours=settings.storage is not None and settings.storage.provider == "r2",
        health_host=config.health_host,
    )
    return CloudflareIdentities(client, config.account_id, settings.platform.script, beside, parts=parts)
