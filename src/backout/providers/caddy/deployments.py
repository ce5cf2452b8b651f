"""Port Deployments on releases behind Caddy: what is live is read from Caddy, what was live from the ledger beside it.

A switch is one rename on each host, under a lock, and only if what is live is still what `history` showed last. The
intent stands in the ledger before it, the confirmation behind it, and what Caddy shows afterwards is read back. Of
several hosts all are locked and looked at before the first one is switched.
"""

from __future__ import annotations

import hashlib
import secrets
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from backout.errors import (
    BackoutError,
    NoSplit,
    PartlyDone,
    ProviderRejected,
    ProviderUnavailable,
    Refused,
    SecretsChanged,
    WorldMoved,
)
from backout.model.deployment import Deployment, DeploymentId, OnHost, Share
from backout.model.remark import looks_like_mark
from backout.model.value import Value
from backout.model.version import VersionId
from backout.providers.caddy.hosts import NOT_READ, Seen, assume_shares, read_hosts
from backout.providers.caddy.ledger import Content, Entry
from backout.providers.caddy.route import SLOTS
from backout.providers.caddy.variables import compare_environments
from backout.rules import SafetyRule

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backout.model.deployment import Cohort
    from backout.model.release import Release
    from backout.ports import Clock
    from backout.providers.caddy.host import HostReleases
    from backout.providers.caddy.hosts import Host

_LISTED: Final = 50
_MOST_MESSAGE_BYTES: Final = 1000
_ID_BYTES: Final = 8
_ROUNDED: Final = 100 / SLOTS
BY_HAND: Final = "hand"
"""What triggered a deployment that is not in the ledger: somebody replaced the link."""
DIFFER: Final = "differ"
"""What is said to have triggered the one that stands for hosts which do not serve alike."""
_AGAIN: Final = "the same command again, when every host is reached"
_PUSH_AGAIN: Final = "push its code again: a new release is on every host"
_NOT_FOUND: Final = 404


