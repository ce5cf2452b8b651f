"""Static assets of a version: which file answers a path, and the answer; a miss is the Worker's to answer."""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING
from urllib.parse import unquote

import msgspec
from aiohttp import web

from backout.decoding import decode_raw
from backout.model.value import Value

if TYPE_CHECKING:
    from pathlib import Path

    from backout.twin.control.worker import WorkerVersion


class AssetsConfig(msgspec.Struct, frozen=True):
    """The supported part of `assets.config`.

    Source: Cloudflare documentation, Workers static assets, "HTML handling" and "Routing".
    """

    html_handling: str = "auto-trailing-slash"
    not_found_handling: str = "none"
    run_worker_first: bool | tuple[str, ...] = False

    def worker_first(self, path: str) -> bool:
        """Whether the Worker is asked before the assets for this path; `!` patterns take out."""
        if isinstance(self.run_worker_first, bool):
            return self.run_worker_first
        out = any(fnmatch.fnmatchcase(path, rule[1:]) for rule in self.run_worker_first if rule.startswith("!"))
        return not out and any(fnmatch.fnmatchcase(path, rule) for rule in self.run_worker_first)


class Hit(Value, frozen=True):
    """What answers: a file with its type and status, or a redirect to `location`."""

    file: Path | None = None
    content_type: str = ""
    status: int = 200
    location: str = ""


def read_config(version: WorkerVersion) -> AssetsConfig:
    """Return the version's configuration; what cannot be read is the default."""
    try:
        return decode_raw(version.assets_config or "{}", AssetsConfig)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return AssetsConfig()


def find(version: WorkerVersion, raw_path: str, *, alone: bool = False) -> Hit | None:
    """Return what answers the path, or None for a miss.

    Args:
        version: its `assets` map URL paths to files.
        raw_path: as sent, without the query.
        alone: nothing else answers a miss (there is no Worker, or it asks its ASSETS binding), so
            `not_found_handling` applies.
    """
    config = read_config(version)
    path = unquote(raw_path)
    candidates = [path]
    if config.html_handling != "none":
        trimmed = path.rstrip("/")
        redirect = _find_canonical(version, path)
        if redirect is not None:
            return Hit(status=307, location=redirect)
        candidates += [f"{trimmed}/index.html", f"{trimmed}.html"]
    for candidate in candidates:
        if candidate in version.assets:
            file, content_type = version.assets[candidate]
            return Hit(file, content_type)
    return _find_not_found(version, config) if alone else None


def _find_canonical(version: WorkerVersion, path: str) -> str | None:
    """Return where `/x.html` and `/x/index.html` redirect to under auto-trailing-slash."""
    if path not in version.assets:
        return None
    if path.endswith("/index.html"):
        return path.removesuffix("index.html")
    return path.removesuffix(".html") if path.endswith(".html") else None


def _find_not_found(version: WorkerVersion, config: AssetsConfig) -> Hit | None:
    fallback = {"single-page-application": ("/index.html", 200), "404-page": ("/404.html", 404)}
    name, status = fallback.get(config.not_found_handling, ("", 404))
    if name not in version.assets:
        return None
    file, content_type = version.assets[name]
    return Hit(file, content_type, status)


def respond(hit: Hit) -> web.StreamResponse:
    """Return the answer of a hit."""
    if hit.file is None:
        return web.Response(status=hit.status, headers={"Location": hit.location})
    headers = {"Content-Type": hit.content_type or "application/octet-stream"}
    if hit.status == 200:
        headers["Cache-Control"] = "public, max-age=0, must-revalidate"
        return web.FileResponse(hit.file, headers=headers)
    return web.Response(status=hit.status, body=hit.file.read_bytes(), headers=headers)
