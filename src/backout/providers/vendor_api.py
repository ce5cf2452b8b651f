"""The small client for a database vendor's JSON API: one kept-open connection, retries, errors that say what to do.

A GET is repeated after every trouble. What changes something is repeated only when it provably did nothing: there was
no connection, or the answer was 429 (too many requests) or 423 (another operation runs). After any other failure
the outcome is unknown: `Unknown` is raised, and the caller checks before it tries again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec

from backout import __version__
from backout.decoding import Undecodable, decode_json
from backout.errors import AuthError, ConfigError, ProviderRejected, ProviderUnavailable
from backout.providers.clock import SystemClock
from backout.providers.exchange import Answer, Connection, ExchangeError, Failure, Limits, Origin
from backout.providers.retry import CallFailed, Retry, retry_after_s, retry_call

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backout.ports import Clock

T = TypeVar("T")

_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _LOCKED, _TOO_MANY, _SERVER_ERROR = 401, 403, 404, 423, 429, 500
_MAX_TEXT: Final = 300


class Unknown(ProviderUnavailable):
    """A change was sent and no usable answer came: it may have happened."""


class _Said(msgspec.Struct):
    message: str = ""
    code: str | int = ""


class VendorApi:
    """Calls the API below one base URL with one token, asked for once per call, never kept, never shown.

    Args:
        vendor: as a person calls it.
        token_hint: what to set when the token is missing or refused.

    Raises:
        ConfigError: the base URL cannot be used.
    """

    def __init__(
        self,
        vendor: str,
        base_url: str,
        token: Callable[[], str],
        token_hint: str,
        *,
        clock: Clock | None = None,
        retry: Retry | None = None,
        limits: Limits | None = None,
    ) -> None:
        try:
            origin = Origin.of(base_url)
        except ValueError as error:
            raise ConfigError((f"database.managed.api_base_url: {error}",)) from error
        self.vendor = vendor
        self.clock: Clock = clock or SystemClock()
        self._prefix = urlsplit(base_url).path.rstrip("/")
        self._token = token
        self._token_hint = token_hint
        self._retry = retry or Retry()
        self._connection = Connection(origin, limits)

    def get(self, path: str, result: type[T], query: Mapping[str, str] | None = None) -> T:
        """Return the decoded answer. Raises AuthError, ProviderRejected, ProviderUnavailable."""
        target = path + (f"?{urlencode(query)}" if query else "")
        answer, where = self._call("GET", target, None)
        return self._decode_answer(answer, result, where)

    def post(self, path: str, body: object, result: type[T]) -> T:
        """Return the decoded answer. Raises Unknown when it may or may not have taken effect; others as `get`."""
        answer, where = self._call("POST", path, msgspec.json.encode(body))
        return self._decode_answer(answer, result, where)

    def patch(self, path: str, body: object, result: type[T]) -> T:
        """Return the decoded answer of a change that may be asked for twice. Raises as `post`."""
        answer, where = self._call("PATCH", path, msgspec.json.encode(body))
        return self._decode_answer(answer, result, where)

    def delete(self, path: str) -> None:
        """Delete something; what is not there (any more) is no error. Raises as `post`."""
        try:
            self._call("DELETE", path, None)
        except ProviderRejected as error:
            if error.status != _NOT_FOUND:
                raise

    def _call(self, method: str, path: str, body: bytes | None) -> tuple[Answer, str]:
        token = self._token().strip()
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            text = f"the token for {self.vendor} is empty, or holds characters that no token has"
            raise AuthError(text, hint=self._token_hint)
        target = f"{self._prefix}/{path}"
        where = f"{method} {self._connection.origin}{target.partition('?')[0]}"

        def once() -> Answer:
            answer = self._exchange(method, target, where, token, body)
            self._judge(answer, method, where, token)
            return answer

        return retry_call(once, self._retry, self.clock), where

    def _exchange(self, method: str, target: str, where: str, token: str, body: bytes | None) -> Answer:
        headers = {
            "Authorization": f"Bearer {token}",
            "Accept": "application/json",
            "User-Agent": f"backout/{__version__}",
        }
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            return self._connection.exchange(method, target, headers=headers, body=body)
        except ExchangeError as error:
            text = f"no usable answer from {self.vendor} ({error.failure}: {error})"
            if error.sent and method != "GET":
                raise CallFailed(_make_unknown_error(text, where), permanent=True) from error
            lasting = error.failure in (Failure.NOT_TRUSTED, Failure.TOO_LARGE)
            raise CallFailed(ProviderUnavailable(text, where=where), permanent=lasting) from error

    def _judge(self, answer: Answer, method: str, where: str, token: str) -> None:
        """Raise what every answer but a success means."""
        status, said = answer.status, _get_words(answer.body, token)
        if status in (_TOO_MANY, _LOCKED):
            wait_s = retry_after_s(answer.headers.get("retry-after"), self.clock.now())
            why = "too many requests" if status == _TOO_MANY else "another operation runs on this project"
            text = f"{self.vendor} asks to wait: {why} ({status}){said}"
            raise CallFailed(ProviderUnavailable(text, where=where, hint="wait, then again"), retry_after_s=wait_s)
        if status == _UNAUTHORIZED:
            text = f"{self.vendor} refuses the token (401){said}"
            raise AuthError(text, where=where, hint=self._token_hint)
        if status == _FORBIDDEN:
            raise AuthError(f"the token may not do this at {self.vendor} (403){said}", where=where)
        if status >= _SERVER_ERROR:
            text = f"{self.vendor} answered {status}{said}"
            if method != "GET":
                raise CallFailed(_make_unknown_error(text, where), permanent=True)
            wait_s = retry_after_s(answer.headers.get("retry-after"), self.clock.now())
            raise CallFailed(ProviderUnavailable(text, where=where), retry_after_s=wait_s)
        if status == _NOT_FOUND:
            text = f"not found at {self.vendor}, or not to be seen with this token (404){said}"
            raise ProviderRejected(text, status=status, where=where, hint="check project, branch and organization")
        if status not in range(200, 300):
            raise ProviderRejected(f"{self.vendor} refused the request ({status}){said}", status=status, where=where)

    def _decode_answer(self, answer: Answer, result: type[T], where: str) -> T:
        try:
            return decode_json(answer.body, result)
        except Undecodable as error:
            text = f"the answer of {self.vendor} ({answer.status}) does not have the expected shape"
            raise ProviderUnavailable(text, where=where, hint="a newer version of backout may understand it") from error


def _make_unknown_error(text: str, where: str) -> Unknown:
    return Unknown(f"{text}; it is unknown whether it took effect", where=where, hint="the same command checks first")


def _get_words(body: bytes, token: str) -> str:
    """Return the API's own words, the token blacked out should it be quoted."""
    try:
        said = decode_json(body, _Said)
    except Undecodable:
        return ""
    text = "".join(c if c.isprintable() else " " for c in f"{said.message} [{said.code}]" if c)
    return f": {text.removesuffix(' []')}".replace(token, "[redacted]")[:_MAX_TEXT] if said.message else ""