class CaddyDeployments:
    """Port Deployments.

    A deployment has the same id on every host. Where they do not serve alike, the newest one of the list is none of
    theirs: the visitors of all of them together, and `hosts` with what each shows.

    Args:
        author: who deploys, as the history is to name them.
    """

    def __init__(self, hosts: Sequence[Host], releases: HostReleases, clock: Clock, *, author: str = "") -> None:
        self._hosts = hosts
        self._releases = releases
        self._clock = clock
        self._author = author
        self._seen: dict[str, str] | None = None

    def history(self) -> tuple[Deployment, ...]:
        """Return the deployments that the ledgers still have, newest first; the first one is what Caddy shows."""
        seen, unread = read_hosts(self._hosts)
        self._seen = {each.name: each.live for each in seen}
        if not any(self._seen.values()):
            return ()
        ledger = _merge(seen)
        past = tuple(_make(entry) for entry in ledger.list_deployed())
        current = describe_live(seen, unread, ledger)
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
        """Make versions live with these percentages on each host, if what `history` showed last is still live there.

        Args:
            triggered_by: what the history is to say of it.

        Raises:
            WorldMoved: something else is live by now.
            SecretsChanged: values of the environment changed since one of them was made, and `force` is False.
            Refused: one of them cannot run: its code was changed, or it does not start.
            NoSplit: cohorts were asked for; there are none here.
            ProviderRejected: no host has such a release (status 404).
            ProviderUnavailable: Caddy gives no answer, or shows something else than was made live.
            PartlyDone: it is live on some hosts, and the others were not reached (which a remark does without), or do
                not have it.
        """
        if cohorts:
            raise NoSplit("releases behind Caddy have no cohorts", status=0, where=self._hosts[0].name)
        before = self._look_before() if len(self._hosts) > 1 else ()
        lost: dict[str, str] = {}
        lacking: list[ProviderRejected] = []
        ready: list[_Switch] = []
        for host in self._hosts:
            if self._seen is not None and host.name not in self._seen:
                lost[host.name] = "it was not read before"
                continue
            try:
                host.releases.check_there()
                made = _Switch(host, [(host.releases.get(share.version), share.percentage) for share in shares])
                self._check(made, force=force)
                ready.append(made)
            except ProviderRejected as error:
                if error.status != _NOT_FOUND:
                    raise
                lacking.append(error)
                lost[host.name] = "it does not have this release"
            except NOT_READ as error:
                if len(self._hosts) == 1:
                    raise
                lost[host.name] = error.what
        if len(lacking) == len(self._hosts):
            raise lacking[0]
        entry = self._switch(ready, before, lost, message, triggered_by)
        if lost and not (looks_like_mark(entry.message) and not _moves_traffic(before, entry)):
            done = ", ".join(each.host.name for each in ready if each.host.name not in lost)
            failed = "; ".join(f"{name} is not: {why}" for name, why in lost.items())
            hint = _PUSH_AGAIN if len(lacking) == len(lost) else _AGAIN
            raise PartlyDone(f"{done} switched to {entry.shares[0][0]}; {failed}", hint=hint)
        return _make(entry)

    def _look_before(self) -> tuple[Seen, ...]:
        """Return what the hosts show, () where that cannot be used: the switch needs none of it. Raises NOT_READ."""
        try:
            return read_hosts(self._hosts)[0]
        except NOT_READ:
            raise
        except BackoutError:
            return ()

    def _switch(
        self, ready: Sequence[_Switch], seen: Sequence[Seen], lost: dict[str, str], message: str, triggered_by: str
    ) -> Entry:
        """Switch under the locks of all of them, one after the other; what is not reached any more joins `lost`."""
        with ExitStack() as held:
            locked: list[tuple[_Switch, Seen]] = []
            ledgers = list(seen)
            for each in sorted(ready, key=lambda each: each.host.name):  # everybody in the same order
                with _noting(each, lost, alone=len(ready) == 1):
                    held.enter_context(each.host.ledger.lock())
                    found = Seen(each.host.name, self._check_unmoved(each.host), (), each.host.ledger.read())
                    ledgers.append(found)
                    locked.append((each, found))
            ledger = _merge(ledgers)
            entry = Entry(
                kind="intended",
                id=secrets.token_hex(_ID_BYTES),
                at=self._tell_time(ledger),
                shares=_list_shares(locked[0][0].wanted) if locked else (),
                message=message.encode()[:_MOST_MESSAGE_BYTES].decode(errors="ignore"),
                author=self._author,
                triggered_by=triggered_by,
                before=self._seen.get(locked[0][1].name, "") if self._seen and locked else "",
            )
            laid: list[_Switch] = []
            for each, found in locked:
                with _noting(each, lost, alone=len(ready) == 1):
                    self._intend(each, entry, found, ledger)
                    laid.append(each)
            switched = 0
            first: BackoutError | None = None
            for each in laid:
                try:
                    self._make_live(each.host, entry)
                    switched += 1
                except BackoutError as error:
                    lost[each.host.name], first = error.what, first or error
            if not switched:
                raise first or ProviderUnavailable("no host was reached", where=", ".join(lost))
        return entry

    def _check_unmoved(self, host: Host) -> str:
        """Return what is live on a host. Raises WorldMoved: it is something else than was seen there last."""
        live = host.read_live()
        expected = live if self._seen is None else self._seen.get(host.name, live)
        if live != expected:
            what = f"the live deployment is {live or 'none'} by now, no longer {expected or 'none'}"
            raise WorldMoved(what, where=host.releases.machine.describe(host.releases.folder))
        return live

    def _intend(self, switch: _Switch, entry: Entry, seen: Seen, ledger: Content) -> None:
        """Lay the slots on a host, and write down what is about to happen.

        Args:
            seen: what is live on it, and what its own ledger says.
            ledger: what those of all hosts say.
        """
        host = switch.host
        host.slots.lay(entry.id, {release.address: part for release, part in switch.wanted if part > 0})
        with suppress(BackoutError):  # it is for the history alone, and no way back is stopped by that
            self._confirm_live(host, seen, ledger)
        host.ledger.append(entry)

    def _confirm_live(self, host: Host, seen: Seen, ledger: Content) -> None:
        """Have the ledger know that it was live what is left now: whoever made it so was killed, or is a person."""
        if seen.ledger.find_intended(seen.live) is not None and not seen.ledger.was_live(seen.live):
            host.ledger.append(Entry(kind="live", id=seen.live, at=self._clock.now()))
        elif seen.live and not (found := host.add_shares(seen)).problem:
            _write_down_by_hand(host, _describe(found, ledger), seen.ledger)

    def _make_live(self, host: Host, entry: Entry) -> None:
        """Switch on a host, and read back what its Caddy shows."""
        host.slots.switch(entry.id)
        if (shown := host.read_live()) != entry.id:
            raise ProviderUnavailable(f"Caddy shows {shown or 'nothing'}, and not what was made live", where=entry.id)
        self._seen = {**(self._seen or {}), host.name: entry.id}
        with suppress(BackoutError):  # it is live, and the next deployment writes that down
            host.ledger.append(Entry(kind="live", id=entry.id, at=self._clock.now()))

    def _tell_time(self, content: Content) -> float:
        """Return a time that is behind every other one in the ledger, so that the order is that of the switches."""
        newest = max((each.at for each in content.entries if each.kind == "intended"), default=0.0)
        return max(self._clock.now(), newest + 0.002)  # one by hand may lie between them

    def _check(self, switch: _Switch, *, force: bool) -> None:
        """Raise where a release must not or cannot become live on a host; start it where it does not run."""
        releases = switch.host.releases
        for release, _ in switch.wanted:
            if releases.is_changed(release):
                raise Refused(
                    f"the code of release {release.id} is not what was pushed any more",
                    where=releases.machine.describe(releases.get_code(release.id)),
                    rule=SafetyRule.TARGET,
                    options=("choose another release: `backout deployments list`", "push the code again"),
                )
            changed = (compare_environments(release.fingerprints, each.fingerprints) for each in releases.list_newest())
            names = tuple(sorted({name for each in changed for name in each}))
            if names and release.has_process and not force:
                raise SecretsChanged(
                    f"secrets changed since release {release.id} was made: {', '.join(names)}; "
                    "switching to it would bring the old values back",
                    names=names,
                    where=releases.machine.describe(releases.folder),
                    hint="compare them (`backout secrets check`), then decide which values are to be live, "
                    "or roll forward",
                )
            self._releases.start_on(switch.host, release.id)


