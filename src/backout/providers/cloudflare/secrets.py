"""Ports Secrets and SecretWriter on Cloudflare: names can be read, values can only be written.

Documented: `secrets-bulk` (changelog of Workers, 2026-05) takes a merge patch of secrets by name and makes one new
version, live at once. While the newest version is not the live one it answers 10215, or 10214 (workers-sdk issues 10585
and 15283); that a split counts as that, too, is a guess. 10053 is what a name answers that a variable or another
binding has already (workers-sdk issue 7287).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from backout.errors import NewestNotLive, ProviderRejected, Refused
from backout.providers.cloudflare.permissions import READ_SCRIPTS, WRITE_SCRIPTS
from backout.providers.exchange import quote_segment
from backout.rules import SafetyRule

if TYPE_CHECKING:
    from backout.model.secrets import SecretValues
    from backout.providers.cloudflare.client import ApiClient

_NEWEST_NOT_LIVE: Final = frozenset({10214, 10215})
_NAME_TAKEN: Final = 10053


class _Secret(msgspec.Struct):
    name: str


class CloudflareSecrets:
    """Port Secrets of one Worker."""

    def __init__(self, client: ApiClient, account_id: str, script: str) -> None:
        self._client = client
        self._path = f"accounts/{quote_segment(account_id)}/workers/scripts/{quote_segment(script)}/secrets"

    def names(self) -> tuple[str, ...]:
        """Return the names, sorted."""
        secrets = self._client.get(self._path, tuple[_Secret, ...], permission=READ_SCRIPTS)
        return tuple(sorted(secret.name for secret in secrets))


class CloudflareSecretWriter:
    """Port SecretWriter of one Worker; the API's words about a value are never quoted."""

    def __init__(self, client: ApiClient, account_id: str, script: str) -> None:
        self._client = client
        self._script = script
        self._path = f"accounts/{quote_segment(account_id)}/workers/scripts/{quote_segment(script)}/secrets-bulk"

    def put(self, values: SecretValues) -> None:
        """Set all of them in one call.

        Raises:
            NewestNotLive: the newest version is not the live one.
            Refused: one of the names is bound already, as something else.
            ProviderRejected: any other refusal.
        """
        secrets = {name: make_secret_binding(values, name) for name in values.names}
        try:
            self._client.merge(self._path, {"secrets": secrets}, permission=WRITE_SCRIPTS)
        except ProviderRejected as error:
            raise self._meant(error, values) from None

    def _meant(self, error: ProviderRejected, values: SecretValues) -> ProviderRejected | Refused:
        if error.code in _NEWEST_NOT_LIVE:
            what = f"secrets are only set while the newest version is live, and it is not (code {error.code})"
            return NewestNotLive(what, status=error.status, code=error.code, where=self._script)
        if error.code == _NAME_TAKEN:
            return Refused(
                f"one of these names is bound already, as something that is not a secret: {', '.join(values.names)}",
                where=self._script,
                rule=SafetyRule.SECRETS,
                options=("take that variable or binding out of the Worker's configuration and deploy, then repeat",),
            )
        return error


def make_secret_binding(values: SecretValues, name: str) -> dict[str, str]:
    """Return a secret as an upload names it, its value included."""
    return {"name": name, "type": "secret_text", "text": values.reveal(name)}
