"""The small GitHub client: one persistent connection, retries, redirects inside one host, errors that say what to do.

A GET is repeated freely. A POST is repeated only when it provably did nothing (no connection, a rate limit), or when
its caller declares it idempotent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlencode, urljoin, urlsplit

import msgspec

from backout import __version__
from backout.decoding import Undecodable, decode_json
from backout.errors import AuthError, ConfigError, ProviderRejected, ProviderUnavailable
from backout.providers.clock import SystemClock
from backout.providers.exchange import Answer, Connection, ExchangeError, Failure, Limits, Origin
from backout.providers.retry import CallFailed, Retry, retry_after_s, retry_call

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from urllib.parse import SplitResult

    from backout.ports import Clock

T = TypeVar("T")

API_VERSION: Final = "2022-11-28"
PERMISSION: Final = "deployments: write"
_QUICK: Final = Retry(attempts=3, first_wait_s=0.3, longest_wait_s=2.0, total_s=6.0)
"""People wait for the verdict, not for this page, and a cancelled job has ten seconds left."""
_LIMITS: Final = Limits(connect_s=3.0, read_s=4.0, total_s=5.0, body_bytes=4 * 1024 * 1024)
_DOWNLOAD: Final = Limits(connect_s=3.0, read_s=10.0, total_s=30.0, body_bytes=64 * 1024 * 1024)
"""A log is text of any length."""
_MAX_REDIRECTS, _MAX_TEXT = 3, 300
_REDIRECTS: Final = frozenset({301, 302, 307, 308})
_SUCCESS, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _TOO_MANY, _SERVER_ERROR = range(200, 300), 401, 403, 404, 429, 500
_WITHOUT_A_WORD_S: Final = 60.0
"""How long a rate limit lasts that names no time."""


class _Said(msgspec.Struct):
    message: str = ""
    errors: object = None


class GitHubClient:
    """Calls the API below one base URL with one token, asked for once per call, never kept, never shown.

    Raises:
        ConfigError: the base URL cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        token: Callable[[], str],
        *,
        clock: Clock | None = None,
        retry: Retry = _QUICK,
        limits: Limits = _LIMITS,
    ) -> None:
        try:
            origin = Origin.of(base_url)
        except ValueError as error:
            raise ConfigError((f"the base URL of the GitHub API: {error}",)) from error
        self._prefix = urlsplit(base_url).path.rstrip("/")
        self._token = token
        self._clock = clock or SystemClock()
        self._retry = retry
        self._connection = Connection(origin, limits)

    def get(self, path: str, result: type[T], query: Mapping[str, str], *, permission: str = PERMISSION) -> T:
        """Return the decoded answer; errors as `post`. `permission`: what a refused token lacks."""
        call = self._prepare("GET", f"{path}?{urlencode(query)}", permission=permission)
        return retry_call(lambda: _decode(self._answer(call), result, call.where), self._retry, self._clock)

    def download(self, path: str, *, permission: str = PERMISSION) -> bytes:
        """Return what lies behind a redirect, on another host too, which never sees the token; errors as `post`."""
        call = self._prepare("GET", path, permission=permission)
        return retry_call(lambda: self._download(call), self._retry, self._clock)

    def post(
        self, path: str, body: object, result: type[T], *, repeatable: bool = False, permission: str = PERMISSION
    ) -> T:
        """Return the decoded answer to a POST with a JSON body. `permission`: what a refused token lacks.

        Raises:
            AuthError: the token is refused or lacks the permission.
            ProviderRejected: the API said no; with its status.
            ProviderUnavailable: no usable answer, or a rate limit that lasts longer than we wait.
        """
        content = msgspec.json.encode(body)
        call = self._prepare("POST", path, content, repeatable=repeatable, permission=permission)
        return retry_call(lambda: _decode(self._answer(call), result, call.where), self._retry, self._clock)

    def _prepare(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        repeatable: bool = True,
        permission: str = PERMISSION,
    ) -> _Call:
        token = self._token().strip()
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise AuthError("the token for GitHub is empty, or holds characters that no token has")
        target = f"{self._prefix}/{path}"
        where = f"{method} {self._connection.origin}{target}"
        return _Call(method, target, where, token, body, repeatable, permission)

    def _download(self, call: _Call) -> bytes:
        answer = self._exchange(call, call.target)
        if answer.status not in _REDIRECTS:
            self._judge(answer, call)
            return answer.body
        location = self._location(answer, call.target, call)
        if location.scheme != self._connection.origin.scheme:
            text = "the API redirects a download to another scheme, which is not followed"
            raise ProviderRejected(text, status=answer.status, where=call.where)
        connection = Connection(Origin.of(f"{location.scheme}://{location.netloc}"), _DOWNLOAD)
        target = location.path + (f"?{location.query}" if location.query else "")
        try:
            found = connection.exchange("GET", target, headers={"User-Agent": f"backout/{__version__}"})
        except ExchangeError as error:
            text = f"the download did not come ({error.failure}: {error})"
            raise CallFailed(ProviderUnavailable(text, where=call.where)) from error
        finally:
            connection.close()
        if found.status not in _SUCCESS:
            text = f"the download was answered with {found.status}"
            raise ProviderRejected(text, status=found.status, where=call.where)
        return found.body

    def _answer(self, call: _Call) -> Answer:
        """Return the answer of a success, redirects followed; raise what every other answer means."""
        target = call.target
        for _ in range(_MAX_REDIRECTS + 1):
            answer = self._exchange(call, target)
            if answer.status not in _REDIRECTS:
                self._judge(answer, call)
                return answer
            target = self._find_new_target(answer, target, call)
        raise CallFailed(ProviderUnavailable("the API redirects in circles", where=call.where), permanent=True)

    def _find_new_target(self, answer: Answer, target: str, call: _Call) -> str:
        """Return where a repository that moved is now; the token goes to no other host."""
        origin = self._connection.origin
        parts = self._location(answer, target, call)
        if f"{parts.scheme}://{parts.netloc}" != str(origin):
            raise ProviderRejected(
                f"the API redirects ({answer.status}) to another host, which is not followed",
                status=answer.status,
                where=call.where,
                hint="correct ci.repository or ci.api_base_url",
            )
        return parts.path + (f"?{parts.query}" if parts.query else "")

    def _location(self, answer: Answer, target: str, call: _Call) -> SplitResult:
        """Return where an answer redirects to, an http(s) URL with a host."""
        try:
            location = urljoin(f"{self._connection.origin}{target}", answer.headers.get("location", ""))
            Origin.of(location)
            return urlsplit(location)
        except ValueError as error:
            text = f"the API redirects ({answer.status}) to something that is not an address"
            raise ProviderRejected(text, status=answer.status, where=call.where) from error

    def _exchange(self, call: _Call, target: str) -> Answer:
        headers = {
            "Authorization": f"Bearer {call.token}",
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": API_VERSION,
            "User-Agent": f"backout/{__version__}",
        }
        if call.body is not None:
            headers["Content-Type"] = "application/json"
        try:
            return self._connection.exchange(call.method, target, headers=headers, body=call.body)
        except ExchangeError as error:
            lasting = error.failure in (Failure.NOT_TRUSTED, Failure.TOO_LARGE) or (error.sent and not call.repeatable)
            text = f"no usable answer from the GitHub API ({error.failure}: {error})"
            raise CallFailed(ProviderUnavailable(text, where=call.where), permanent=lasting) from error

    def _judge(self, answer: Answer, call: _Call) -> None:
        status, said = answer.status, _get_words(answer.body, call.token)
        wait_s = self._find_limit_wait_s(answer, said)
        if wait_s is not None:
            text = f"the rate limit of the GitHub API is used up ({status}); it asks to wait {wait_s:.0f} s"
            raise CallFailed(ProviderUnavailable(text, where=call.where), retry_after_s=wait_s)
        if status == _UNAUTHORIZED:
            raise AuthError(f"the GitHub API refuses the token (401){said}", where=call.where)
        if status == _FORBIDDEN:
            raise AuthError(
                f"the token may not do this (403){said}",
                where=call.where,
                hint=f"give the job `permissions: {{ {call.permission} }}`",
            )
        if status >= _SERVER_ERROR:
            error = ProviderUnavailable(f"the GitHub API answered {status}{said}", where=call.where)
            raise CallFailed(error, permanent=not call.repeatable)
        if status == _NOT_FOUND:
            raise ProviderRejected(
                f"not found, or not to be seen with this token (404){said}",
                status=status,
                where=call.where,
                hint=f"check ci.repository, and give the job `permissions: {{ {call.permission} }}`",
            )
        if status not in _SUCCESS:
            raise ProviderRejected(
                f"the GitHub API refused the request ({status}){said}", status=status, where=call.where
            )

    def _find_limit_wait_s(self, answer: Answer, said: str) -> float | None:
        """Return how long a rate limit asks to wait, None when it is no rate limit; both kinds come as 403 or 429."""
        if answer.status not in (_FORBIDDEN, _TOO_MANY):
            return None
        wait_s = retry_after_s(answer.headers.get("retry-after"), self._clock.now())
        if wait_s is not None:
            return wait_s
        reset = answer.headers.get("x-ratelimit-reset", "")
        if answer.headers.get("x-ratelimit-remaining") == "0" and reset.isdecimal():
            return max(1.0, float(reset) - self._clock.now())
        return _WITHOUT_A_WORD_S if answer.status == _TOO_MANY or "rate limit" in said.lower() else None


class _Call(msgspec.Struct, frozen=True):
    method: str
    target: str
    where: str
    token: str
    body: bytes | None
    repeatable: bool
    permission: str


def _decode(answer: Answer, result: type[T], where: str) -> T:
    try:
        return decode_json(answer.body, result)
    except Undecodable as error:
        text = f"the answer ({answer.status}) does not have the expected shape"
        raise ProviderUnavailable(text, where=where) from error


def _get_words(body: bytes, token: str) -> str:
    """Return the API's own words, those on single fields included, the token blacked out should it be quoted."""
    try:
        said = decode_json(body, _Said)
    except Undecodable:
        return ""
    errors = said.errors if isinstance(said.errors, list) else []
    texts = [said.message, *(_describe_field_error(error) for error in errors)]
    text = "; ".join("".join(c if c.isprintable() else " " for c in text) for text in texts if text)
    return f": {text}".replace(token, "[redacted]")[:_MAX_TEXT] if text else ""


def _describe_field_error(error: object) -> str:
    if not isinstance(error, dict):
        return str(error)
    words = (error.get("field"), error.get("code"), error.get("message"))
    return " ".join(str(word) for word in words if word)
