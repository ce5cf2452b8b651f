"""Caddy's admin API over its unix socket: read one object of its configuration, replace it if it is still the same.

Source: Caddy documentation, "API" (2.11): `/id/ID` leads to the object with that `@id`; the answer's Etag is that
object's, and a PATCH with `If-Match` of an older one is refused with 412. Tried on Caddy 2.11.7.
"""

from __future__ import annotations

import http.client
import socket
from typing import TYPE_CHECKING, Final

import msgspec

from backout.decoding import decode_json
from backout.errors import AuthError, ProviderRejected, ProviderUnavailable, WorldMoved
from backout.model.value import Value
from backout.providers.exchange import quote_segment

if TYPE_CHECKING:
    from pathlib import Path

_OK, _NOT_FOUND, _FAILED, _SERVER_ERROR = 200, 404, 412, 500
_CONNECT_S: Final = 2.0
_LONGEST_ANSWER: Final = 8 * 1024 * 1024
_SHOWN: Final = 200


class Read(Value, frozen=True):
    """An object of the configuration, and what it is recognised by when it is replaced."""

    value: msgspec.Raw
    etag: str


class Upstream(Value, frozen=True):
    """An address that requests are passed on to, and how many are there now."""

    address: str
    num_requests: int = 0
    fails: int = 0


class CaddyAdmin:
    """The admin API.

    Args:
        path: of its unix socket; `admin.listen` is "unix/" and this path.
        timeout_s: of each call; a change of the configuration is answered when it is in force.
    """

    def __init__(self, path: Path, *, timeout_s: float = 15.0) -> None:
        self._path = path
        self._timeout_s = timeout_s

    def read(self, name: str) -> Read:
        """Return the object with that `@id`.

        Raises:
            ProviderRejected: there is none (status 404).
            ProviderUnavailable: Caddy does not answer.
            AuthError: the socket is not for this user.
        """
        where = f"GET /id/{name}"
        status, etag, body = self._exchange("GET", f"/id/{quote_segment(name)}")
        if status == _NOT_FOUND or (status == _SERVER_ERROR and b"unknown object ID" in body):
            raise _make_unknown(name)
        if status != _OK or not etag:
            raise ProviderUnavailable(f"Caddy answered {status}{_read_reason(body)}", where=where)
        return Read(msgspec.Raw(body), etag)

    def replace(self, name: str, value: object, etag: str) -> None:
        """Replace it if it is still the one of that etag; when this returns, the new one is in force.

        Raises:
            WorldMoved: it is another one by now.
            ProviderRejected: Caddy cannot use the new one, or there is no such object.
            ProviderUnavailable: no answer; whether it was replaced is not known.
            AuthError: as `read`.
        """
        body = msgspec.json.encode(value)
        status, _, answer = self._exchange("PATCH", f"/id/{quote_segment(name)}", body, {"If-Match": etag})
        if status == _FAILED:
            raise WorldMoved("Caddy's route was changed meanwhile; nothing was changed here", where=name)
        if status == _NOT_FOUND or b"unknown object ID" in answer:
            raise _make_unknown(name)
        if status != _OK:
            raise ProviderRejected(
                f"Caddy refuses the route ({status}){_read_reason(answer)}", status=status, where=name
            )

    def list_upstreams(self) -> tuple[Upstream, ...]:
        """Return every address that it passes requests on to.

        Raises:
            ProviderUnavailable: Caddy does not answer.
            AuthError: as `read`.
        """
        status, _, body = self._exchange("GET", "/reverse_proxy/upstreams")
        if status != _OK:
            raise ProviderUnavailable(f"Caddy answered {status}", where="GET /reverse_proxy/upstreams")
        return decode_json(body, tuple[Upstream, ...], what="Caddy's answer")

    def _exchange(
        self, method: str, target: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, str, bytes]:
        connection = _UnixConnection(self._path, self._timeout_s)
        where = f"{self._path}: {method} {target}"
        try:
            sent = {"Content-Type": "application/json", **(headers or {})} if body is not None else headers or {}
            connection.request(method, target, body, sent)
            answer = connection.getresponse()
            content = answer.read(_LONGEST_ANSWER + 1)
        except PermissionError as error:
            raise AuthError(
                "the admin socket of Caddy is not for this user", where=str(self._path), hint=f"ls -l {self._path}"
            ) from error
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise ProviderUnavailable(
                "Caddy does not listen there", where=str(self._path), hint="is it running? systemctl status caddy"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise ProviderUnavailable(f"Caddy gives no answer: {error or type(error).__name__}", where=where) from error
        finally:
            connection.close()
        if len(content) > _LONGEST_ANSWER:
            raise ProviderUnavailable("the answer is too long", where=where)
        return answer.status, answer.headers.get("Etag") or "", content


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket; Caddy wants a host that it knows, and `localhost` is one."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path
        self._timeout_s = timeout_s

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_CONNECT_S)
        self.sock.connect(str(self._path))
        self.sock.settimeout(self._timeout_s)


class _Refusal(msgspec.Struct):
    error: str = ""


def _read_reason(body: bytes) -> str:
    """Return what a refusal says, on one line, or ""."""
    try:
        reason = decode_json(body, _Refusal).error
    except ProviderUnavailable:
        return ""
    return f": {' '.join(reason.split())[:_SHOWN]}" if reason else ""


def _make_unknown(name: str) -> ProviderRejected:
    what = f'Caddy has no object with "@id": "{name}"'
    hint = "`backout init` writes one; put it into the site's routes, then reload Caddy"
    return ProviderRejected(what, status=_NOT_FOUND, where=name, hint=hint)
