"""The small Cloudflare client: one kept-open connection, typed envelopes, retries, and errors that say what to do.

A GET is repeated freely. A POST is repeated only when it provably did nothing: no connection was made, or the answer
was 429. After any other failure of a POST it is unknown whether it took effect, and the error says so.
"""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec
from msgspec.structs import replace

from backout import __version__
from backout.decoding import Undecodable, decode_json, make_readable, parse_http_date
from backout.errors import AuthError, ConfigError, ProviderRejected, ProviderUnavailable
from backout.model.value import Value
from backout.providers.clock import SystemClock
from backout.providers.cloudflare.budget import Budget, Looker
from backout.providers.cloudflare.credentials import TOKEN_VARIABLE, clean_token, explain_place
from backout.providers.exchange import Answer, Connection, ExchangeError, Failure, Limits, Origin
from backout.providers.retry import CallFailed, Retry, retry_after_s, retry_call

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from backout.ports import Clock
    from backout.providers.exchange import Exchanging

T = TypeVar("T")

CLOUDFLARE_API: Final = "https://api.cloudflare.com/client/v4"

_AUTH_CODES: Final = frozenset({6003, 6103, 6111, 9106, 9109, 10000, 10001})
_BAD_REQUEST, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _TOO_MANY, _SERVER_ERROR = 400, 401, 403, 404, 429, 500
_MAX_TEXT = 300
_LOOKS_AT_A_SHAPE: Final = 3
"""How often an answer of another shape is asked for: it may have been a stumble, or a newer API."""
MOST_OFF_S: Final = 2 * 86_400.0
"""A Date further away than this is none: no certificate holds on a machine whose clock is that wrong."""


class _Said(msgspec.Struct):
    code: int = 0
    message: str = ""


class ResultInfo(msgspec.Struct):
    """The position of a page in a list."""

    page: int = 1
    total_pages: int = 1
    cursor: str | None = None


class _Envelope(msgspec.Struct):
    success: bool = False
    errors: tuple[_Said, ...] | None = ()
    result: msgspec.Raw = msgspec.Raw(b"null")
    data: msgspec.Raw = msgspec.Raw(b"")  # what GraphQL answers instead, without `success`
    result_info: ResultInfo | None = None
    mended: bool = False


class Form(msgspec.Struct, frozen=True):
    """The body of a request that is not JSON: its content type and its bytes."""

    content_type: str
    data: bytes


