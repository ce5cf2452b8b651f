"""The platform's deployments as a procedure sees them: each with its mark, or why it has none.

A procedure has no other access to the history (`Toolbox.deployments`), so no message alone is taken for a mark.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from backout.analysis.history.marks import read_marks
from backout.errors import BackoutError, ProviderRejected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.analysis.history.seal import Seal
    from backout.model.deployment import Cohort, Deployment, Share
    from backout.model.version import Version
    from backout.ports import Deployments
    from backout.runbook.safety.maintained import NotedVersions


class MarkedDeployments:
    """Port Deployments on top of another one.

    Args:
        versions: asked, once for each version, if the list alone does not tell whether a deployment is what its message
            says.
        seal: what marks are signed with, None where they are not.
    """

    def __init__(self, deployments: Deployments, versions: NotedVersions, seal: Seal | None = None) -> None:
        self.raw = deployments
        self._versions = versions
        self._seal = seal
        self._known: dict[str, Version | None] = {}

    def history(self) -> tuple[Deployment, ...]:
        """Return the provider's list, newest first, with `remark`, `doubt` and `is_maintenance` filled in."""
        read, known = read_marks(self.raw.history(), self._detail, self._seal), self._versions.maintenance
        return tuple(replace(each, is_maintenance=each.main in known) for each in read) if known else read

    def activate(self, version: str, *, message: str, force: bool = False, immediate: bool = False) -> Deployment:
        """Make `version` live at 100 %; see the port."""
        return self.raw.activate(version, message=message, force=force, immediate=immediate)

    def deploy(
        self, shares: Sequence[Share], *, message: str, force: bool = False, cohorts: Sequence[Cohort] = ()
    ) -> Deployment:
        """Make versions live with these percentages; see the port."""
        return self.raw.deploy(shares, message=message, force=force, cohorts=cohorts)

    def _detail(self, version: str) -> Version | None:
        """Return a version in full; None if the provider does not know it, or does not answer just now."""
        if version not in self._known:
            try:
                self._known[version] = self._versions.detail(version)
            except ProviderRejected:
                self._known[version] = None
            except BackoutError:
                return None
        return self._known[version]
