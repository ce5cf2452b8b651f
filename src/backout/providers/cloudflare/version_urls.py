"""The URL at which Cloudflare answers with one version, whatever has traffic: a second way to ask a target at 0 %.

Sources, read 2026-12-01: documentation, "Version URLs" (`PREFIX-WORKER.SUBDOMAIN.workers.dev`, off where `preview_urls`
is; "Preview URLs": none with Durable Objects), wrangler 4.164 (the prefix is the first eight digits of the version's
id); cloudflare-typescript: `GET workers/scripts/{name}/subdomain`, `GET workers/subdomain`, and `urls` of a version in
the beta API, which is preferred as it is told and not put together.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from backout.errors import ProviderRejected, Unmeasured
from backout.providers.cloudflare.permissions import READ_SCRIPTS
from backout.providers.cloudflare.versions import ApiVersion
from backout.providers.exchange import Origin, quote_segment

if TYPE_CHECKING:
    from backout.providers.cloudflare.client import ApiClient

_OBJECTS: Final = "durable_object_namespace:"
_DOMAIN: Final = ".workers.dev"
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_PREFIX: Final = 8


class _Switches(msgspec.Struct):
    previews_enabled: bool = False


class _Subdomain(msgspec.Struct):
    subdomain: str | None = None


class _Told(msgspec.Struct):
    urls: tuple[str, ...] | None = None


class CloudflareVersionUrls:
    """The version URLs of one Worker."""

    def __init__(self, client: ApiClient, account_id: str, script: str) -> None:
        self._client = client
        self._script = script
        self._workers = f"accounts/{quote_segment(account_id)}/workers"

    def find(self, version: str) -> str:
        """Return the origin at which a version answers: https, and its label begins with the first digits of the id.

        Raises:
            Unmeasured: it has none.
            AuthError, ProviderRejected, ProviderUnavailable: as the API says.
        """
        script = f"{self._workers}/scripts/{quote_segment(self._script)}"
        if not self._client.get(f"{script}/subdomain", _Switches, permission=READ_SCRIPTS).previews_enabled:
            raise Unmeasured("version URLs are off (preview_urls in wrangler's file)", where=self._script)
        path = f"{script}/versions/{quote_segment(version)}"
        detail = self._client.get(path, ApiVersion, permission=READ_SCRIPTS).as_model()
        if any(name.startswith(_OBJECTS) for name in detail.bindings):
            raise Unmeasured("a version with Durable Objects has no URL of its own", where=self._script)
        told = next(filter(None, (self._check(url, version) for url in self._list_told(version))), None)
        return told or self._put_together(version)

    def _list_told(self, version: str) -> tuple[str, ...]:
        path = f"{self._workers}/workers/{quote_segment(self._script)}/versions/{quote_segment(version)}"
        try:
            return self._client.get(path, _Told, permission=READ_SCRIPTS).urls or ()
        except ProviderRejected:
            return ()

    def _put_together(self, version: str) -> str:
        found = self._client.get(f"{self._workers}/subdomain", _Subdomain, permission=READ_SCRIPTS).subdomain
        made = self._check(f"https://{self._make_label(version)}.{found}{_DOMAIN}", version) if found else None
        if made is None:
            raise Unmeasured("the account has no workers.dev name", where=self._script)
        return made

    def _check(self, url: str, version: str) -> str | None:
        """Return the origin of a URL if it is that of a version at Cloudflare, or of the twin on this machine."""
        try:
            origin = Origin.of(url)
        except ValueError:
            return None
        label, _, rest = origin.host.partition(".")
        at_home = origin.address is not None and self._client.origin.scheme == "http"
        is_theirs = origin.scheme == "https" and rest.endswith(_DOMAIN[1:]) and _LABEL.fullmatch(rest.partition(".")[0])
        return f"{origin}" if label == self._make_label(version) and (is_theirs or at_home) else None

    def _make_label(self, version: str) -> str:
        return f"{version[:_PREFIX]}-{self._script}".lower()
