"""Version URLs: the host at which one version answers, whatever has traffic.

Sources: Cloudflare documentation, "Version URLs" and "Preview URLs" (2026-12): `PREFIX-WORKER.SUBDOMAIN.workers.dev`,
the prefix being the first eight digits of the version's id; off where `previews_enabled` is, and with Durable Objects.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from backout.twin.control.control import SUBDOMAIN

if TYPE_CHECKING:
    from backout.twin.control.control import ControlPlane
    from backout.twin.control.records import Script, Version
    from backout.twin.control.worker import WorkerVersion

_HOST: Final = re.compile(
    rf"(?P<prefix>[0-9a-f]{{8}})-(?P<script>[a-z0-9_-]+)\.(?:localhost|{SUBDOMAIN}\.workers\.dev)(?::\d+)?"
)
_OBJECTS: Final = "durable_object_namespace"


def list_urls(script: Script, version: Version, socket_url: str) -> list[str]:
    """Return the URLs of a version on this machine: one, or none where it has none.

    Args:
        socket_url: `ws://127.0.0.1:PORT` of the twin.
    """
    if not _has_url(script, version):
        return []
    return [f"http://{version.id[:8]}-{script.name}.localhost:{urlsplit(socket_url).port}"]


def find_preview(control: ControlPlane, host: str) -> WorkerVersion | None:
    """Return the version that a Host header names, None if it names none, or that one has no URL."""
    named = _HOST.fullmatch(host.lower())
    script = control.state.script(named["script"]) if named else None
    if named is None or script is None:
        return None
    versions = control.state.versions(script.name, limit=control.state.version_count(script.name))
    found = [each for each in versions if each.id.startswith(named["prefix"]) and _has_url(script, each)]
    return control.runnable(found[0]) if len(found) == 1 else None


def _has_url(script: Script, version: Version) -> bool:
    return script.previews_enabled and all(binding.get("type") != _OBJECTS for binding in version.bindings)
