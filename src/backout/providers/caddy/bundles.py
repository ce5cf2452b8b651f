"""Port Bundles on hosts behind Caddy: the code of a release, put together with the environment of now.

The code stays where it is, on each host: a bundle only names the release, and an upload copies its folder there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from backout.decoding import decode_json
from backout.errors import Refused
from backout.model.bundle import Bundle
from backout.model.release import ReleaseNote
from backout.model.secrets import SecretValues
from backout.model.value import Value
from backout.providers.caddy.versions import make_version
from backout.rules import SafetyRule

if TYPE_CHECKING:
    from backout.model.version import Version
    from backout.providers.caddy.host import HostReleases


class _Metadata(Value, frozen=True):
    """What a bundle names: the release, and the secrets that its code had."""

    release: str
    secrets: tuple[str, ...]


class CaddyBundles:
    """Port Bundles."""

    def __init__(self, releases: HostReleases) -> None:
        self._releases = releases

    def fetch(self, version: str) -> Bundle:
        """Return a release as a bundle. Raises ProviderRejected (status 404) for an unknown id."""
        found = make_version(self._releases.get(version))
        return Bundle(found, msgspec.json.encode(_Metadata(found.id, found.secret_names)), ())

    def upload(self, bundle: Bundle, *, message: str, secrets: SecretValues | None = None) -> Version:
        """Make a new release of the same code, with the environment of the newest one and these secrets.

        Raises:
            Refused: a secret that the code had is not there any more.
            BackoutError: as `HostReleases.add`.
        """
        named = decode_json(bundle.metadata, _Metadata, what="the bundle", where=str(bundle.version.id))
        release = self._releases.get(named.release)
        newest = self._releases.read_newest_environment()
        values = {name: newest.reveal(name) for name in newest.names}
        values |= {} if secrets is None else {name: secrets.reveal(name) for name in secrets.names}
        if gone := sorted({*named.secrets} - values.keys()):
            what = f"secrets that release {release.id} needs are not there any more: {', '.join(gone)}"
            options = ("set them: `backout secrets put NAME`", "choose another release")
            raise Refused(what, where=release.id, rule=SafetyRule.SECRETS, options=options)
        note = ReleaseNote(release.git_sha, release.tag, message)
        return make_version(self._releases.add(release, note, SecretValues(values), source="carry"))
