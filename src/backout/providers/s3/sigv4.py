"""AWS Signature Version 4 for S3 as pure functions: a request's parts in, its headers out.

Source: AWS, "Signature Version 4 signing process" and "Authenticating Requests: Using the Authorization Header (S3)".
S3 differs from the other services: the path is encoded once, never normalised, and the payload's hash is a header.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from backout.model.clock import to_utc
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
"""In place of the payload's hash where a body is streamed and cannot be read twice."""
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class S3Credentials:
    """One access key; the secret is never shown."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


class S3Request(Value, frozen=True):
    """A request before it is signed.

    Args:
        method: HTTP method.
        host: the Host header, with the port unless it is the scheme's own.
        path: encoded once (see `encode_key`).
        query: names and values, not encoded.
        headers: further headers to send and sign.
        payload_sha256: hex, or UNSIGNED_PAYLOAD.
    """

    method: str
    host: str
    path: str
    query: Sequence[tuple[str, str]] = ()
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    payload_sha256: str = EMPTY_SHA256

    @property
    def target(self) -> str:
        """The request target as it is sent: path and query."""
        return f"{self.path}?{encode_query(self.query)}" if self.query else self.path


def encode_key(key: str) -> str:
    """Return a key as a path: every byte but unreserved characters and `/` is percent-encoded; `//` stays.

    >>> encode_key("a b/c+d//é~.txt")
    'a%20b/c%2Bd//%C3%A9~.txt'
    """
    return quote(key, safe="/")


def encode_query(query: Sequence[tuple[str, str]]) -> str:
    """Return the query in canonical form: encoded, sorted by the encoded name, then the encoded value.

    >>> encode_query((("prefix", "a/b c"), ("versions", ""), ("max-keys", "2")))
    'max-keys=2&prefix=a%2Fb%20c&versions='
    """
    encoded = sorted((quote(name, safe=""), quote(value, safe="")) for name, value in query)
    return "&".join(f"{name}={value}" for name, value in encoded)


def sign(request: S3Request, credentials: S3Credentials, region: str, at: float) -> dict[str, str]:
    """Return all headers to send, signature included; `at` is Unix seconds."""
    stamp = _format_stamp(int(at))
    headers = {
        **request.headers,
        "Host": request.host,
        "X-Amz-Date": stamp,
        "X-Amz-Content-SHA256": request.payload_sha256,
    }
    if credentials.session_token is not None:
        headers["X-Amz-Security-Token"] = credentials.session_token
    canonical, signed = make_canonical_request(request, headers)
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    to_sign = "\n".join((_ALGORITHM, stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    signature = hmac.digest(_derive_signing_key(credentials, stamp[:8], region), to_sign.encode(), "sha256").hex()
    headers["Authorization"] = (
        f"{_ALGORITHM} Credential={credentials.access_key_id}/{scope}, SignedHeaders={signed}, Signature={signature}"
    )
    return headers


def make_canonical_request(request: S3Request, headers: Mapping[str, str]) -> tuple[str, str]:
    """Return the canonical request and the list of signed headers, both as text."""
    lines = sorted((name.lower(), " ".join(value.split())) for name, value in headers.items())
    signed = ";".join(name for name, _ in lines)
    parts = (
        request.method,
        request.path,
        encode_query(request.query),
        *(f"{name}:{value}" for name, value in lines),
        "",
        signed,
        request.payload_sha256,
    )
    return "\n".join(parts), signed


@lru_cache(maxsize=8)
def _derive_signing_key(credentials: S3Credentials, day: str, region: str) -> bytes:
    """Return the key of a day; thousands of calls have the same."""
    key = f"AWS4{credentials.secret_access_key}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


@lru_cache(maxsize=8)
def _format_stamp(at: int) -> str:
    """Return a whole second as X-Amz-Date; hundreds of calls are made in one."""
    return to_utc(at).strftime("%Y%m%dT%H%M%SZ")
