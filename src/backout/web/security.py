"""What every request passes and every answer carries: the Host that is ours, no forged forms, a policy.

The rule: what is refused here is refused before anything of the request was read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException

from backout.web.problems import is_of_api, make_refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BODY: Final = 64 * 1024
"""Bytes of a body: forms and small JSON."""
TOO_LONG: Final = f"the body is longer than {MOST_BODY} bytes"
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'; object-src 'none'"
)
_KEPT_STATUSES: Final = frozenset({200, 206, 304})
"""A static file that is there is kept for ever; that one is missing today says nothing of tomorrow."""
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


class Guarded:
    """The application behind these checks.

    Args:
        hosts: what the Host header may be, in lower case, with the port where it is not the scheme's own.
        secure: whether it is reached by https.
        signed: paths below which a request proves itself by a signature, and comes from no page.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], *, secure: bool, signed: str = "/hooks/") -> None:
        self._app, self._hosts, self._secure, self._signed = app, frozenset(hosts), secure, signed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or have the application answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, answers = Headers(scope=scope), False

        async def send_with_headers(message: Message) -> None:
            nonlocal answers
            if message["type"] == "http.response.start":
                answers = True
                is_kept = str(scope["path"]).startswith("/static/") and message["status"] in _KEPT_STATUSES
                self._add_headers(MutableHeaders(scope=message), is_kept=is_kept)
            await send(message)

        refusal = self._find_refusal(scope, headers)
        if refusal is not None:
            status, why = refusal
            await make_refusal(status, why, api=is_of_api(str(scope["path"])))(scope, receive, send_with_headers)
            return
        await self._app(scope, _limit(receive, lambda: answers), send_with_headers)

    def _find_refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:  # of two, a proxy in front may go by the other one
            return 421, "this host name is none of this server's: start it with the URL that people type"
        length = headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > 9 or int(length) > MOST_BODY:
            return 413, TOO_LONG
        if scope["method"] in SAFE_METHODS or str(scope["path"]).startswith(self._signed):
            return None
        return None if self._is_own(headers) else (403, "this form was sent from another site")

    def _is_own(self, headers: Headers) -> bool:
        """Whether a request that changes something comes from our own page, or from no browser at all."""
        site = headers.get("sec-fetch-site")
        if site is not None:
            return site in {"same-origin", "none"}
        origin = headers.get("origin")
        return origin is None or self._is_our_origin(origin.lower())

    def _is_our_origin(self, origin: str) -> bool:
        """Whether an origin is ours, by its scheme, too: who is on the way can serve http under a name of ours."""
        try:
            parts = urlsplit(origin)
        except ValueError:  # `http://[`
            return False
        return parts.scheme == ("https" if self._secure else "http") and parts.netloc in self._hosts

    def _add_headers(self, headers: MutableHeaders, *, is_kept: bool) -> None:
        for name, value in HEADERS.items():
            headers.setdefault(name, value)
        if self._secure:
            headers.setdefault("Strict-Transport-Security", "max-age=31536000")
        headers.setdefault("Cache-Control", "public, max-age=31536000, immutable" if is_kept else "no-store")


def _limit(receive: Receive, answers: Callable[[], bool]) -> Receive:
    """Return a receive that refuses a body without a length where it gets too long.

    Args:
        answers: returns whether the answer has begun; then nothing can be refused any more, and the body just ends.
    """
    seen = 0

    async def limited() -> Message:
        nonlocal seen
        message = await receive()
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            if seen > MOST_BODY and answers():
                return {"type": "http.disconnect"}
            if seen > MOST_BODY:
                raise HTTPException(413, TOO_LONG)
        return message

    return limited