class ApiClient:
    """Calls the API below one base URL with one token.

    Args:
        base_url: ends in /client/v4.
        token: returns the token; asked once per call, never kept, never shown.
        connection: carries the requests, None: one that is opened to the base URL.
        clock: waits between attempts, and the reference of `clock_offset_s`.
        until: Unix seconds by that clock; no call waits longer, however many attempts it has left. None: no such end.
        token_place: where the token was found, for error messages: a variable, or "the file PATH".

    Attributes:
        budget: the calls that the API allows, set before the first call where others call with that token, too.
        clock_offset_s: the provider's clock minus ours, from the last Date header (which has whole seconds, so it is
            right to about half a second); None before the first answer.

    Raises:
        ConfigError: the base URL cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        token: Callable[[], str],
        *,
        clock: Clock | None = None,
        retry: Retry | None = None,
        limits: Limits | None = None,
        until: float | None = None,
        connection: Exchanging | None = None,
        token_place: str = TOKEN_VARIABLE,
    ) -> None:
        try:
            origin = Origin.of(base_url)
        except ValueError as error:
            raise ConfigError((f"the base URL of the Cloudflare API: {error}",)) from error
        self.clock_offset_s: float | None = None
        self._prefix = urlsplit(base_url).path.rstrip("/")
        self._token = token
        self._clock = clock or SystemClock()
        self._retry = retry or Retry()
        self._connection: Exchanging = connection or Connection(origin, limits)
        self._until = until
        self._token_place = token_place
        self.budget = Budget()
        self._looker: Looker | None = None

    @property
    def origin(self) -> Origin:
        """Where the API is."""
        return self._connection.origin

    def get(self, path: str, result: type[T], *, permission: str, query: Mapping[str, str] | None = None) -> T:
        """Return the decoded result of a GET; errors as `post`, but repeated after every trouble that may pass."""
        return self.get_page(path, result, permission=permission, query=query)[0]

    def get_page(
        self,
        path: str,
        result: type[T],
        *,
        permission: str,
        query: Mapping[str, str] | None = None,
        exact: bool = False,
    ) -> tuple[T, ResultInfo]:
        """Return the decoded result of a GET, as `get`, and the position of its page.

        Args:
            exact: an answer with something that no value can hold is refused, not read without it.

        Raises:
            ProviderUnavailable: no answer of the expected shape came; with `exact`, it holds what no value can hold.
        """
        for attempt in range(_LOOKS_AT_A_SHAPE):
            envelope, where = self._call("GET", path, query, None, permission)
            if exact and envelope.mended:
                raise ProviderUnavailable("the answer holds values that cannot be read", where=where)
            try:
                return _decode(envelope.result, result, where), envelope.result_info or ResultInfo()
            except ProviderUnavailable:
                if attempt == _LOOKS_AT_A_SHAPE - 1 or self._retry.attempts == 1:
                    raise
            self._clock.sleep(self._retry.first_wait_s)
        raise AssertionError  # the loop has answered

    def post(
        self,
        path: str,
        body: object,
        result: type[T],
        *,
        permission: str,
        query: Mapping[str, str] | None = None,
        private: bool = False,
    ) -> T:
        """Return the decoded result of a POST with a JSON body (or a `Form` as it is).

        `private`: the body holds values of secrets, so no error quotes what the API says about it, only its codes.

        Raises:
            AuthError: the token is missing or refused, or lacks `permission`.
            ProviderRejected: the API said no; with its status and code.
            ProviderUnavailable: no usable answer; for a POST that may have arrived the text says that it is unknown
                whether it happened.
        """
        encoded = body if isinstance(body, Form) else msgspec.json.encode(body)
        envelope, where = self._call("POST", path, query, encoded, permission, private=private)
        try:
            return _decode(envelope.result, result, where)
        except ProviderUnavailable as error:
            raise ProviderUnavailable(f"{error.what}; the request itself was accepted", where=where) from error

    def ask(self, path: str, body: object, result: type[T], *, permission: str) -> T:
        """Return the decoded result of a POST that only asks; errors and repetitions as `get`."""
        envelope, where = self._call("POST", path, None, msgspec.json.encode(body), permission, changes=False)
        return _decode(envelope.result, result, where)

    def graphql(self, query: str, variables: Mapping[str, str], result: type[T], *, permission: str) -> T:
        """Return the decoded data of a GraphQL query; errors and repetitions as `get`."""
        body = msgspec.json.encode({"query": query, "variables": variables})
        envelope, where = self._call("POST", "graphql", None, body, permission, changes=False)
        return _decode(envelope.data, result, where)

    def put(self, path: str, body: object, *, permission: str) -> None:
        """Replace something by a PUT with a JSON body (or a `Form` as it is); errors as `post`."""
        self._call("PUT", path, None, body if isinstance(body, Form) else msgspec.json.encode(body), permission)

    def change(self, path: str, body: object, *, permission: str) -> None:
        """Change what a JSON body names by a PATCH; errors as `post`."""
        self._call("PATCH", path, None, msgspec.json.encode(body), permission)

    def merge(self, path: str, body: object, *, permission: str) -> None:
        """Change something by a PATCH with a JSON merge patch; errors as a private `post`."""
        patch = Form("application/merge-patch+json", msgspec.json.encode(body))
        self._call("PATCH", path, None, patch, permission, private=True)

    def delete(self, path: str, *, permission: str) -> None:
        """Remove something; errors as `post`."""
        self._call("DELETE", path, None, None, permission)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: bytes | Form | None,
        permission: str,
        *,
        changes: bool = True,
        private: bool = False,
    ) -> tuple[_Envelope, str]:
        """Make a call; one that changes nothing (every GET, some POSTs) is repeated after every trouble."""
        changes = changes and method != "GET"
        target = f"{self._prefix}/{path}" + (f"?{urlencode(query)}" if query else "")
        where = f"{method} {self._connection.origin}{target}"
        token = clean_token(self._token(), self._token_place)
        if self._looker is not None:
            self._looker.check(self._clock.now(), where)

        def once() -> _Envelope:
            answer = self._exchange(method, target, where, token, body, changes=changes)
            return self._judge_answer(answer, where, _Words(token, private=private), permission, changes=changes)

        left_s = self._left_s()
        retry = self._retry if left_s is None else replace(self._retry, total_s=min(self._retry.total_s, left_s))
        return retry_call(once, retry, self._clock), where

    def make_yielding(self) -> ApiClient:
        """Return a client on the same connection that only looks: its calls give way to others'."""
        made = copy.copy(self)
        made._looker = Looker(self.budget)  # noqa: SLF001 - a copy of itself
        return made

    def hold(self, calls: int, *, first: bool = False) -> AbstractContextManager[None]:
        """Have so many calls for one look that needs them all, where it only looks; errors as `Looker.hold`."""
        if self._looker is None:
            return nullcontext()
        return self._looker.hold(calls, self._clock.now(), str(self._connection.origin), first=first)

    def make_hurried(self, within_s: float) -> ApiClient:
        """Return a client on the same connection whose calls are made once, and end after that many seconds."""
        made = copy.copy(self)
        made._looker, until = None, self._clock.now() + within_s  # noqa: SLF001 - a copy of itself
        made._retry, made._until = Retry(attempts=1), until  # noqa: SLF001 - the same
        return made

    def _within_s(self) -> float | None:
        left_s = self._left_s()
        return None if left_s is None else min(left_s, self._connection.limits.total_s)

    def _left_s(self) -> float | None:
        return None if self._until is None else max(0.001, self._until - self._clock.now())

    def _exchange(
        self, method: str, target: str, where: str, token: str, body: bytes | Form | None, *, changes: bool
    ) -> Answer:
        headers = {"Authorization": f"Bearer {token}", "User-Agent": f"backout/{__version__}"}
        headers["Accept"] = "application/json"
        data = body.data if isinstance(body, Form) else body
        if body is not None:
            headers["Content-Type"] = body.content_type if isinstance(body, Form) else "application/json"
        before = self._clock.now()
        try:
            answer = self._connection.exchange(method, target, headers=headers, body=data, within_s=self._within_s())
        except ExchangeError as error:
            unknown = changes and error.sent
            text = f"no usable answer from the API ({error.failure}: {error})" + (_UNKNOWN if unknown else "")
            lasting = unknown or error.failure in (Failure.NOT_TRUSTED, Failure.TOO_LARGE)
            raise CallFailed(ProviderUnavailable(text, where=where, hint=_LATER), permanent=lasting) from error
        self._measure_clock(answer.headers.get("date"), before)
        if not target.endswith("/graphql"):  # which has a limit of its own
            limits = answer.headers.get("ratelimit"), answer.headers.get("ratelimit-policy")
            self.budget.note(limits[0], self._clock.now(), limits[1])
        return answer

    def _judge_answer(self, answer: Answer, where: str, words: _Words, permission: str, *, changes: bool) -> _Envelope:
        """Return the envelope of a success; raise what every other answer means."""
        status = answer.status
        if status == _TOO_MANY:
            wait_s = retry_after_s(answer.headers.get("retry-after"), self._clock.now())
            if wait_s is not None:
                self.budget.note_blocked(wait_s, self._clock.now())
            asked = "" if wait_s is None else f"; it asks to wait {wait_s:g} s"
            error = ProviderUnavailable(f"too many requests (429){asked}", where=where, hint="wait, then try again")
            raise CallFailed(error, retry_after_s=wait_s)
        envelope = _parse_envelope(answer.body)
        said = (envelope.errors or ()) if envelope else ()
        if status in (_UNAUTHORIZED, _FORBIDDEN) or any(item.code in _AUTH_CODES for item in said):
            raise _make_auth_error(said, status, where, words, permission, place=self._token_place)
        if status == _NOT_FOUND and envelope is None:
            raise ProviderRejected("not found (404)", status=status, where=where, hint="check the base URL of the API")
        if status >= _SERVER_ERROR or envelope is None:
            trouble = f"the API answered {status}" + ("" if envelope else " with something that is not an API answer")
            raise _make_unusable_error(f"{trouble}{words.of(said)}", answer, where, self._clock.now(), unknown=changes)
        if not (envelope.success or (bytes(envelope.data) and not said)) or status >= _BAD_REQUEST:
            if not said and status < _BAD_REQUEST:
                trouble = f"the API answered {status} with neither a result nor an error"
                raise _make_unusable_error(trouble, answer, where, self._clock.now(), unknown=changes)
            code = said[0].code if said else None
            text = f"the API refused the request ({status}){words.of(said)}"
            raise ProviderRejected(text, status=status, code=code, where=where)
        return envelope

    def _measure_clock(self, date: str | None, before: float) -> None:
        if date is None:
            return
        try:
            theirs = parse_http_date(date)
        except Undecodable:
            return
        offset_s = theirs + 0.5 - (before + self._clock.now()) / 2
        if abs(offset_s) <= MOST_OFF_S:
            self.clock_offset_s = offset_s


