"""Ports Versions, Secrets and SecretWriter on releases behind Caddy: a version is a release, with its environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.errors import NewestNotLive
from backout.model.deployment import Share
from backout.model.release import ReleaseNote
from backout.model.secrets import SecretValues
from backout.model.version import Version, VersionId
from backout.providers.caddy.variables import check_variables

if TYPE_CHECKING:
    from backout.model.release import Release
    from backout.providers.caddy.deployments import CaddyDeployments
    from backout.providers.caddy.host import HostReleases

_LISTED: Final = 100


class CaddyVersions:
    """Port Versions."""

    def __init__(self, releases: HostReleases) -> None:
        self._releases = releases

    def recent(self) -> tuple[Version, ...]:
        """Return the newest releases, newest first."""
        return tuple(make_version(each) for each in self._releases.read()[:_LISTED])

    def detail(self, version: str) -> Version:
        """Return one release. Raises ProviderRejected (status 404) for an unknown id."""
        return make_version(self._releases.get(version, damaged=True))


class CaddySecrets:
    """Port Secrets: the names in the environment of the newest release."""

    def __init__(self, releases: HostReleases) -> None:
        self._releases = releases

    def names(self) -> tuple[str, ...]:
        """Return the names, sorted."""
        newest = self._releases.read()[:1]
        return tuple(sorted(newest[0].fingerprints)) if newest else ()


class CaddySecretWriter:
    """Port SecretWriter: a new release of the live code with the values, live at once."""

    def __init__(self, releases: HostReleases, deployments: CaddyDeployments) -> None:
        self._releases = releases
        self._deployments = deployments

    def put(self, values: SecretValues) -> None:
        """Set all of them in one release; it is live when this returns.

        Raises:
            UsageError: no process can have such a variable.
            NewestNotLive: more than one release is live, or none, or a maintenance page.
            BackoutError: as `HostReleases.add` and `CaddyDeployments.deploy`.
        """
        check_variables(values)
        history = self._deployments.history()
        live = history[0].sole if history else None
        if live is None:
            what = "secrets are set in a new release of the live code, and no single release is live"
            raise NewestNotLive(what, status=0)
        release, kept = self._releases.get(live), self._releases.read_environment(live)
        if not release.has_process:
            raise NewestNotLive("a maintenance page is live, and it has no code to set secrets for", status=0)
        every = {name: kept.reveal(name) for name in kept.names} | {name: values.reveal(name) for name in values.names}
        note = ReleaseNote(release.git_sha, release.tag, f"secrets: {', '.join(values.names)}")
        made = self._releases.add(release, note, SecretValues(every), source="secret")
        whole = (Share(VersionId(made.id), 100.0),)
        self._deployments.deploy(whole, message=note.message, force=True, triggered_by="secret")


def make_version(release: Release) -> Version:
    """Return a release as a version."""
    names = tuple(sorted(release.fingerprints))
    return Version(
        id=VersionId(release.id),
        number=release.number,
        created_at=release.created_at,
        code_hash=release.code_hash,
        message=release.message,
        tag=release.tag,
        git_sha=release.git_sha,
        triggered_by="secret" if release.source == "secret" else "upload",
        author=release.author,
        secret_names=names,
        bindings=tuple(f"secret_text:{name}" for name in names),
        handlers=("fetch",),
        source=release.source,
        damage=release.damage,
    )
