"""Notice new deployments of many environments with few calls: one list for all, and a look at each one that changed.

A list that says when each application was deployed costs one call, however many there are, so the calls of one token
are enough for hundreds of environments. What it says is a hint: what is live is read from the application's own
history. And because no hint is trusted alone, each history is read now and then all the same; if it holds what the
list does not, the list is not used any more.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.analysis.history.remarks import list_of_application
from backout.errors import AuthError, BackoutError, ProviderRejected
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backout.model.deployment import Deployment
    from backout.ports import Clock, Deployments, DeploymentTimes

EVERY_S: Final = 10.0
"""How often the list is read."""
SWEEP_S: Final = 900.0
"""Within how long each history is read without a hint."""
_AT_MOST_EVERY_S: Final = 1.0
"""How often such a history is read, where the list is of no use."""
_AGAIN_S: Final = 5.0
"""How soon a history is read again that does not show what the list showed."""
_FOLLOWS_S: Final = 60.0
"""How long one of the two may take to show what the other showed."""
_SAME_S: Final = 1.0
"""How far the times of one deployment may lie apart in the two."""


class Watched(Value, frozen=True):
    """One environment: its name, its application's name at the provider, and its deployments."""

    environment: str
    application: str
    deployments: Deployments


class Noticed(Value, frozen=True):
    """A deployment that became live, and when that was noticed (Unix seconds)."""

    environment: str
    live: Deployment
    at: float


class _Hint(Value, frozen=True):
    """A deployment's time, since when that is known, and when it is looked for again (Unix seconds)."""

    at: float
    since: float
    again_at: float = 0.0


class DeploymentWatcher:
    """Watches the environments of one account.

    Args:
        pace: as that of a toolbox; what is only swept is not read while it says to wait.
        say: tells a person something, in one sentence.

    Attributes:
        uses_list: whether the list is read; once it proved to be of no use, it is not.
        told: what the list told last: when each application was deployed last (Unix seconds).
        told_at: when that was (Unix seconds); before the first answer, minus infinity.
    """

    def __init__(
        self,
        watched: Sequence[Watched],
        times: DeploymentTimes,
        clock: Clock,
        *,
        pace: Callable[[float], float] = lambda every_s: every_s,
        say: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self._times, self._clock, self._pace, self._say = times, clock, pace, say
        self._by_application: dict[str, Watched] = {}
        self._first: dict[str, float] | None = None  # what the list told first, None before that
        self.told: dict[str, float] = {}
        self.told_at = float("-inf")
        self._hints: dict[str, _Hint] = {}  # what the list shows, and the history has to
        self._missing: dict[str, _Hint] = {}  # what the history shows, and the list has to
        self._lives: dict[str, str] = {}
        self._turns: deque[str] = deque()  # whose history was read longest ago comes first
        self._list_at = self._sweep_at = 0.0
        self._begun_at = clock.now()
        self.uses_list = True
        self.watch(watched)

    def watch(self, watched: Sequence[Watched]) -> None:
        """Watch these from now on; what is known of those that stay is kept."""
        self._by_application = {each.application: each for each in watched}
        for known in (self._hints, self._missing, self._lives):
            for gone in known.keys() - self._by_application.keys():
                del known[gone]
        stay = [each for each in self._turns if each in self._by_application]
        self._turns = deque(dict.fromkeys((*stay, *self._by_application)))

    def look(self) -> tuple[Noticed, ...]:
        """Read what is due, and return what became live since it was read last; an answer that is missing is due again.

        To be called about once a second. Nothing that was live at the first look is new.
        """
        now = self._clock.now()
        if self.uses_list and now >= self._list_at:
            self._list_at = now + EVERY_S
            self._read_list(now)
        due = [application for application, hint in self._hints.items() if now >= hint.again_at]
        if not due and now >= self._sweep_at and self._pace(0.0) <= 0:
            self._sweep_at = now + (SWEEP_S / len(self._turns) if self.uses_list else _AT_MOST_EVERY_S)
            due = [self._turns[0]]
        found = [self._read_history(self._by_application[each], now) for each in due]
        return tuple(each for each in found if each is not None)

    def _read_list(self, now: float) -> None:
        try:
            told = self._times.read()
        except (AuthError, ProviderRejected) as error:
            self._leave_list(f"the list of applications is refused ({error.what})")
            return
        except BackoutError:
            self._list_at = now + _AT_MOST_EVERY_S
            return
        self._missing = {name: hint for name, hint in self._missing.items() if told.get(name, 0.0) < hint.at - _SAME_S}
        late = [name for name, hint in self._missing.items() if now - hint.since > _FOLLOWS_S]
        if late:
            self._leave_list(f"the list of applications does not show the newest deployment of {late[0]}")
        if self._first is not None:
            for name in self._by_application.keys() & told.keys():
                if told[name] > self.told.get(name, 0.0):
                    self._hints[name] = _Hint(told[name], now)
        self.told, self.told_at = dict(told), now
        self._first = self.told if self._first is None else self._first

    def _leave_list(self, why: str) -> None:
        self.uses_list = False
        self._say(f"{why}, so each one is asked by itself, and deployments are noticed later")

    def _read_history(self, watched: Watched, now: float) -> Noticed | None:
        application = watched.application
        self._turns.remove(application)
        self._turns.append(application)
        hint = self._hints.get(application)
        if hint is not None:
            self._hints[application] = replace(hint, again_at=now + _AGAIN_S)
        try:
            history = watched.deployments.history()
        except BackoutError:
            return None
        newest = history[0].created_at if history else 0.0
        self._compare(application, newest, now)
        live = next(iter(list_of_application(history)), None)
        if live is None:
            return None
        before = self._lives.get(application)
        self._lives[application] = live.id
        begun_at = (self._first or {}).get(application, self._begun_at)
        is_new = live.created_at > begun_at + _SAME_S if before is None else live.id != before
        return Noticed(watched.environment, live, now) if is_new else None

    def _compare(self, application: str, newest: float, now: float) -> None:
        """Note what the list shows and the history does not, or the other way round."""
        hint = self._hints.get(application)
        if hint is not None and (newest >= hint.at - _SAME_S or now - hint.since > _FOLLOWS_S):
            del self._hints[application]
        if self.uses_list and self._first is not None and newest > self.told.get(application, 0.0) + _SAME_S:
            self._missing.setdefault(application, _Hint(newest, now))
