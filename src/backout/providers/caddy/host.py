"""Port Releases on this host: pushed into the folder of releases, run by its processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.errors import Refused
from backout.model.release import ReleaseState
from backout.model.secrets import SecretValues
from backout.providers.caddy.addresses import accepts, await_accepting
from backout.rules import SafetyRule

if TYPE_CHECKING:
    from pathlib import Path

    from backout.model.release import ReleaseNote
    from backout.ports import Clock
    from backout.providers.caddy.ledger import Ledger
    from backout.providers.caddy.processes import Processes
    from backout.providers.caddy.releases import Release, ReleaseFolder


class HostReleases:
    """Port Releases.

    Args:
        author: who pushes.
        starts_within_s: how long a release may take until it accepts connections.
    """

    def __init__(
        self,
        releases: ReleaseFolder,
        ledger: Ledger,
        processes: Processes,
        clock: Clock,
        *,
        author: str = "",
        starts_within_s: float = 30.0,
    ) -> None:
        self._releases = releases
        self._ledger = ledger
        self._processes = processes
        self._clock = clock
        self._author = author
        self._starts_within_s = starts_within_s

    def list(self) -> tuple[ReleaseState, ...]:
        """Return them, newest first; none where nothing was ever pushed."""
        if self._releases.find_tag() is None:
            return ()
        return tuple(_describe(each) for each in self._releases.list())

    def push(self, folder: Path, note: ReleaseNote) -> ReleaseState:
        """Copy a folder as a new release with the environment of the newest one."""
        self._releases.prepare()
        with self._ledger.lock():
            known = self._releases.list()[:1]
            environment = self._releases.read_environment(known[0].id) if known else SecretValues({})
            return _describe(self._releases.push(folder, note, environment, self._clock.now(), author=self._author))

    def start(self, release: str) -> ReleaseState:
        """Have it run, and return it when it accepts connections. Raises Refused: it does not within the time."""
        known = self._releases.get(release)
        self._processes.start(known)
        if not await_accepting(known.address, self._starts_within_s):
            self._processes.stop(known)  # else it would be started again and again
            raise Refused(
                f"release {release} does not start: nothing answers at {known.address}",
                where=str(self._releases.folder / release),
                rule=SafetyRule.TARGET,
                options=("choose another release: `backout deployments list`", "read its log, and push a fixed one"),
            )
        return _describe(known)

    def stop(self, release: str) -> None:
        """Have it end."""
        self._processes.stop(self._releases.get(release))

    def remove(self, release: str) -> None:
        """Stop it and remove its folder."""
        with self._ledger.lock():
            self._processes.stop(self._releases.get(release))
            self._releases.remove(release)


def _describe(release: Release) -> ReleaseState:
    return ReleaseState(
        id=release.id,
        number=release.number,
        created_at=release.created_at,
        code_hash=release.code_hash,
        address=release.address,
        git_sha=release.git_sha,
        tag=release.tag,
        message=release.message,
        author=release.author,
        answers=accepts(release.address),
    )
