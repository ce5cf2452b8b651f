"""Who sends a request: a token, a session's cookie, or a trusted proxy's header; and how often one may try."""

from __future__ import annotations

import ipaddress
import threading
import time
from typing import TYPE_CHECKING, Final

from msgspec import field

from backout.model.login import Login, Permission
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import Request

    from backout.runbook.serve.logins import Logins

TRIES: Final = 10
TRY_WITHIN_S: Final = 60.0
"""So many attempts to log in within that time for each address; and ten times as many for all."""
_LONGEST_NAME: Final = 100


class Proxy(Value, frozen=True):
    """A proxy in front that says who it is.

    Args:
        header: in which it says so; it has to take it out of what it is sent.
        networks: from where it connects.
        role: what everybody has whom it lets through.
        people: which role of the journal's database each of its users is.
    """

    header: str
    networks: tuple[str, ...]
    role: Permission
    people: Mapping[str, str] = field(default_factory=dict)

    def trusts(self, peer: str) -> bool:
        """Whether a peer is that proxy."""
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return False
        return any(address in ipaddress.ip_network(each) for each in self.networks)


class Sessions:
    """Finds the login of a request.

    Args:
        check_oidc: returns the login of a pipeline's token, None: it is not one that is trusted; None: none is.

    Attributes:
        cookie: the name of the one with the session; `asked_cookie` of the one with the page that was asked for.
    """

    def __init__(
        self,
        logins: Logins,
        *,
        secure: bool,
        proxy: Proxy | None = None,
        check_oidc: Callable[[str], Login | None] | None = None,
    ) -> None:
        self._logins, self._proxy, self._check_oidc = logins, proxy, check_oidc
        self.secure = secure
        self.cookie = "__Host-backout" if secure else "backout"
        self.asked_cookie = f"{self.cookie}-asked"

    def find(self, request: Request) -> Login | None:
        """Return the login of a request, None: it has none that counts. Raises BackoutError: that is not known."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme:
            if scheme.lower() != "bearer":
                return None
            found = self._logins.find(token.strip())
            if found is None and self._check_oidc is not None and token.count(".") == 2:
                return self._check_oidc(token.strip())
            return found
        secret = request.cookies.get(self.cookie)
        if secret:
            found = self._logins.find(secret)
            if found is not None:
                return found
        return self._find_by_proxy(request)

    def _find_by_proxy(self, request: Request) -> Login | None:
        if self._proxy is None or request.client is None or not self._proxy.trusts(request.client.host):
            return None
        names = [each.strip() for each in request.headers.getlist(self._proxy.header)]
        if len(names) != 1:  # of two, one is not the proxy's
            return None
        name = names[0]
        if not name or len(name) > _LONGEST_NAME or not name.isprintable():
            return None
        person = self._proxy.people.get(name, "")
        return Login("proxy", name, self._proxy.role, (), float("inf"), "proxy", person)


class Tries:
    """How often somebody tries to log in; for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at: dict[str, list[float]] = {}

    def may(self, peer: str) -> bool:
        """Count an attempt, and return whether it may be made."""
        now = time.monotonic()
        with self._lock:
            recent = {each: [at for at in times if now - at < TRY_WITHIN_S] for each, times in self._at.items()}
            self._at = {each: times for each, times in recent.items() if times}
            mine = self._at.get(peer, [])
            if len(mine) >= TRIES or sum(map(len, self._at.values())) >= 10 * TRIES:
                return False
            self._at[peer] = [*mine, now]
            return True
