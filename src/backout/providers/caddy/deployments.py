"""Port Deployments on releases behind Caddy: what is live is read from Caddy, what was live from the ledger beside it.

A switch is one rename, under a lock, and only if what is live is still what `history` showed last. The intent stands in
the ledger before it, the confirmation behind it, and what Caddy shows afterwards is read back.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from backout.errors import BackoutError, NoSplit, ProviderUnavailable, Refused, SecretsChanged, WorldMoved
from backout.model.deployment import Deployment, DeploymentId, Share
from backout.model.version import VersionId
from backout.providers.caddy.ledger import Entry
from backout.providers.caddy.releases import compare_environments
from backout.providers.caddy.route import SLOTS, SOCKET
from backout.providers.caddy.show import ask_caddy
from backout.rules import SafetyRule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.deployment import Cohort
    from backout.ports import Clock
    from backout.providers.caddy.host import HostReleases
    from backout.providers.caddy.ledger import Content, Ledger
    from backout.providers.caddy.releases import Release, ReleaseFolder
    from backout.providers.caddy.slots import LiveSlots

_LISTED: Final = 50
_MOST_MESSAGE_BYTES: Final = 1000
_ID_BYTES: Final = 8
_ROUNDED: Final = 100 / SLOTS
BY_HAND: Final = "hand"
"""What triggered a deployment that is not in the ledger: somebody replaced the link."""


class CaddyDeployments:
    """Port Deployments.

    Args:
        author: who deploys, as the history is to name them.
    """

    def __init__(
        self,
        releases: ReleaseFolder,
        ledger: Ledger,
        slots: LiveSlots,
        host: HostReleases,
        clock: Clock,
        *,
        author: str = "",
    ) -> None:
        self._releases = releases
        self._ledger = ledger
        self._slots = slots
        self._host = host
        self._clock = clock
        self._author = author
        self._seen: str | None = None

    def history(self) -> tuple[Deployment, ...]:
        """Return the deployments that the ledger still has, newest first; the first one is what Caddy shows."""
        self._releases.check_there()
        live, content = self._read_live(), self._ledger.read()
        self._seen = live
        if not live:
            return ()
        past = tuple(_make(entry) for entry in content.list_deployed())
        current = self._describe(live, content)
        return (current, *(each for each in past if each.id != current.id))[:_LISTED]

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
            NoSplit: cohorts were asked for; there are none here.
            ProviderRejected: there is no such release (status 404).
            ProviderUnavailable: Caddy gives no answer, or shows something else than was made live.
        """
        if cohorts:
            raise NoSplit("releases behind Caddy have no cohorts", status=0, where=str(self._releases.folder))
        self._releases.check_there()
        wanted = [(self._releases.get(share.version), share.percentage) for share in shares]
        for release, _ in wanted:
            self._check(release, force=force)
        with self._ledger.lock():
            return self._switch(wanted, message, triggered_by)

    def _switch(self, wanted: Sequence[tuple[Release, float]], message: str, triggered_by: str) -> Deployment:
        live, content = self._read_live(), self._ledger.read()
        if self._seen is not None and live != self._seen:
            what = f"the live deployment is {live or 'none'} by now, no longer {self._seen or 'none'}"
            raise WorldMoved(what, where=str(self._releases.folder))
        entry = Entry(
            kind="intended",
            id=secrets.token_hex(_ID_BYTES),
            at=self._tell_time(content),
            shares=tuple(sorted(((r.id, percentage) for r, percentage in wanted), key=lambda each: -each[1])),
            message=message.encode()[:_MOST_MESSAGE_BYTES].decode(errors="ignore"),
            author=self._author,
            triggered_by=triggered_by,
            before=live,
        )
        self._slots.lay(entry.id, {release.address: percentage for release, percentage in wanted if percentage > 0})
        if content.find_intended(live) is not None and live not in {each.id for each in content.list_deployed()}:
            self._ledger.append(Entry(kind="live", id=live, at=self._clock.now()))  # whoever switched to it was killed
        self._ledger.append(entry)
        self._slots.switch(entry.id)
        if (shown := self._read_live()) != entry.id:
            raise ProviderUnavailable(f"Caddy shows {shown or 'nothing'}, and not what was made live", where=entry.id)
        self._seen = entry.id
        self._ledger.append(Entry(kind="live", id=entry.id, at=self._clock.now()))
        return _make(entry)

    def _read_live(self) -> str:
        return ask_caddy(self._releases.folder / SOCKET)

    def _tell_time(self, content: Content) -> float:
        """Return a time that is behind every other one in the ledger, so that the order is that of the switches."""
        newest = max((each.at for each in content.entries if each.kind == "intended"), default=0.0)
        return max(self._clock.now(), newest + 0.001)

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
                where=str(self._releases.folder),
                hint="compare them (`backout secrets check`), then decide which values are to be live, or roll forward",
            )
        self._host.start(release.id)

    def _describe(self, live: str, content: Content) -> Deployment:
        """Return what Caddy shows as a deployment; where the ledger does not know it, or as it is, somebody else's."""
        entry, newest = content.find_intended(live), content.find_newest()
        shares = self._name_shares()
        if entry is not None and _agree(entry, shares) and (newest is None or newest.at <= entry.at):
            return _make(entry)
        return Deployment(
            id=DeploymentId(live if entry is None else f"{BY_HAND}-{live}"),
            created_at=(newest.at if newest is not None else 0.0) + 0.001,
            shares=shares,
            triggered_by=BY_HAND,
        )

    def _name_shares(self) -> tuple[Share, ...]:
        """Return the live shares by release; an address that belongs to none is named as it is."""
        try:
            releases = {each.address: each.id for each in self._releases.list()}
        except BackoutError:
            releases = {}
        return tuple(Share(VersionId(releases.get(a, a)), share) for a, share in self._slots.measure())


def _make(entry: Entry) -> Deployment:
    return Deployment(
        id=DeploymentId(entry.id),
        created_at=entry.at,
        shares=tuple(Share(VersionId(release), percentage) for release, percentage in entry.shares),
        message=entry.message,
        triggered_by=entry.triggered_by,
        author=entry.author,
    )


def _agree(entry: Entry, shares: Sequence[Share]) -> bool:
    """Whether the slots still are as they were laid; shares are rounded to whole slots."""
    intended = {release: percentage for release, percentage in entry.shares if percentage > 0}
    found = {share.version: share.percentage for share in shares}
    return intended.keys() == found.keys() and all(abs(intended[each] - found[each]) <= _ROUNDED for each in found)
