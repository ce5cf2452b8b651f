"""Whether a platform keeps what its ports promise: asked by making live again what is live, which moves no traffic.

A question that failed ends the trial: those behind it rest on it.
"""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from backout.errors import BackoutError, NoSplit, PartlyDone, WorldMoved
from backout.model.conformance import Trial
from backout.model.deployment import Share
from backout.runbook.safety.identity import check_identity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backout.model.deployment import Deployment
    from backout.runbook.toolbox import Toolbox

_ROUNDS: Final = 3
_OURS: Final = "[backout conformance-"
_MARKER: Final = _OURS + "{}] "
_LEAST_BYTES: Final = 200


class _Wrong(Exception):
    """The platform did something else; the text says what."""


@dataclass
class _Trials:
    """One trial of a platform.

    Args:
        open_tools: returns a toolbox of its own, as another operator has it.
        live: what is live, as seen last.
        first: what was live before anything was tried.
    """

    open_tools: Callable[[], Toolbox]
    tools: Toolbox
    live: Deployment | None = None
    first: Deployment | None = None

    def read(self) -> str:
        """The list begins with what is live, newest first, the same when it is asked again."""
        history = self.tools.deployments.history()
        if not history:
            raise _Wrong("nothing is live: deploy once, then the same command again")
        times = [each.created_at for each in history]
        if times != sorted(times, reverse=True) or len({each.id for each in history}) < len(history):
            raise _Wrong("the deployments are not newest first, each once")
        if self.tools.deployments.history() != history:
            raise _Wrong("two looks in a row show something else: does somebody deploy just now?")
        self.live = self.first = history[0]
        return f"deployment {self.live.id} of {len(history)} is live"

    def list_versions(self) -> str:
        """What is live is one of the versions."""
        known = self.tools.versions.recent()
        assert self.live is not None
        missing = [share.version for share in self.live.shares if share.version not in {each.id for each in known}]
        if missing:
            raise _Wrong(f"version {missing[0]} is live, and is not listed")
        bare = sum(not each.git_sha and not each.code_hash for each in known)
        return f"{len(known)} versions" + (f"; {bare} have no commit and no hash of their code" if bare else "")

    def make_live_again(self) -> str:
        """It is a deployment of its own, with its message, and the others stay in the list."""
        before = self.tools.deployments.history()
        message = _MARKER.format(secrets.token_hex(4)) + "made live again: ä€😀"
        made = self._deploy(self.tools, message)
        history = self.tools.deployments.history()
        if not history or history[0].id != made.id:
            raise _Wrong(f"{made.id} was made live, and {history[0].id if history else 'nothing'} is")
        if made.id in {each.id for each in before}:
            raise _Wrong(f"it has the id of an earlier deployment, {made.id}")
        if history[0].message != message:
            raise _Wrong("its message is not what was given")
        if [each.id for each in history[1:3]] != [each.id for each in before[:2]]:
            raise _Wrong("what was live before is not in the list behind it")
        self.live = made
        return f"deployment {made.id}"

    def keep_message(self) -> str:
        """Long messages keep at least their beginning."""
        message = _MARKER.format(secrets.token_hex(4)) + "x" * 900
        made = self._deploy(self.tools, message)
        kept = self.tools.deployments.history()[0].message
        if not message.startswith(kept) or len(kept.encode()) < _LEAST_BYTES:
            raise _Wrong(f"{len(kept.encode())} of {len(message)} bytes were kept, at least {_LEAST_BYTES} are needed")
        self.live = made
        return f"{len(kept.encode())} of {len(message)} bytes are kept"

    def refuse_old_look(self) -> str:
        """A switch that rests on an older look is refused, and changes nothing."""
        other = self.open_tools()
        other.deployments.history()
        self.live = self._deploy(self.tools, _MARKER.format(secrets.token_hex(4)) + "a newer deployment")
        try:
            made = self._deploy(other, _MARKER.format(secrets.token_hex(4)) + "must be refused")
        except WorldMoved:
            pass
        else:
            raise _Wrong(f"a switch that was to happen only on an older deployment was made ({made.id})")
        if self.tools.deployments.history()[0].id != self.live.id:
            raise _Wrong("the refused switch changed what is live")
        return "it is refused"

    def let_one_win(self) -> str:
        """Of two switches at the same time exactly one is made."""
        for _ in range(_ROUNDS):
            ended: list[Deployment | BackoutError] = []
            both = (self.open_tools(), self.open_tools())
            for tools in both:
                tools.deployments.history()
            threads = [threading.Thread(target=self._race, args=(tools, ended)) for tools in both]
            for each in threads:
                each.start()
            for each in threads:
                each.join()
            made = [each for each in ended if not isinstance(each, BackoutError)]
            others = [each for each in ended if isinstance(each, BackoutError) and not isinstance(each, WorldMoved)]
            if others:
                raise _Wrong(f"one of two at the same time failed otherwise: {others[0].what}")
            if len(made) != 1:
                raise _Wrong(f"{len(made)} of two switches at the same time were made")
            if self.tools.deployments.history()[0].id != made[0].id:
                raise _Wrong("another deployment is live than the one that was made")
            self.live = made[0]
        return f"one, in each of {_ROUNDS} rounds"

    def reach(self) -> str | None:
        """A request can be led to one version, which says who it is."""
        assert self.live is not None
        if self.tools.health is None:
            return None
        version = self.live.main
        report = self.tools.health.look(version)
        if not report.measured and self.tools.rollback.open_version is not None:
            report = self.tools.rollback.open_version(version).look()
        if not report.measured:
            raise _Wrong(f"the health of version {version} cannot be asked: {report.why_unmeasured}")
        if report.version != version:
            raise _Wrong(f"version {report.version or 'unknown'} answered in place of {version}")
        return f"version {version} answers as itself"

    def place(self) -> str | None:
        """A version at 0 % gets a place in the list, and no traffic."""
        assert self.live is not None
        other = next((v.id for v in self.tools.versions.recent() if not self.live.serves(v.id)), None)
        if other is None or not self.tools.rollback.places_targets or self.live.sole is None:
            return None
        message = _MARKER.format(secrets.token_hex(4)) + "at 0 %"
        beside, stale = (*self.live.shares[:1], Share(other, 0.0)), self.open_tools()
        stale.deployments.history()
        self.live = self._deploy(self.tools, f"{message}: a newer deployment")
        try:
            stale.deployments.deploy(beside, message=f"{message}: must be refused")
        except NoSplit:
            return None
        except WorldMoved:
            pass
        else:
            raise _Wrong("a version was placed beside an older deployment than the one that is live")
        made = self.tools.deployments.deploy(beside, message=message)
        if made.serves(other) or made.sole != self.live.sole:
            raise _Wrong(f"version {other} gets traffic, and was to get none")
        self.live = self.tools.deployments.deploy(self.live.shares[:1], message=f"{message}, ended")
        return f"version {other} was placed, and taken away again"

    def put_back(self) -> None:
        """Make live again what was live first, where a question that failed left something else.

        Raises:
            PartlyDone: other versions have the traffic now, and it is not ours to move, or could not be moved back.
        """
        if self.first is None:
            return
        wanted = _list_served(self.first)
        try:
            tools = self.open_tools()
            now = next(iter(tools.deployments.history()), None)
            if now is not None and _list_served(now) != wanted and _OURS in now.message:
                message = _MARKER.format(secrets.token_hex(4)) + "put back"
                tools.deployments.deploy(self.first.shares, message=message, force=True, cohorts=self.first.cohorts)
                now = next(iter(self.open_tools().deployments.history()), None)
            what = "nothing is live" if now is None else f"deployment {now.id} is live"
            if now is not None and _list_served(now) == wanted:
                return
        except BackoutError as error:
            what = f"what is live could not be put back or read: {error.what}"
        raise PartlyDone(
            f"{what}, and not what was before the trial ({', '.join(f'{v} {p:g} %' for v, p in wanted)})",
            where=self.tools.environment,
            hint=f"backout status -e {self.tools.environment}",
        )

    def _deploy(self, tools: Toolbox, message: str) -> Deployment:
        assert self.live is not None
        made = tools.deployments.deploy(self.live.shares, message=message, force=True, cohorts=self.live.cohorts)
        if [share for share in made.shares if share.percentage] != [s for s in self.live.shares if s.percentage]:
            raise _Wrong("other versions are live than were made live again")
        return made

    def _race(self, tools: Toolbox, ended: list[Deployment | BackoutError]) -> None:
        try:
            ended.append(self._deploy(tools, _MARKER.format(secrets.token_hex(4)) + "one of two"))
        except BackoutError as error:
            ended.append(error)
        except _Wrong as wrong:
            ended.append(BackoutError(str(wrong)))


