"""Port Deployments on releases behind Caddy: what is live is read from Caddy, what was live from the ledger beside it.

The switch is one PATCH of the route under the etag that was read before: whoever changed it in between wins, and this
one changes nothing. The intent stands in the ledger before it, the confirmation behind it.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, Final

from backout.errors import (
    BackoutError,
    NoSplit,
    ProviderRejected,
    ProviderUnavailable,
    Refused,
    SecretsChanged,
    WorldMoved,
)
from backout.model.deployment import Deployment, DeploymentId, Share
from backout.model.version import VersionId
from backout.providers.caddy.addresses import await_accepting
from backout.providers.caddy.ledger import Entry
from backout.providers.caddy.releases import compare_environments
from backout.providers.caddy.route import Live, make_route, read_route
from backout.rules import SafetyRule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.deployment import Cohort
    from backout.ports import Clock
    from backout.providers.caddy.admin import CaddyAdmin, Read
    from backout.providers.caddy.ledger import Content, Ledger
    from backout.providers.caddy.processes import Processes
    from backout.providers.caddy.releases import Release, ReleaseFolder

_LISTED: Final = 50
_MOST_MESSAGE_BYTES: Final = 1000
_ID_BYTES: Final = 8
_ROUNDED: Final = 0.05
BY_HAND: Final = "caddy"
"""What triggered a deployment that is not in the ledger: somebody changed Caddy's configuration."""