class _Switch(Value, frozen=True):
    """What is to be live on a host: its releases, with the percentage of each."""

    host: Host
    wanted: Sequence[tuple[Release, float]]


@contextmanager
def _noting(switch: _Switch, lost: dict[str, str], *, alone: bool) -> Iterator[None]:
    """Have a host that is not reached be noted, where it is not the only one."""
    try:
        yield
    except NOT_READ as error:
        if alone:
            raise
        lost[switch.host.name] = error.what


def _list_shares(wanted: Sequence[tuple[Release, float]]) -> tuple[tuple[str, float], ...]:
    return tuple(sorted(((release.id, part) for release, part in wanted), key=lambda each: -each[1]))


def _merge(seen: Sequence[Seen]) -> Content:
    merged = Content()
    for each in seen:
        merged = merged.merge(each.ledger)
    return merged


def _moves_traffic(seen: Sequence[Seen], entry: Entry) -> bool:
    """Whether a deployment gives visitors something else than they had on one of these hosts; `seen`: () not known."""
    wanted = {(version, part) for version, part in entry.shares if part > 0}
    return not seen or any({(str(each.version), each.percentage) for each in host.shares} != wanted for host in seen)


def describe_live(seen: Sequence[Seen], unread: Sequence[str], ledger: Content) -> Deployment:
    """Return what the hosts show as a deployment.

    Args:
        unread: the names of the hosts that were not read.
        ledger: what the ledgers of all of them say.

    Raises:
        BackoutError: no host's slots can be read, and the ledger does not know what Caddy shows.
    """
    doubted = [each for each in seen if each.problem]
    found = [(each.name, _describe(each, ledger) if each.live else None) for each in seen if not each.problem]
    shown = [each for _, each in found if each is not None]
    alike = len(shown) == len(found)
    shown = shown or [_describe(assume_shares(each, ledger), ledger) for each in doubted]
    newest = max(shown, key=lambda each: each.created_at)
    alike = alike and len({frozenset(_list_served(each)) for each in shown}) == 1
    hosts = tuple(
        OnHost(name, None if each is None else each.id, None if each is None else each.sole) for name, each in found
    )
    hosts += tuple(OnHost(each.name, DeploymentId(each.live), is_read=False, why=each.problem) for each in doubted)
    hosts += tuple(OnHost(name, None, is_read=False) for name in unread)
    if alike:  # where one host's ledger was lost, the others still know which deployment it is
        known = max(shown, key=lambda each: (each.triggered_by != BY_HAND, each.created_at))
        return replace(known, hosts=hosts if doubted or unread else ())
    parts: dict[VersionId, float] = {}
    for each in shown:
        for share in each.shares:
            parts[share.version] = parts.get(share.version, 0.0) + share.percentage / len(shown)
    text = ", ".join(f"{each.name} {each.deployment or 'none'}" for each in hosts)
    return Deployment(
        id=DeploymentId(f"{DIFFER}-{hashlib.sha256(text.encode()).hexdigest()[: 2 * _ID_BYTES]}"),
        created_at=newest.created_at + 0.001,
        shares=tuple(Share(version, part) for version, part in sorted(parts.items(), key=lambda part: -part[1])),
        message=f"the hosts differ: {text}",
        triggered_by=DIFFER,
        hosts=hosts,
    )