_TRIALS: Final[tuple[tuple[str, str, Callable[[_Trials], str | None]], ...]] = (
    ("history", "what is live, and what was", _Trials.read),
    ("versions", "what can be made live", _Trials.list_versions),
    ("again", "is making live again what is live a deployment of its own, with its message", _Trials.make_live_again),
    ("message", "how much of a message is kept", _Trials.keep_message),
    ("old look", "is a switch refused that rests on an older look", _Trials.refuse_old_look),
    ("at once", "is exactly one of two switches at the same time made", _Trials.let_one_win),
    ("reached", "can one version be asked by itself", _Trials.reach),
    ("at 0 %", "can a version stand beside what is live without traffic", _Trials.place),
)


def list_trials() -> tuple[tuple[str, str], ...]:
    """Return the name and the question of each, in order."""
    return tuple((name, asks) for name, asks, _ in _TRIALS)


def try_platform(open_tools: Callable[[], Toolbox], tell: Callable[[Trial], None]) -> tuple[Trial, ...]:
    """Ask a platform everything, in order, and return what was found; errors are findings.

    Args:
        open_tools: returns a toolbox of its own, as another operator has it.
        tell: is given each one as it ends.

    Raises:
        Refused: it is another environment than the pinned one.
        PartlyDone: a question failed, and other versions than before have the traffic now.
    """
    tools = open_tools()
    check_identity(tools)
    trials, found = _Trials(open_tools, tools), list[Trial]()
    for name, asks, ask in _TRIALS:
        made = _try(tools, trials, name, asks, ask) if _may_go_on(found) else Trial(name, asks, None, "not tried")
        found.append(made)
        tell(made)
    if not _may_go_on(found):
        trials.put_back()
    return tuple(found)


def has_passed(trials: Sequence[Trial]) -> bool:
    """Whether nothing failed, and all that every platform has was tried."""
    return all(each.passed is not False for each in trials) and all(each.passed for each in trials[:6])


def _list_served(deployment: Deployment) -> list[tuple[str, float]]:
    return sorted((str(each.version), each.percentage) for each in deployment.shares if each.percentage)


def _may_go_on(found: Sequence[Trial]) -> bool:
    return all(each.passed is not False for each in found)


def _try(tools: Toolbox, trials: _Trials, name: str, asks: str, ask: Callable[[_Trials], str | None]) -> Trial:
    begun = tools.clock.now()
    try:
        said = ask(trials)
    except _Wrong as wrong:
        return Trial(name, asks, False, str(wrong), tools.clock.now() - begun)
    except BackoutError as error:
        return Trial(name, asks, False, str(error), tools.clock.now() - begun)
    took_s = tools.clock.now() - begun
    return Trial(name, asks, None if said is None else True, said or "not set up here", took_s)
