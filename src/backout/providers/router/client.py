"""The client of a router: one persistent connection, short waits, since a watch asks again in a second."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Final, Literal, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec

from backout import __version__
from backout.decoding import Undecodable, decode_json, decode_lossily
from backout.errors import AuthError, ConfigError, ProviderRejected, ProviderUnavailable
from backout.providers.clock import SystemClock
from backout.providers.exchange import Connection, ExchangeError, Limits, Origin
from backout.providers.retry import CallFailed, Retry, retry_after_s, retry_call

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backout.ports import Clock
    from backout.providers.exchange import Answer

T = TypeVar("T")

_OK, _UNAUTHORIZED, _FORBIDDEN, _TOO_MANY, _SERVER_ERROR = 200, 401, 403, 429, 500
_REDIRECTS, _REFUSALS = 300, 400
QUICK: Final = Retry(attempts=2, first_wait_s=0.1, longest_wait_s=1.0, total_s=5.0)
LIMITS: Final = Limits(connect_s=2.0, read_s=5.0, total_s=5.0)


class _Refusal(msgspec.Struct):
    error: str = ""


class RouterClient:
    """GETs below one URL.

    Args:
        url: the base of `/counts` and `/events`.
        token: returns the bearer token, or `user:password`; None sends none.
        scheme: how it is sent.

    Raises:
        ConfigError: the URL cannot be used.
    """

    def __init__(
        self,
        url: str,
        token: Callable[[], str] | None = None,
        *,
        scheme: Literal["Bearer", "Basic"] = "Bearer",
        clock: Clock | None = None,
        retry: Retry = QUICK,
        limits: Limits = LIMITS,
    ) -> None:
        try:
            origin = Origin.of(url, in_the_open=token is None)
        except ValueError as error:
            raise ConfigError((f"the URL of the traffic source: {error}",)) from error
        self._prefix = urlsplit(url).path.rstrip("/")
        self._token = token
        self._scheme = scheme
        self._clock = clock or SystemClock()
        self._retry = retry
        self._connection = Connection(origin, limits)

    def get(self, path: str, query: Mapping[str, str], result: type[T]) -> T:
        """Return the decoded answer.

        Raises:
            AuthError: the token is refused.
            ProviderRejected: the router says no.
            ProviderUnavailable: no answer.
        """
        return retry_call(lambda: self._once(path, query, result), self._retry, self._clock)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _once(self, path: str, query: Mapping[str, str], result: type[T]) -> T:
        target = f"{self._prefix}/{path}"
        where = f"GET {self._connection.origin}{target}"
        try:
            answer = self._connection.exchange("GET", f"{target}?{urlencode(query)}", headers=self._headers())
        except ExchangeError as error:
            raise CallFailed(ProviderUnavailable(f"{error.failure}: {error}", where=where)) from error
        if answer.status in (_UNAUTHORIZED, _FORBIDDEN):
            why = "asks for credentials, and none are set up" if self._token is None else "refuses the token"
            raise AuthError(f"the traffic source {why} ({answer.status})", where=where)
        if answer.status == _TOO_MANY or answer.status >= _SERVER_ERROR:
            wait_s = retry_after_s(answer.headers.get("retry-after"), self._clock.now())
            raise CallFailed(ProviderUnavailable(f"answered {answer.status}", where=where), retry_after_s=wait_s)
        if _REDIRECTS <= answer.status < _REFUSALS:
            what = f"answered {answer.status}; redirects are not followed, so write the URL that it leads to"
            raise ProviderRejected(what, status=answer.status, where=where)
        if answer.status != _OK:
            raise ProviderRejected(f"answered {answer.status}{_read_reason(answer)}", status=answer.status, where=where)
        try:
            return decode_lossily(answer.body, result, what="the answer")
        except Undecodable as error:
            raise CallFailed(ProviderUnavailable(f"the answer cannot be read: {error.what}", where=where)) from error

    def _headers(self) -> dict[str, str]:
        headers = {"User-Agent": f"backout/{__version__}", "Accept": "application/json"}
        if self._token is not None:
            token = self._token().strip()
            if not token.isascii() or not token.isprintable():
                raise AuthError("the traffic source's token holds characters that no token has")
            if self._scheme == "Basic" and ":" not in token:
                raise AuthError("the traffic source's user and password: expected user:password, with a colon")
            sent = token if self._scheme == "Bearer" else b64encode(token.encode()).decode()
            headers["Authorization"] = f"{self._scheme} {sent}"
        return headers


def _read_reason(answer: Answer) -> str:
    """Return the reason that a refusal gives (`{"error": "..."}`), on one line, or ""."""
    try:
        text = decode_json(answer.body, _Refusal).error
    except Undecodable:
        return ""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())[:300]
    return f": {line}" if line else ""
