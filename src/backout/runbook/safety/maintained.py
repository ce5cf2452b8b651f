"""What a maintenance version did is in no count: every procedure reads versions and counts through these.

The two share what is known: a version is noted as soon as it was listed or looked at, and its requests, which it
answered 503 on purpose, are left out of every page of counts that is read from then on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

if TYPE_CHECKING:
    from backout.model.guard.signals import CountsPage, SourceTraits
    from backout.model.version import Version
    from backout.ports import Traffic, Versions


class NotedVersions:
    """Port Versions on top of another one; `maintenance` are the ids of the maintenance versions that were seen."""

    def __init__(self, versions: Versions) -> None:
        self.raw = versions
        self.maintenance: set[str] = set()

    def recent(self) -> tuple[Version, ...]:
        """Return the versions that can still be deployed, maintenance versions too; see the port."""
        found = self.raw.recent()
        self.maintenance |= {version.id for version in found if version.is_maintenance}
        return found

    def detail(self, version: str) -> Version:
        """Return one version; see the port."""
        found = self.raw.detail(version)
        self.maintenance |= {found.id} if found.is_maintenance else set()
        return found


class ApplicationTraffic:
    """Port Traffic on top of another one, with its further abilities, without the requests of maintenance versions."""

    def __init__(self, traffic: Traffic, versions: NotedVersions) -> None:
        self.raw = traffic
        self._versions = versions

    @property
    def traits(self) -> SourceTraits:
        """What the source says of itself."""
        return self.raw.traits

    def read(self, since: int, until: int) -> CountsPage:
        """Return the final seconds in [since, until); see the port."""
        page, left_out = self.raw.read(since, until), self._versions.maintenance
        if not left_out or all(row.version not in left_out for row in page.counts):
            return page
        return replace(page, counts=tuple(row for row in page.counts if row.version not in left_out))

    def __getattr__(self, name: str) -> object:
        return getattr(self.raw, name)
