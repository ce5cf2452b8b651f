"""Port Versions on Cloudflare: the immutable builds, with the hash of their code and the names of their bindings."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from backout.model.version import Version, VersionId
from backout.providers.clock import parse_unix_s
from backout.providers.cloudflare.permissions import READ_SCRIPTS
from backout.providers.exchange import quote_segment

if TYPE_CHECKING:
    from backout.providers.cloudflare.client import ApiClient

_MAX_PAGES: Final = 10
_SECRET_TYPES: Final = frozenset({"secret_text", "secret_key"})
_SHA: Final = re.compile(
    r"(?<![0-9A-Za-z-])(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])([0-9a-f]{40}|[0-9a-f]{7,12})(?![0-9A-Za-z-])"
)


class _Binding(msgspec.Struct):
    name: str = ""
    type: str = ""


class _Script(msgspec.Struct):
    etag: str | None = None
    handlers: tuple[str, ...] | None = ()


class _Resources(msgspec.Struct):
    bindings: tuple[_Binding, ...] | None = ()
    script: _Script | None = None


class _Metadata(msgspec.Struct):
    created_on: str = ""
    author_email: str | None = None
    source: str | None = None


class ApiVersion(msgspec.Struct):
    """A version as the API shows it; lists leave `resources` out."""

    id: str
    number: int = 0
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)
    annotations: dict[str, str | None] | None = None
    resources: _Resources | None = None

    def as_model(self) -> Version:
        """Return the noun."""
        notes = self.annotations or {}
        message, tag = notes.get("workers/message") or "", notes.get("workers/tag") or ""
        bindings = (self.resources.bindings if self.resources else None) or ()
        script = self.resources.script if self.resources else None
        return Version(
            id=VersionId(self.id),
            number=self.number,
            created_at=parse_unix_s(self.metadata.created_on),
            code_hash=(script.etag if script else None) or None,
            message=message,
            tag=tag,
            git_sha=find_git_sha(tag) or find_git_sha(message),
            triggered_by=notes.get("workers/triggered_by") or "",
            author=self.metadata.author_email or "",
            secret_names=tuple(sorted(b.name for b in bindings if b.type in _SECRET_TYPES)),
            bindings=tuple(sorted(f"{b.type}:{b.name}" for b in bindings)),
            handlers=(script.handlers if script else None) or (),
            source=self.metadata.source or "",
        )


class _Page(msgspec.Struct):
    items: tuple[ApiVersion, ...] = ()


class CloudflareVersions:
    """Port Versions of one Worker."""

    def __init__(self, client: ApiClient, account_id: str, script: str) -> None:
        self._client = client
        self._path = f"accounts/{quote_segment(account_id)}/workers/scripts/{quote_segment(script)}/versions"

    def recent(self) -> tuple[Version, ...]:
        """Return the versions that can still be deployed, newest first."""
        found: dict[str, Version] = {}
        for page in range(1, _MAX_PAGES + 1):
            query = {"deployable": "true"} | ({"page": str(page)} if page > 1 else {})
            answer, info = self._client.get_page(self._path, _Page, permission=READ_SCRIPTS, query=query)
            known = len(found)
            found |= {item.id: item.as_model() for item in answer.items}
            if page >= info.total_pages or len(found) == known:
                break
        return tuple(sorted(found.values(), key=lambda v: (-v.number, -v.created_at)))

    def detail(self, version: str) -> Version:
        """Return one version with its code hash, secrets and bindings."""
        path = f"{self._path}/{quote_segment(version)}"
        return self._client.get(path, ApiVersion, permission=READ_SCRIPTS).as_model()


def find_git_sha(text: str) -> str:
    """Return the git commit that a tag or message names, "" when nothing in it looks like one.

    A full hash, or 7 to 12 hexadecimal digits with at least one letter and one digit, standing alone.

    >>> find_git_sha("deploy 3f2a9c1 of main"), find_git_sha("v1.2.3"), find_git_sha("defaced 20261125")
    ('3f2a9c1', '', '')
    """
    found = _SHA.search(text)
    return found[1] if found else ""
