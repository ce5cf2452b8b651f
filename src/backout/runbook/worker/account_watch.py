"""One list for all environments of an account that a worker guards, so that none of their histories is asked for news.

What this tells an environment's loop are hints (`Hints`): its own look at its history decides. With fewer than two
environments, while the list is refused, and when it is no longer read for any other reason, each loop asks for itself.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, Protocol

from backout.model.value import Value
from backout.runbook.guard.deployment_watcher import DeploymentWatcher, Watched

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.ports import Clock, Deployments, DeploymentTimes
    from backout.runbook.worker.hints import Hints

LOOK_S: Final = 1.0
"""How often what is due is looked at."""
AGAIN_S: Final = 3_600.0
"""How soon a list that was refused, or that showed too little, is tried again."""
_FEWEST: Final = 2
"""For a single environment, the list costs no less than its history."""


class Account(Protocol):
    """An account, as one token reads it."""

    @property
    def times(self) -> DeploymentTimes:
        """The list of its applications."""
        ...

    def open_deployments(self, application: str) -> Deployments:
        """Return the deployments of one of them."""
        ...

    def pace(self, every_s: float) -> float:
        """Return how long to wait between two looks, as that of a toolbox."""
        ...


class Member(Value, frozen=True):
    """An environment that this worker guards: its name, its application's name, and what its loop is told."""

    environment: str
    application: str
    hints: Hints


class AccountWatch:
    """Reads the list of one account while at least two of its environments are guarded here.

    Args:
        account: opened by the first look that needs it.
        say: tells a person something; each sentence once.
    """

    def __init__(self, open_account: Callable[[], Account], clock: Clock, say: Callable[[str], None]) -> None:
        self._open, self._clock, self._say = open_account, clock, say
        self._members: dict[str, Member] = {}
        self._seen: tuple[Member, ...] = ()
        self._account: Account | None = None
        self._watcher: DeploymentWatcher | None = None
        self._said: set[str] = set()
        self._rests_until = float("-inf")
        self._told_at = float("-inf")
        self._lock = threading.Lock()

    def join(self, member: Member) -> int:
        """Watch an environment, too; return how many there are now."""
        with self._lock:
            self._members[member.environment] = member
            return len(self._members)

    def leave(self, environment: str) -> None:
        """Watch an environment no longer: from the next look on, no call is made for it."""
        with self._lock:
            member = self._members.pop(environment, None)
        if member is not None:
            member.hints.note_none()

    def look(self) -> None:
        """Read what is due, and tell each environment whose history holds something new; to be called once a second.

        Raises:
            AuthError: the account cannot be opened without its token.
        """
        with self._lock:
            members = tuple(self._members.values())
        if len(members) < _FEWEST or self._clock.now() < self._rests_until:
            self._tell_none(members)
            return
        watcher = self._find_watcher(members)
        noticed = {each.environment for each in watcher.look()}
        if not watcher.uses_list:
            self._watcher, self._rests_until = None, self._clock.now() + AGAIN_S
            self._tell_none(members)
            return
        is_told = watcher.told_at != self._told_at
        self._told_at = watcher.told_at
        applications = {each.application for each in members if each.environment in noticed}
        for member in members:
            if is_told:
                member.hints.note_list(watcher.told.get(member.application, 0.0))
            if member.application in applications:  # two environments may be one application
                member.hints.wake()

    def _find_watcher(self, members: tuple[Member, ...]) -> DeploymentWatcher:
        account = self._account = self._account or self._open()
        if self._watcher is None:
            self._watcher = DeploymentWatcher((), account.times, self._clock, pace=account.pace, say=self._tell_once)
            self._seen = ()
        if members != self._seen:
            self._seen = members
            watched = (
                Watched(each.environment, each.application, account.open_deployments(each.application))
                for each in members
            )
            self._watcher.watch(tuple(watched))
        return self._watcher

    def _tell_none(self, members: tuple[Member, ...]) -> None:
        for member in members:
            member.hints.note_none()

    def _tell_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._say(text)


class AccountWatches:
    """The watches of all accounts, each in a thread of its own.

    Args:
        say: see `AccountWatch`.
        fail: told what an account's thread met that is no error of the provider's; its environments' loops ask for
            themselves as long.
    """

    def __init__(self, clock: Clock, say: Callable[[str], None], fail: Callable[[Exception], object]) -> None:
        self._clock, self._say, self._fail = clock, say, fail
        self._watches: dict[int, AccountWatch] = {}
        self._threads: dict[int, threading.Thread] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def join(self, account: int, member: Member, open_account: Callable[[], Account]) -> None:
        """Watch an environment with the others of its account.

        Args:
            account: the same number for the same API, account and token.
        """
        with self._lock:
            watch = self._watches.get(account)
            if watch is None:
                watch = self._watches[account] = AccountWatch(open_account, self._clock, self._say)
            if watch.join(member) >= _FEWEST and account not in self._threads and not self._stop.is_set():
                name = f"backout-account-{len(self._threads)}"
                thread = threading.Thread(target=self._run, args=(watch,), name=name, daemon=True)
                self._threads[account] = thread
                thread.start()

    def leave(self, environment: str) -> None:
        """Watch an environment no longer."""
        with self._lock:
            watches = tuple(self._watches.values())
        for watch in watches:
            watch.leave(environment)

    def close(self) -> None:
        """End all threads; a call that is under way is not waited for."""
        self._stop.set()

    def _run(self, watch: AccountWatch) -> None:
        failed = ""
        while not self._stop.wait(LOOK_S):
            try:
                watch.look()
            except Exception as error:  # noqa: BLE001 - the environments go on without it
                if repr(error) != failed:
                    failed = repr(error)
                    self._fail(error)
