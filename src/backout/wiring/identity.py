"""The identity of an environment, its pins, and the key of its marks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import fields

from backout.model.identity import Identity
from backout.providers.clock import SystemClock
from backout.wiring.db.database import make_database_identity
from backout.wiring.other_platform import find_other_platform
from backout.wiring.platform import make_api

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.analysis.history.seal import Seal
    from backout.config import Config
    from backout.ports import (
        Identities,
    )
    from backout.providers.cloudflare.client import ApiClient


def get_pinned_identity(config: Config) -> Identity:
    """Return the identity that the file pins."""
    pin = config.environment.pin
    return Identity(
        account_id=pin.account_id,
        script_tag=pin.script_tag,
        database_system_identifier=pin.database_system_identifier,
        bucket=pin.bucket,
        health_host=pin.health_host,
    )


def make_seal(config: Config, say: Callable[[str], None]) -> Seal | None:
    """Return what marks are signed with, None where they are not. Raises AuthError as `Config.marks_keys`."""
    if not config.signs_marks:
        return None
    from backout.analysis.history.seal import Seal

    keys, variable = config.marks_keys(), config.settings.marks.key_env or ""
    if not keys:
        say(f"marks are signed, and {variable} is not set here: no mark of another machine counts")
    other = find_other_platform(config)
    place = other.place if other else f"{config.account_id}/{config.environment.platform.script}"
    return Seal(place, tuple(key.reveal().encode() for key in keys), variable)


def make_pinned_reader(config: Config, client: ApiClient) -> Identities | None:
    """Return the reader of the pinned parts of the identity, None where none is pinned."""
    parts = [part.name for part in fields(Identity) if getattr(get_pinned_identity(config), part.name) is not None]
    return _make_identities(config, client, parts) if parts else None


def find_tag(config: Config, client: ApiClient) -> str | None:
    """Return the Worker's tag: as it is pinned, or as the platform tells it."""
    return get_pinned_identity(config).script_tag or _make_identities(config, client, ["script_tag"]).read().script_tag


def make_identities(config: Config, within_s: float | None = None) -> Identities:
    """Return the whole identity of the environment, for pinning it. Raises AuthError without a token."""
    other = find_other_platform(config)
    if other is not None:
        from backout.providers.identities import Beside, TaggedIdentities

        storage = config.environment.storage
        bucket = storage.bucket if storage else None
        return TaggedIdentities(other.find_tag, Beside(make_database_identity(config), bucket, config.health_host))
    until = None if within_s is None else SystemClock().now() + within_s
    return _make_identities(config, make_api(config, until).reads, None)


def _make_identities(config: Config, client: ApiClient, parts: list[str] | None) -> Identities:
    from backout.providers.cloudflare.identity import Beside, CloudflareIdentities

    settings = config.environment
    beside = Beside(
        database=make_database_identity(config),
        bucket=settings.storage.bucket if settings.storage else None,
        bucket_is_ours=settings.storage is not None and settings.storage.provider == "r2",
        health_host=config.health_host,
    )
    return CloudflareIdentities(client, config.account_id, settings.platform.script, beside, parts=parts)
