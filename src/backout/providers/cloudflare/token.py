"""Port TokenCheck on Cloudflare: each token asks about itself.

Source: API documentation, "Verify Token" of user tokens and of account-owned tokens (2026-11): both answer {id, status,
expires_on, not_before}. The user's call refuses a valid account-owned token (seen: 401 code 1000, and 403), and the
account's call refuses a user's, so a token is refused only when both say so. Its permissions are listed by "Token
Details", which needs a permission that a token with least privilege does not have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from backout.errors import AuthError, ProviderRejected
from backout.model.token import TokenState
from backout.providers.clock import SystemClock, parse_unix_s
from backout.providers.cloudflare.permissions import READ_TOKENS
from backout.providers.exchange import quote_segment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.ports import Clock
    from backout.providers.cloudflare.client import ApiClient

_VERIFY: Final = "a valid token"


class _Verified(msgspec.Struct):
    status: str
    id: str = ""
    expires_on: str | None = None
    not_before: str | None = None


class _Group(msgspec.Struct):
    name: str = ""


class _Policy(msgspec.Struct):
    effect: str = "allow"
    permission_groups: tuple[_Group, ...] = ()


class _Details(msgspec.Struct):
    policies: tuple[_Policy, ...] = ()


class CloudflareTokens:
    """Port TokenCheck of the tokens in use.

    Args:
        clients: by what each token is used for ("all", or "rollback", "read", "secrets").
    """

    def __init__(self, clients: Mapping[str, ApiClient], account_id: str, *, clock: Clock | None = None) -> None:
        self._clients = clients
        self._places = ["user/tokens", f"accounts/{quote_segment(account_id)}/tokens"]
        self._clock = clock or SystemClock()
        self._scopes: dict[str, tuple[str, ...] | None] = {}

    def look(self) -> tuple[TokenState, ...]:
        """Return the state of each token.

        Raises:
            ProviderUnavailable: the API gave no usable answer.
        """
        return tuple(self._state(role, client) for role, client in self._clients.items())

    def _state(self, role: str, client: ApiClient) -> TokenState:
        for place in self._places:
            try:
                found = client.get(f"{place}/verify", _Verified, permission=_VERIFY)
            except (AuthError, ProviderRejected):
                continue
            return self._describe(role, client, place, found)
        return TokenState(valid=False, status="refused", role=role)

    def _describe(self, role: str, client: ApiClient, place: str, found: _Verified) -> TokenState:
        status, now = found.status, self._clock.now() + (client.clock_offset_s or 0.0)
        if status == "active" and found.not_before is not None and parse_unix_s(found.not_before) > now:
            status = "not valid yet"
        if role not in self._scopes:
            self._scopes[role] = _read_scopes(client, f"{place}/{quote_segment(found.id)}") if found.id else None
        return TokenState(
            valid=status == "active",
            status=status,
            expires_at=None if found.expires_on is None else parse_unix_s(found.expires_on),
            scopes=self._scopes[role],
            role=role,
        )


def _read_scopes(client: ApiClient, path: str) -> tuple[str, ...] | None:
    """Return the names of what a token may do; None when it may not read that."""
    try:
        details = client.get(path, _Details, permission=READ_TOKENS)
    except (AuthError, ProviderRejected):
        return None
    allowed = {g.name for policy in details.policies if policy.effect == "allow" for g in policy.permission_groups}
    return tuple(sorted(allowed - {""})) or None
