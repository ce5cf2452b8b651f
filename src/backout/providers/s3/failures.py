"""The meaning of a refused or broken S3 answer: which error, and whether another attempt makes sense."""

from __future__ import annotations

from http.client import HTTPException
from typing import TYPE_CHECKING

from backout.errors import AuthError, BackoutError, ProviderRejected, ProviderUnavailable
from backout.providers.retry import CallFailed, retry_after_s
from backout.providers.s3.answers import parse_error
from backout.providers.s3.documents import MalformedAnswer
from backout.providers.sockets import ExchangeError, describe_error

if TYPE_CHECKING:
    from collections.abc import Mapping

_TRANSIENT_STATUSES = frozenset({429, 500, 502, 503, 504})
_TRANSIENT_CODES = frozenset({"InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown", "OperationAborted"})
_HINTS: Mapping[str, str] = {
    "AccessDenied": "give the access key the permission for this bucket",
    "InvalidAccessKeyId": "check the access key id",
    "SignatureDoesNotMatch": "check the secret access key",
    "RequestTimeTooSkewed": "set this machine's clock",
    "ExpiredToken": "get a new session token",
}
_UNAUTHORIZED = frozenset({401, 403})


class S3Rejected(ProviderRejected):
    """S3 said no, in its own words: `word` such as `NoSuchKey` ("" where the answer has no body), and `message`."""

    def __init__(self, what: str, *, status: int, where: str, word: str, message: str) -> None:
        super().__init__(what, status=status, where=where)
        self.word = word
        self.message = message


class S3Denied(AuthError):
    """The key is valid, and lacks the permission for this call (403 AccessDenied); it may have it for other objects."""


def make_failure(status: int, headers: Mapping[str, str], body: bytes, where: str, now: float) -> CallFailed:
    """Return what one refused attempt means; `headers` in lower case, `now` in Unix seconds for Retry-After."""
    said = parse_error(body)
    what = f"S3 answered {status} {said.code}: {said.message}".rstrip(": ") if said.code else f"S3 answered {status}"
    transient = status in _TRANSIENT_STATUSES or said.code in _TRANSIENT_CODES
    error: BackoutError
    if transient:
        error = ProviderUnavailable(what, where=where, hint="try again later")
    elif status in _UNAUTHORIZED or said.code in _HINTS:  # ExpiredToken is a 400
        kind = S3Denied if said.code == "AccessDenied" else AuthError
        error = kind(what, where=where, hint=_HINTS.get(said.code, "check the access key and its permissions"))
    else:
        error = S3Rejected(what, status=status, where=where, word=said.code, message=said.message)
    return CallFailed(error, permanent=not transient, retry_after_s=retry_after_s(headers.get("retry-after"), now))


def make_no_answer(reason: Exception, where: str) -> CallFailed:
    """Return what a connection that failed or broke off means."""
    what = f"S3 did not answer: {_describe_reason(reason)}"
    return CallFailed(ProviderUnavailable(what, where=where, hint="check the endpoint and the network"))


def _describe_reason(reason: Exception) -> str:
    if isinstance(reason, TimeoutError):
        return "no whole answer came in time"
    if isinstance(reason, OSError | HTTPException):
        return describe_error(reason)
    return str(reason) if isinstance(reason, MalformedAnswer | BackoutError | ExchangeError) else type(reason).__name__