_LATER: Final = "the same command again, once the API answers"
_UNKNOWN: Final = "; it is unknown whether the request took effect"


def _parse_envelope(body: bytes) -> _Envelope | None:
    try:
        return decode_json(body, _Envelope)
    except Undecodable:
        pass
    try:  # a message, or a log, may hold what its writer liked: that hides nothing of what stands beside it
        envelope = decode_json(make_readable(body), _Envelope)
    except Undecodable:
        return None
    envelope.mended = True
    return envelope


def _decode(raw: msgspec.Raw, result: type[T], where: str) -> T:
    try:
        return decode_json(raw, result, what="the answer")
    except Undecodable as error:
        raise ProviderUnavailable(
            error.what, where=where, hint="a newer version of backout may understand it"
        ) from error


def _make_unusable_error(text: str, answer: Answer, where: str, now: float, *, unknown: bool) -> CallFailed:
    error = ProviderUnavailable(text + (_UNKNOWN if unknown else ""), where=where, hint=_LATER)
    wait_s = retry_after_s(answer.headers.get("retry-after"), now)
    return CallFailed(error, permanent=unknown, retry_after_s=wait_s)


def _make_auth_error(
    said: tuple[_Said, ...], status: int, where: str, words: _Words, permission: str, *, place: str
) -> AuthError:
    """Return the error for a refused token: 401 means the token itself, anything else most likely its permissions."""
    if status == _UNAUTHORIZED:
        what = f"the API refuses the token ({status}){words.of(said)}; this call needs '{permission}'"
        hint = explain_place(f"a valid token with '{permission}' for this account", place)
    else:
        what = f"the token lacks the permission '{permission}' for this call ({status}){words.of(said)}"
        hint = f"give the token in {place} the permission '{permission}', or check the account id"
    return AuthError(what, where=where, hint=hint)


class _Words(Value, frozen=True):
    """How the API is quoted: with the token masked; for a private call only its codes."""

    token: str
    private: bool

    def of(self, said: tuple[_Said, ...]) -> str:
        """Return the API's own words with their codes."""
        if self.private:
            return "".join(f" [code {item.code}]" for item in said)
        texts = [f"{_make_plain(item.message) or 'no reason given'} [code {item.code}]" for item in said]
        return (": " + "; ".join(texts).replace(self.token, "[redacted]"))[:_MAX_TEXT] if texts else ""


def _make_plain(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text).strip()