class CaddyDeployments:
    """Port Deployments.

    Args:
        route: the `@id` of the application's route.
        author: who deploys, as the history is to name them.
        starts_within_s: how long a release may take until it accepts connections.
    """

    def __init__(
        self,
        admin: CaddyAdmin,
        route: str,
        releases: ReleaseFolder,
        ledger: Ledger,
        processes: Processes,
        clock: Clock,
        *,
        author: str = "",
        starts_within_s: float = 30.0,
    ) -> None:
        self._admin = admin
        self._route = route
        self._releases = releases
        self._ledger = ledger
        self._processes = processes
        self._clock = clock
        self._author = author
        self._starts_within_s = starts_within_s
        self._seen: DeploymentId | None = None

    def history(self) -> tuple[Deployment, ...]:
        """Return the deployments that the ledger still has, newest first; the first one is what Caddy says."""
        read, content = self._admin.read(self._route), self._ledger.read()
        live = read_route(read.value, self._route)
        past = [self._make(entry) for entry in content.list_deployed()]
        if not live.shares:
            self._seen = None
            return ()
        current = self._make_live(live, content, read)
        self._seen = current.id
        others = [each for each in past if each.id != current.id]
        if past and past[0].id != current.id and any(each.id == current.id for each in past):
            # Caddy went back to an older configuration: by its own restart, or by hand.
            current = _move_behind(current, past[0])
        return (current, *others)[:_LISTED]

    def activate(
        self,
        version: str,
        *,
        message: str,
        force: bool = False,
        immediate: bool = False,  # noqa: ARG002 - the port's: here every new request goes to the new release at once
    ) -> Deployment:
        """Make `version` live at 100 %."""
        return self.deploy((Share(VersionId(version), 100.0),), message=message, force=force)

    def deploy(
        self,
        shares: Sequence[Share],
        *,
        message: str,
        force: bool = False,
        cohorts: Sequence[Cohort] = (),
        triggered_by: str = "deployment",
    ) -> Deployment:
        """Make versions live with these percentages, if what `history` showed last is still live.

        Args:
            triggered_by: what the history is to say of it.

        Raises:
            WorldMoved: something else is live by now.
            SecretsChanged: values of the environment changed since one of them was made, and `force` is False.
            Refused: one of them cannot run: its code was changed, or it does not start.
            NoSplit: cohorts were asked for; Caddy has none.
            ProviderRejected: there is no such release (status 404), or Caddy refuses the route.
            ProviderUnavailable: Caddy gives no answer, or shows something else than it was given.
        """
        if cohorts:
            raise NoSplit("releases behind Caddy have no cohorts", status=0, where=self._route)
        wanted = [(self._releases.get(share.version), share.percentage) for share in shares]
        for release, _ in wanted:
            self._check(release, force=force)
        with self._ledger.lock():
            return self._switch(wanted, message, triggered_by)

    def _switch(self, wanted: Sequence[tuple[Release, float]], message: str, triggered_by: str) -> Deployment:
        read, content = self._admin.read(self._route), self._ledger.read()
        before = read_route(read.value, self._route)
        live = self._make_live(before, content, read).id if before.shares else None
        if self._seen is not None and live != self._seen:
            raise WorldMoved(f"the live deployment is {live} by now, no longer {self._seen}", where=self._route)
        entry = Entry(
            kind="intended",
            id=f"{secrets.token_hex(_ID_BYTES)}",
            at=self._tell_time(content),
            shares=tuple(sorted(((r.id, percentage) for r, percentage in wanted), key=lambda each: -each[1])),
            message=message.encode()[:_MOST_MESSAGE_BYTES].decode(errors="ignore"),
            author=self._author,
            triggered_by=triggered_by,
            before=live or "",
        )
        if live is not None and content.find_intended(live) and live not in {e.id for e in content.list_deployed()}:
            self._ledger.append(Entry(kind="live", id=live, at=self._clock.now()))  # whoever switched to it was killed
        self._ledger.append(entry)
        named = {release: address for release, address in before.named.items() if self._is_kept(release, address)}
        named |= {release.id: release.address for release, _ in wanted}
        addresses = [(release.address, percentage) for release, percentage in wanted]
        self._admin.replace(self._route, make_route(self._route, entry.id, addresses, named), read.etag)
        return self._confirm(entry)

    def _confirm(self, entry: Entry) -> Deployment:
        """Read back what is in force, and write it down."""
        live = read_route(self._admin.read(self._route).value, self._route)
        if live.deployment != entry.id:
            raise ProviderUnavailable("Caddy shows another route than it was given", where=self._route)
        self._seen = DeploymentId(entry.id)
        self._ledger.append(Entry(kind="live", id=entry.id, at=self._clock.now()))
        return self._make(entry)

    def _tell_time(self, content: Content) -> float:
        """Return a time that is behind every other one in the ledger, so that the order is that of the switches."""
        newest = max((each.at for each in content.entries if each.kind == "intended"), default=0.0)
        return max(self._clock.now(), newest + 0.001)

    def _is_kept(self, release: str, address: str) -> bool:
        try:
            return self._releases.get(release).address == address
        except ProviderRejected:
            return False

    def _check(self, release: Release, *, force: bool) -> None:
        """Raise where a release must not or cannot become live; start it where it does not run."""
        if self._releases.is_changed(release):
            raise Refused(
                f"the code of release {release.id} is not what was pushed any more",
                where=str(self._releases.get_code(release.id)),
                rule=SafetyRule.TARGET,
                options=("choose another release: `backout deployments list`", "push the code again"),
            )
        newest = self._releases.list()[0]
        names = compare_environments(release.fingerprints, newest.fingerprints)
        if names and not force:
            raise SecretsChanged(
                f"secrets changed since release {release.id} was made; switching to it would bring the old values back",
                names=names,
                where=self._route,
                hint="compare them (`backout secrets check`), then decide which values are to be live, or roll forward",
            )
        self._processes.start(release)
        if not await_accepting(release.address, self._starts_within_s):
            raise Refused(
                f"release {release.id} does not start: nothing answers at {release.address}",
                where=str(self._releases.folder / release.id),
                rule=SafetyRule.TARGET,
                options=("choose another release: `backout deployments list`", "read its log, and push a fixed one"),
            )

    def _make_live(self, live: Live, content: Content, read: Read) -> Deployment:
        """Return what Caddy says as a deployment; one that is not in the ledger is somebody else's."""
        entry = content.find_intended(live.deployment) if live.deployment else None
        shares = self._name_shares(live)
        if entry is not None and _agree(entry, shares):
            return self._make(entry)
        digits = hashlib.sha256(bytes(read.value)).hexdigest()[: 2 * _ID_BYTES]
        newest = max((each.at for each in content.entries), default=0.0)
        return Deployment(
            id=DeploymentId(f"{BY_HAND}-{digits}"),
            created_at=newest + 0.001,
            shares=shares,
            triggered_by=BY_HAND,
        )

    def _name_shares(self, live: Live) -> tuple[Share, ...]:
        """Return the shares by release; an address that belongs to none is named as it is."""
        try:
            releases = {each.address: each.id for each in self._releases.list()}
        except BackoutError:
            releases = {address: release for release, address in live.named.items()}
        return tuple(Share(VersionId(releases.get(address, address)), share) for address, share in live.shares)

    def _make(self, entry: Entry) -> Deployment:
        return Deployment(
            id=DeploymentId(entry.id),
            created_at=entry.at,
            shares=tuple(Share(VersionId(release), percentage) for release, percentage in entry.shares),
            message=entry.message,
            triggered_by=entry.triggered_by,
            author=entry.author,
        )


def _agree(entry: Entry, shares: Sequence[Share]) -> bool:
    """Whether the route still shares requests out as it was made; weights are rounded."""
    intended = {release: percentage for release, percentage in entry.shares if percentage > 0}
    found = {share.version: share.percentage for share in shares}
    return intended.keys() == found.keys() and all(abs(intended[each] - found[each]) < _ROUNDED for each in found)


def _move_behind(deployment: Deployment, newest: Deployment) -> Deployment:
    """Return a deployment that is live again, behind the one that came after it."""
    return Deployment(
        id=DeploymentId(f"{BY_HAND}-{deployment.id}"),
        created_at=newest.created_at + 0.001,
        shares=deployment.shares,
        triggered_by=BY_HAND,
    )
