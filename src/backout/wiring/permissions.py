"""The permissions that the tokens of an environment need, by what is configured, and those that they have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.token import Needed
from backout.providers.clock import SystemClock
from backout.providers.cloudflare.permissions import TABLE, TEMPLATE
from backout.providers.cloudflare.token import CloudflareTokens
from backout.wiring.platform import make_api

if TYPE_CHECKING:
    from backout.config import Config
    from backout.model.token import TokenState


def list_needed(config: Config) -> Needed:
    """Return what the tokens need by what is set up, for lines of plans, and to show their permissions."""
    environment = config.environment
    database, storage, source = environment.database, environment.storage, environment.traffic.provider
    wanted = {
        **dict.fromkeys(("read", "act"), True),
        "secrets": environment.secrets.source is not None,
        source: source in TABLE,
        "d1": database is not None and database.provider == "d1",
        "r2": storage is not None and storage.provider == "r2",
        **dict.fromkeys(("routes", "queues"), True),
        **dict.fromkeys(("pause", "caches", "stop caches"), database is not None and bool(database.admin_url_env)),
        **dict.fromkeys(("containers", "builds", "itself"), True),
    }
    return Needed(tuple(TABLE[name] for name, is_wanted in wanted.items() if is_wanted), TEMPLATE)


def look_at_tokens(config: Config, within_s: float) -> tuple[TokenState, ...]:
    """Return the state of each token. Raises AuthError: there is none; ProviderUnavailable: no usable answer."""
    api = make_api(config, SystemClock().now() + within_s)
    return CloudflareTokens(api.by_role(), config.account_id).look()
