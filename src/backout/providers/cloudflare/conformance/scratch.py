"""The Worker that a first contact makes and deletes: how the API is called about it, and how it is visited."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

from backout import __version__
from backout.errors import ConfigError
from backout.model.bundle import BundleModule
from backout.providers.cloudflare.bundles import upload_form, write_form
from backout.providers.cloudflare.conformance.reply import (
    Reply,
    as_text,
    get_first,
    get_safe_id,
    look_up,
    parse_body,
)
from backout.providers.cloudflare.credentials import clean_token
from backout.providers.exchange import Connection, ExchangeError, Limits, Origin, quote_segment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from backout.ports import Clock

PREFIX: Final = "backout-conformance-"
MODULE: Final = """\
export default {
  async fetch(request, env) {
    if (new URL(request.url).pathname === "/throw") throw new Error("thrown on purpose");
    return Response.json({ mark: env.MARK, version: env.META ? env.META.id : null });
  },
};
"""
REACHED_S, _POLL_S = 30.0, 0.5
_NOT_FOUND = 404
_HASH_DIGITS: Final = 32
_SESSION: Final = re.compile(r"[\w.-]+", re.ASCII)


class Scratch:
    """The Worker.

    Args:
        base_url: ends in /client/v4.
        token: returns the token.
        account_id: whose.
        ingress_url: where the Worker answers (None: its workers.dev address, once that is known).
        script: its name, made up when None.

    Attributes:
        versions: the ids of its first two versions, as far as they are known.
        account, base: the paths of the account and of the Worker.
        may_be_there: from the moment on at which it is made.
        things: what else was made in the account: {path: what it is}, until it is deleted.
    """

    def __init__(
        self,
        *,
        base_url: str,
        token: Callable[[], str],
        account_id: str,
        clock: Clock,
        ingress_url: str | None = None,
        script: str | None = None,
    ) -> None:
        self.script = script or f"{PREFIX}{secrets.token_hex(4)}"
        self.account = f"accounts/{quote_segment(account_id)}"
        self.base = f"{self.account}/workers/scripts/{quote_segment(self.script)}"
        self.clock = clock
        self.ingress_url = ingress_url
        self.versions: list[str] = []
        self.may_be_there = False
        self.things: dict[str, str] = {}
        self._prefix = urlsplit(base_url).path.rstrip("/")
        self._connection = Connection(_make_origin(base_url), Limits(total_s=60.0))
        if ingress_url is not None:
            _make_origin(ingress_url)
        self._token = token

    @property
    def where(self) -> str:
        """The API's origin."""
        return str(self._connection.origin)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def name_version(self, index: int) -> str:
        """Return the id of a version, one that does not exist where it is not known."""
        return self.versions[index] if index < len(self.versions) else "missing"

    def note_version(self, value: object) -> bool:
        """Remember the id of a version; return whether it is one."""
        version = get_safe_id(value)
        self.versions += [version] if version else []
        return bool(version)

    def remove(self) -> Reply:
        """Delete the Worker with everything that depends on it."""
        reply = self.call("DELETE", self.base, query="force=true")
        self.may_be_there = reply.status not in (200, _NOT_FOUND)
        return reply

    def remove_things(self) -> list[str]:
        """Delete what else was made; return what could not be deleted."""
        for path in list(self.things):
            if self.call("DELETE", path).status in (200, _NOT_FOUND):
                del self.things[path]
        return list(self.things.values())

    def deploy(
        self, shares: list[tuple[int, float]], message: str, query: str = "", more: Mapping[str, object] | None = None
    ) -> Reply:
        """Make versions live, by their indexes."""
        versions = self.render_shares(shares)
        body = {"strategy": "percentage", "versions": versions, "annotations": {"workers/message": message}}
        return self.call("POST", f"{self.base}/deployments", body | dict(more or {}), query=query)

    def render_shares(self, shares: list[tuple[int, float]]) -> list[dict[str, object]]:
        """Return the versions of a deployment as the API takes them."""
        return [{"version_id": self.name_version(index), "percentage": share} for index, share in shares]

    def read_live(self) -> object:
        """Return the deployment that is listed first."""
        return get_first(look_up(self.call("GET", f"{self.base}/deployments").result, "deployments"))

    def upload(
        self,
        method: str,
        path: str,
        mark: str,
        *,
        message: str = "",
        code: str = MODULE,
        query: str = "",
        **more: object,
    ) -> Reply:
        """Upload code; `more` becomes metadata, and its `bindings` join the Worker's own."""
        listed = more.pop("bindings", [])
        metadata: dict[str, object] = {
            "main_module": "index.js",
            "compatibility_date": "2026-01-01",
            "bindings": [
                {"type": "plain_text", "name": "MARK", "text": mark},
                {"type": "version_metadata", "name": "META"},
                *(listed if isinstance(listed, list) else []),
            ],
            **({"annotations": {"workers/message": message}} if message else {}),
            **more,
        }
        form = upload_form(metadata, (BundleModule("index.js", "application/javascript+module", code.encode()),))
        return self._send(method, path, form.data, form.content_type, query)

    def upload_file(self, path: str, content: str) -> Reply:
        """Upload a static file, as wrangler does; the answer's `jwt` is what an upload of a version names it by."""
        name = hashlib.sha256(content.encode()).hexdigest()[:_HASH_DIGITS]
        manifest = {path: {"hash": name, "size": len(content.encode())}}
        opened = self.call("POST", f"{self.base}/assets-upload-session", {"manifest": manifest})
        session = as_text(look_up(opened.result, "jwt")) or ""
        if not look_up(opened.result, "buckets") or not _SESSION.fullmatch(session):  # the file is known already
            return opened
        form = write_form((BundleModule(name, "text/plain", base64.b64encode(content.encode())),))
        place = f"{self.account}/workers/assets/upload"
        return self._send("POST", place, form.data, form.content_type, "base64=true", bearer=session)

    def call(self, method: str, path: str, body: object = None, *, query: str = "") -> Reply:
        """Make one call, once."""
        data = None if body is None else msgspec.json.encode(body)
        return self._send(method, path, data, "application/json", query)

    def _send(
        self, method: str, path: str, body: bytes | None, kind: str, query: str, *, bearer: str | None = None
    ) -> Reply:
        headers = {
            "Authorization": f"Bearer {clean_token(self._token() if bearer is None else bearer)}",
            "User-Agent": f"backout/{__version__}",
            **({"Content-Type": kind} if body is not None else {}),
        }
        target = f"{self._prefix}/{path}" + (f"?{query}" if query else "")
        try:
            answer = self._connection.exchange(method, target, headers=headers, body=body)
        except ExchangeError as error:
            return Reply(0, trouble=f"no answer: {error.failure}: {error}")
        return Reply(answer.status, parse_body(answer.body), headers=answer.headers)

    def visit(self, headers: Mapping[str, str], path: str = "") -> Reply:
        """Send a request to the Worker itself."""
        if self.ingress_url is None:
            return Reply(0, trouble="it has no address under workers.dev")
        parts = urlsplit(self.ingress_url)
        connection = Connection(Origin.of(self.ingress_url), Limits(total_s=10.0))
        own_host = (
            {} if parts.hostname and parts.hostname.endswith(".workers.dev") else {"Host": f"{self.script}.localhost"}
        )
        try:
            answer = connection.exchange("GET", path or parts.path or "/", headers={**headers, **own_host})
        except ExchangeError as error:
            return Reply(0, trouble=f"the Worker did not answer: {error.failure}: {error}")
        finally:
            connection.close()
        return Reply(answer.status, parse_body(answer.body), headers=answer.headers)

    def keep_visiting(self, within_s: float, headers: Mapping[str, str], path: str = "") -> Iterator[Reply]:
        """Yield answers of the Worker until so many seconds are over: the edge needs a moment."""
        deadline = self.clock.now() + within_s
        yield self.visit(headers, path)
        while self.clock.now() < deadline:
            self.clock.sleep(_POLL_S)
            yield self.visit(headers, path)


def _make_origin(url: str) -> Origin:
    try:
        return Origin.of(url)
    except ValueError as error:
        raise ConfigError((f"{url!r} is {error}",)) from error
