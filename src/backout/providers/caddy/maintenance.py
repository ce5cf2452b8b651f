"""Port Maintenance on hosts behind Caddy: a release without a process, for which Caddy itself answers 503.

It is made live as any other release, by the same rename; its slots lead to a server of Caddy's own, so it answers
whatever became of the application. It has the environment of the newest release, so that no value is lost with it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from backout.errors import ProviderRejected, Refused
from backout.model.release import MAINTENANCE, ReleaseNote
from backout.model.version import MAINTENANCE_TAG
from backout.private import write_new
from backout.providers.caddy.hosts import NOT_READ
from backout.rules import SafetyRule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.deployment import Deployment
    from backout.model.release import Release
    from backout.providers.caddy.deployments import CaddyDeployments
    from backout.providers.caddy.host import HostReleases
    from backout.providers.caddy.hosts import Host

_TEXT: Final = "Caddy answers 503 while this release is live: the server at .503.sock in its configuration.\n"


class CaddyMaintenance:
    """Port Maintenance of the releases on some hosts."""

    def __init__(self, hosts: Sequence[Host], releases: HostReleases, deployments: CaddyDeployments) -> None:
        self._hosts = hosts
        self._releases = releases
        self._deployments = deployments

    def find_obstacle(self) -> str:
        """Return why there can be none: nothing is live, or a host's Caddy has no such server, or was not reached."""
        try:
            if not self._deployments.history():
                return "nothing is deployed, so there is nothing to take out of service"
            lacking = [host.name for host in self._hosts if not self.is_there(host)]
        except (*NOT_READ, ProviderRejected) as error:
            return error.what
        return f"Caddy has no server for a maintenance page ({', '.join(lacking)})" if lacking else ""

    def show(self, message: str) -> Deployment:
        """Make such a release, unless there is one with that message, and make it live. Raises Refused: an obstacle."""
        if why := self.find_obstacle():
            options = ("`backout release route` prints what Caddy needs", "go on without a maintenance page")
            raise Refused(why, where=self._hosts[0].name, rule=SafetyRule.TARGET, options=options)
        known = (each for each in self._releases.read() if not each.has_process and each.message == message)
        made = next(known, None) or self._make(message)
        return self._deployments.activate(made.id, message=message, force=True)

    @staticmethod
    def is_there(host: Host) -> bool:
        """Whether a host's Caddy has the server that answers 503. Raises NOT_READ: the host was not reached."""
        return host.releases.machine.accepts(host.releases.maintenance)

    def _make(self, message: str) -> Release:
        with tempfile.TemporaryDirectory(prefix="backout-") as folder:
            write_new(Path(folder, "maintenance.txt"), _TEXT.encode())
            return self._releases.add(Path(folder), ReleaseNote("", MAINTENANCE_TAG, message), source=MAINTENANCE)
