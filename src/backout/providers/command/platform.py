"""Ports Deployments and Versions on the team's commands: what is live is what `current` says, and nothing else.

A switch names the deployment that has to be live still; whether that is so is for the command to find out and to do in
one step. What it answers counts only when `current`, asked again, says the same.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

from backout.decoding import parse_moment
from backout.errors import NoSplit, ProviderRejected, ProviderUnavailable
from backout.model.deployment import Deployment, DeploymentId, Share
from backout.model.version import Version, VersionId
from backout.providers.command.protocol import (
    MOST_MESSAGE_BYTES,
    PROTOCOL,
    Activated,
    Current,
    History,
    Live,
    Part,
    Request,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.deployment import Cohort
    from backout.providers.command.calls import PlatformCommands
    from backout.providers.command.protocol import Build, Name

_ALL: Final = 100.0
_ROUNDED: Final = 0.5
"""How far a platform's whole weights may be from a percentage, and a sum of them from 100."""
BY_HAND: Final = "hand"
"""What triggered a deployment that the history does not have: somebody changed what is live in another way."""


class CommandDeployments:
    """Port Deployments."""

    def __init__(self, commands: PlatformCommands) -> None:
        self._commands = commands
        self._seen: str | None = None
        self._is_seen = False

    def history(self) -> tuple[Deployment, ...]:
        """Return the deployments that `history` lists, newest first; the first one is what `current` says."""
        # What is live is asked last: what is made live in between then stands above an older list, which is true.
        past = [_make(each, "history") for each in self._commands.ask("history", History).deployments]
        live = self._commands.ask("current", Current).deployment
        _check_order(past)
        self._seen, self._is_seen = live.id if live is not None else None, True
        if live is None:
            return ()
        top, newest = _make(live, "current"), past[0].created_at if past else 0.0
        if top.created_at < newest or top.id in {each.id for each in past[1:]}:
            # It was made live again in another way: this is not the deployment of then.
            return (_call_by_hand(top, newest), *past)
        return (top, *(each for each in past if each.id != top.id))

    def activate(
        self,
        version: str,
        *,
        message: str,
        force: bool = False,
        immediate: bool = False,
    ) -> Deployment:
        """Make `version` live at 100 %; `force` and `immediate` say nothing here."""
        del immediate
        return self.deploy((Share(VersionId(version), _ALL),), message=message, force=force)

    def deploy(
        self,
        shares: Sequence[Share],
        *,
        message: str,
        force: bool = False,
        cohorts: Sequence[Cohort] = (),
    ) -> Deployment:
        """Make versions live with these percentages, if what `history` showed last is still live.

        Raises:
            WorldMoved: something else is live by now.
            NoSplit: there is no command `shares`, or cohorts were asked for.
            ProviderRejected: there is no such version (status 404).
            Refused: one of them cannot run.
            ProviderUnavailable: no usable answer, or `current` says something else: it may be live or not.
        """
        del force
        if cohorts:
            raise NoSplit("commands know no cohorts", status=0, where="platform.command")
        is_whole = len(shares) == 1 and shares[0].percentage >= _ALL
        name: Name = "activate" if is_whole else "shares"
        if not self._commands.has(name):
            what = "there is no command that lets versions share the traffic"
            raise NoSplit(what, status=0, where="platform.command.shares")
        if not self._is_seen:
            self.history()
        asked = Request(
            protocol=PROTOCOL,
            command=name,
            version=shares[0].version if is_whole else None,
            shares=() if is_whole else tuple(Part(each.version, each.percentage) for each in shares),
            message=message.encode()[:MOST_MESSAGE_BYTES].decode(errors="ignore"),
            if_current=self._seen,
        )
        made = self._commands.ask(name, Activated, asked).deployment
        shown = self._commands.ask("current", Current).deployment
        if shown is None or shown.id != made.id or made.id == self._seen or not _agree(shown, shares):
            says = "nothing is live" if shown is None else f"deployment {shown.id} is live"
            raise ProviderUnavailable(
                f"{says}, and not what was made live", where="platform.command.current", hint="backout status"
            )
        self._seen = shown.id
        return _make(shown, "current")


class CommandVersions:
    """Port Versions."""

    def __init__(self, commands: PlatformCommands) -> None:
        self._commands = commands

    def recent(self) -> tuple[Version, ...]:
        """Return the versions that `history` lists, newest first. Raises ProviderUnavailable: they are not."""
        builds = self._commands.ask("history", History).versions
        if len({each.id for each in builds}) < len(builds):
            raise ProviderUnavailable("a version is listed twice", where="platform.command.history")
        made = [_make_version(each, len(builds) - place) for place, each in enumerate(builds)]
        if any(newer.created_at < older.created_at for newer, older in pairwise(made)):
            raise ProviderUnavailable("the versions are not newest first", where="platform.command.history")
        return tuple(made)

    def detail(self, version: str) -> Version:
        """Return one version. Raises ProviderRejected (status 404) for an unknown id."""
        found = next((each for each in self.recent() if each.id == version), None)
        if found is None:
            raise ProviderRejected("there is no such version", status=404, where=version)
        return found


def _make(live: Live, said_by: str) -> Deployment:
    """Return a deployment, its largest share first. Raises ProviderUnavailable: its shares or its time are none."""
    where = f"platform.command.{said_by}"
    shares = sorted((Share(VersionId(p.version), p.percentage) for p in live.shares), key=lambda each: -each.percentage)
    if abs(sum(each.percentage for each in shares) - _ALL) > _ROUNDED:
        raise ProviderUnavailable(f"the shares of deployment {live.id} do not sum to 100", where=where)
    if len({each.version for each in shares}) < len(shares):
        raise ProviderUnavailable(f"a version has two shares in deployment {live.id}", where=where)
    return Deployment(
        id=DeploymentId(live.id),
        created_at=parse_moment(live.created_at, what="created_at", where=where),
        shares=tuple(shares),
        message=live.message,
        triggered_by=live.triggered_by or "deployment",
        author=live.author,
    )


def _call_by_hand(top: Deployment, newest: float) -> Deployment:
    return Deployment(
        id=DeploymentId(f"{BY_HAND}-{top.id}"), created_at=newest + 0.001, shares=top.shares, triggered_by=BY_HAND
    )


def _check_order(past: Sequence[Deployment]) -> None:
    where = "platform.command.history"
    if len({each.id for each in past}) < len(past):
        raise ProviderUnavailable("a deployment is listed twice", where=where)
    if any(newer.created_at < older.created_at for newer, older in pairwise(past)):
        raise ProviderUnavailable("the deployments are not newest first", where=where)


def _make_version(build: Build, place: int) -> Version:
    return Version(
        id=VersionId(build.id),
        number=place if build.number is None else build.number,
        created_at=parse_moment(build.created_at, what="created_at", where="platform.command.history"),
        code_hash=build.code_hash or None,
        message=build.message,
        tag=build.tag,
        git_sha=build.commit,
        author=build.author,
        triggered_by="upload",
    )


def _agree(shown: Live, wanted: Sequence[Share]) -> bool:
    """Whether the shares are as they were asked for; platforms round them."""
    found = {each.version: each.percentage for each in shown.shares if each.percentage > 0}
    meant = {str(each.version): each.percentage for each in wanted if each.percentage > 0}
    return found.keys() == meant.keys() and all(abs(found[each] - meant[each]) <= _ROUNDED for each in meant)
