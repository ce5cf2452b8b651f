"""The hosts of an application: each with its releases, ledger and processes, and a Caddy that says what is live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.errors import AuthError, BackoutError, ProviderUnavailable, Refused
from backout.model.deployment import Share
from backout.model.value import Value
from backout.model.version import VersionId
from backout.providers.caddy.ledger import Content
from backout.providers.caddy.releases import BY_HAND_SUFFIX
from backout.providers.caddy.route import LIVE, SOCKET
from backout.providers.caddy.show import ask_caddy
from backout.rules import SafetyRule

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from backout.model.release import Release
    from backout.providers.caddy.ledger import Ledger
    from backout.providers.caddy.processes import Processes
    from backout.providers.caddy.releases import ReleaseFolder
    from backout.providers.caddy.slots import LiveSlots

NOT_READ: Final = (ProviderUnavailable, AuthError)
"""How a host fails that was not reached, or whose Caddy says nothing: nothing is known of it."""


class Host(Value, frozen=True):
    """One host."""

    releases: ReleaseFolder
    ledger: Ledger
    slots: LiveSlots
    processes: Processes

    @property
    def name(self) -> str:
        """As the configuration calls it."""
        return self.releases.machine.name

    def start(self, release: Release) -> None:
        """Have a release run, if it is one that does. Raises BackoutError."""
        if release.has_process:
            self.processes.start(release)

    def stop(self, release: Release) -> None:
        """Have it end. Raises BackoutError."""
        if release.has_process:
            self.processes.stop(release)

    def read_live(self) -> str:
        """Return the id of the deployment that its Caddy shows, "" for none. Raises as `ask_caddy`."""
        return ask_caddy(self.releases.machine, self.releases.folder / SOCKET)

    def name_shares(self, expected: Collection[str]) -> tuple[Share, ...]:
        """Return the live shares by release; an address that belongs to none is named as it is.

        Args:
            expected: the releases to name where several have an address, as maintenance pages do; else the newest one.
        """
        try:
            known = sorted(self.releases.list(), key=lambda each: (each.id in expected, each.number))
            releases = {each.address: each.id for each in known}
        except NOT_READ:
            raise
        except BackoutError:
            releases = {}
        return tuple(Share(VersionId(releases.get(a, a)), share) for a, share in self.slots.measure())

    def read(self) -> Seen:
        """Return what is live on it, and what its ledger says. Raises NOT_READ, BackoutError."""
        self.releases.check_there()
        return self.add_shares(Seen(self.name, self.read_live(), (), self.ledger.read()))

    def add_shares(self, seen: Seen) -> Seen:
        """Return what was seen with the shares of the visitors, or why they cannot be read. Raises NOT_READ."""
        if not seen.live:
            return seen
        entry = seen.ledger.find_intended(seen.live)
        by_hand = seen.live.removesuffix(BY_HAND_SUFFIX)
        expected = {by_hand} if entry is None else {release for release, _ in entry.shares}
        try:
            linked_at = 0.0 if entry is not None and seen.ledger.find_newest() == entry else self._tell_link()
            return replace(seen, shares=self.name_shares(expected), linked_at=linked_at)
        except NOT_READ:
            raise
        except BackoutError as error:
            return replace(seen, problem=error.what)

    def _tell_link(self) -> float:
        """Return when somebody made the link to what is live, 0 where that is not told."""
        try:
            return self.releases.machine.tell_link(self.releases.folder / LIVE)
        except NOT_READ:
            raise
        except BackoutError:
            return 0.0


class Seen(Value, frozen=True):
    """What was seen on a host.

    Args:
        live: the deployment that its Caddy shows, "" for none.
        shares: the releases that its visitors get.
        problem: why these cannot be read, "" where they are.
        linked_at: when somebody else than the ledger's newest deployment made them live, Unix seconds; 0 where it was
            that one, or it is not told.
    """

    name: str
    live: str
    shares: tuple[Share, ...]
    ledger: Content = Content()
    problem: str = ""
    linked_at: float = 0.0


def read_hosts(hosts: Sequence[Host]) -> tuple[tuple[Seen, ...], tuple[str, ...]]:
    """Return what was seen on each host, and the names of those that were not read.

    Raises:
        BackoutError: none was read, or what was read cannot be used.
    """
    seen: list[Seen] = []
    errors: list[tuple[str, BackoutError]] = []
    for host in hosts:
        try:
            seen.append(host.read())
        except NOT_READ as error:
            errors.append((host.name, error))
    if not seen:
        raise errors[0][1]
    return tuple(seen), tuple(name for name, _ in errors)


def assume_shares(seen: Seen, ledger: Content) -> Seen:
    """Return what was seen with the shares that its deployment was laid with. Raises BackoutError: nobody knows."""
    entry, release = ledger.find_intended(seen.live), seen.live.removesuffix(BY_HAND_SUFFIX)
    if entry is None and release == seen.live:
        raise BackoutError(seen.problem)
    laid = ((release, 100.0),) if entry is None else entry.shares
    return replace(seen, shares=tuple(Share(VersionId(each), part) for each, part in laid))


def find_tag(hosts: Sequence[Host]) -> str | None:
    """Return the id of the application's folders of releases, None where there is none yet.

    Those of several hosts have the same one; where they have not, all of them are returned, which no pin equals.

    Raises:
        NOT_READ: no host was read.
    """
    tags: dict[str, None] = {}
    lost: BackoutError | None = None
    read = 0
    for host in hosts:
        try:
            tag = host.releases.find_tag()
        except NOT_READ as error:
            lost = error
            continue
        read += 1
        if tag is not None:
            tags[tag] = None
    if not read and lost is not None:
        raise lost
    return "+".join(tags) or None


def prepare_hosts(hosts: Sequence[Host]) -> None:
    """Make the folder of releases on each host where there is none.

    Raises:
        NOT_READ: a host was not read; nothing was changed.
        Refused: they are folders of more than one application.
    """
    tags = {host.name: host.releases.find_tag() for host in hosts}
    known = {tag for tag in tags.values() if tag is not None}
    if len(known) > 1:
        raise Refused(
            "the folders of releases on these hosts belong to more than one application",
            where=", ".join(f"{name}: {tag[:8]}" for name, tag in tags.items() if tag),
            rule=SafetyRule.IDENTITY,
            options=("correct platform.caddy.hosts, or platform.caddy.releases",),
        )
    tag = next(iter(known), "")
    for host in hosts:
        host.releases.prepare(tag)
        tag = tag or host.releases.find_tag() or ""
