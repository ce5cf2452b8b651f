"""Access to the twin's HTTP parts on loopback: no page in a browser, whatever name it uses for this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_MISDIRECTED: Final = 421


def is_loopback(netloc: str) -> bool:
    """Whether the address in a Host header is this machine's own, by a name that cannot belong to another machine.

    >>> is_loopback("127.0.0.1:8080"), is_loopback("localhost"), is_loopback("[::1]:1")
    (True, True, True)
    >>> is_loopback("evil.example:8080"), is_loopback("127.0.0.1.evil.example"), is_loopback("")
    (False, False, False)
    """
    try:
        return urlsplit(f"//{netloc}").hostname in _LOOPBACK
    except ValueError:
        return False


def get_bearer(request: web.Request) -> str:
    """Return the token of a request, "" without one."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


@web.middleware
async def require_loopback(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse a name that is not this machine's (DNS rebinding), and what a page of another origin sends."""
    origin = request.headers.get("Origin")
    if not is_loopback(request.host) or (origin is not None and not is_loopback(urlsplit(origin).netloc)):
        return web.json_response({"message": "this is a part of a twin, for this machine alone"}, status=_MISDIRECTED)
    return await handler(request)
