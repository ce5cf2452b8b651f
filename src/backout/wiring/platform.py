"""The clients of the platform's API, one for each token, and the code of versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.model.value import Value
from backout.providers.clock import SystemClock
from backout.providers.cloudflare.budget import Budgets
from backout.providers.cloudflare.client import ApiClient
from backout.providers.retry import Retry

if TYPE_CHECKING:
    from backout.config import Config, Secret
    from backout.model.bundle import Bundle
    from backout.model.secrets import SecretValues
    from backout.model.version import Version
    from backout.ports import Bundles
    from backout.providers.cloudflare.bundles import CloudflareBundles
    from backout.providers.exchange import Limits


_BUDGETS: Final = Budgets()
"""What each token may still ask, whichever environment of this process asks."""


class Api(Value, frozen=True):
    """The clients of the platform's API: one, or one for each configured token. Also port ProviderClock."""

    acts: ApiClient
    reads: ApiClient
    secrets: ApiClient

    def by_role(self) -> dict[str, ApiClient]:
        """Return each client by what its token is used for."""
        others = {"read": self.reads, "secrets": self.secrets}
        own = {role: client for role, client in others.items() if client is not self.acts}
        own = {role: client for role, client in own.items() if role == "read" or client is not self.reads}
        return {"rollback" if own else "all": self.acts, **own}

    def offset_s(self) -> float | None:
        """Return what the last answer with a date said, of whichever client heard one first."""
        measured = (client.clock_offset_s for client in (self.acts, self.reads, self.secrets))
        return next((offset_s for offset_s in measured if offset_s is not None), None)


def make_api(config: Config, until: float | None) -> Api:
    """Return the clients; `until` (Unix seconds): the end of all waiting. Raises AuthError without a token."""
    token, read, secrets = config.token(), config.read_token(), config.secrets_token()
    acts = _make_client(config, token, until=until)
    reads = acts if read is None else _make_client(config, read, until=until)
    return Api(acts, reads, reads if secrets is None else _make_client(config, secrets, until=until))


def _make_client(
    config: Config,
    token: Secret,
    *,
    until: float | None = None,
    limits: Limits | None = None,
    retry: Retry | None = None,
) -> ApiClient:
    url = str(config.environment.platform.api_base_url)
    client = ApiClient(url, token.reveal, until=until, limits=limits, retry=retry, token_place=token.place)
    client.budget = _BUDGETS.find(url, token.reveal())
    return client


def make_reader(config: Config, within_s: float) -> ApiClient:
    """Return the client of the platform's API that only reads. Raises AuthError: there is no token."""
    return make_api(config, SystemClock().now() + within_s).reads


def make_listing_client(config: Config) -> ApiClient:
    """Return a client that reads, on a connection of its own, for what asks again anyway: no call is repeated.

    Raises:
        AuthError: there is no token.
    """
    return _make_client(config, config.read_token() or config.token(), retry=Retry(attempts=1))


class LateBundles:
    """Port Bundles, loaded on first use; on connections of its own: code is large, and no request waits for it."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def fetch(self, version: str) -> Bundle:
        """Return the code of a version."""
        return self._open().fetch(version)

    def upload(self, bundle: Bundle, *, message: str, secrets: SecretValues | None = None) -> Version:
        """Upload the code as a new version."""
        return self._open().upload(bundle, message=self._config.variables.mask_text(message), secrets=secrets)

    def _open(self) -> Bundles:
        return make_bundles(self._config)


def make_bundles(config: Config) -> CloudflareBundles:
    """Return the port Bundles with connections of its own."""
    from backout.providers.cloudflare.bundles import LIMITS, CloudflareBundles

    read = config.read_token()
    client = _make_client(config, config.token(), limits=LIMITS)
    reader = client if read is None else _make_client(config, read, limits=LIMITS)
    return CloudflareBundles(client, config.account_id, config.environment.platform.script, reader=reader)