def _list_served(deployment: Deployment) -> list[tuple[str, float]]:
    return [(share.version, share.percentage) for share in deployment.shares if share.percentage > 0]


def _describe(seen: Seen, ledger: Content) -> Deployment:
    """Return what a host shows; where the ledger does not know it, or as it is, somebody else's."""
    entry, newest = ledger.find_intended(seen.live), seen.ledger.find_newest()
    if entry is not None and _agree(entry, seen.shares) and (newest is None or newest.at <= entry.at):
        return _make(entry)
    known = f"{BY_HAND}-{seen.live}-"
    if newest is not None and newest.id.startswith(known) and _agree(newest, seen.shares):
        return _make(newest)
    return Deployment(
        id=DeploymentId(seen.live if entry is None or newest is None else f"{known}{newest.id[:_ID_BYTES]}"),
        created_at=max((newest.at if newest is not None else 0.0) + 0.001, seen.linked_at),
        shares=seen.shares,
        triggered_by=BY_HAND,
    )


def _write_down_by_hand(host: Host, live: Deployment, content: Content) -> None:
    """Have the ledger know what somebody made live by hand: once it is left, nothing else does."""
    if live.triggered_by != BY_HAND or content.was_live(live.id):
        return
    if content.find_intended(live.id) is None:  # else whoever wrote it was killed before the second line
        shares = tuple((str(share.version), share.percentage) for share in live.shares)
        host.ledger.append(Entry(kind="intended", id=live.id, at=live.created_at, shares=shares, triggered_by=BY_HAND))
    host.ledger.append(Entry(kind="live", id=live.id, at=live.created_at))


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
