"""Workers that share an account's environments: what they ask of its API, and how soon a deployment is noticed."""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from scripted_account import BEGIN, Account
from values import replace

from backout.errors import BackoutError
from backout.providers.cloudflare.client import ApiClient
from backout.providers.memory import WorldClock
from backout.providers.retry import Retry
from backout.runbook.guard.deployment_watcher import EVERY_S, SWEEP_S
from backout.runbook.guard.follow import FOLLOW_S
from backout.runbook.guard.next_deployment import Asking
from backout.runbook.worker.account_watch import AGAIN_S, LOOK_S, AccountWatch, Member
from backout.runbook.worker.hints import LIST_HOLDS_S, RESTS_S, Hints
from backout.twin.api.limiter import PERIOD_S
from backout.wiring.worker import ListedAccount

from line import Story
from twin_harness import ACCOUNT, TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from backout.runbook.toolbox import Toolbox

SETTLED_S = 300.0
"""What is asked when workers begin is not what an hour costs."""


def open_listed(account: Account) -> ListedAccount:
    """Return the scripted account as a worker of its own sees it."""
    client = ApiClient(
        "http://127.0.0.1:9/client/v4",
        lambda: TOKEN,
        clock=account.clock,
        connection=account,
        retry=Retry(attempts=1),
    )
    return ListedAccount(client, ACCOUNT, account.clock)


@dataclass
class Loop:
    """An environment's loop between two deployments: how it asks, and what it found."""

    name: str
    hints: Hints
    asking: Asking
    newest: str = ""

    def turn(self) -> str:
        """Return the deployment that is seen for the first time, or ""."""
        try:
            history = self.asking.read()
        except BackoutError:
            return ""
        if not history or history[0].id == self.newest:
            return ""
        self.newest = history[0].id
        return self.newest


@dataclass
class Shift:
    """Workers that guard the environments of an account, each its part.

    Attributes:
        late: how late each deployment was noticed by its own environment's loop, in seconds.
        made: when each deployment was made that was not noticed yet (Unix seconds).
    """

    account: Account
    tools: Toolbox
    workers: int = 1
    late: list[float] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.made: dict[str, float] = {}
        self.watches: list[AccountWatch] = []
        self.loops: dict[str, Loop] = {}
        self._events: list[tuple[float, int, Callable[[], float]]] = []
        self._order = itertools.count()
        for number in range(self.workers):
            self._begin(self.account.names[number :: self.workers], number / self.workers)

    def _begin(self, names: Sequence[str], offset_s: float) -> None:
        clock = self.account.clock
        listed = open_listed(self.account)
        watch = AccountWatch(lambda: listed, clock, self.said.append)
        self.watches.append(watch)
        for at, name in enumerate(names):
            hints = Hints(clock, RESTS_S * (2 + 2 * at / len(names)) / 3)
            tools = replace(
                self.tools, clock=clock, deployments=listed.open_deployments(name), pace=listed.pace, say=str
            )
            self.loops[name] = Loop(name, hints, Asking(tools, FOLLOW_S, hints))
            watch.join(Member(f"env-{name}", name, hints))
            self.add(offset_s + at * FOLLOW_S / len(names), lambda each=self.loops[name]: self._turn(each))
        self.add(offset_s, lambda: self._look(watch))

    def add(self, in_s: float, act: Callable[[], float]) -> None:
        heapq.heappush(self._events, (self.account.clock.now() + in_s, next(self._order), act))

    def _look(self, watch: AccountWatch) -> float:
        watch.look()
        for loop in self.loops.values():
            if loop.hints._event.is_set():
                self._turn(loop)
        return LOOK_S

    def _turn(self, loop: Loop) -> float:
        made_at = self.made.pop(loop.turn(), None)
        if made_at is not None:
            self.late.append(self.account.clock.now() - made_at)
        return FOLLOW_S

    def deploy(self, name: str) -> None:
        self.made[self.account.deploy(name)] = self.account.clock.now()

    def pass_s(self, seconds: float) -> None:
        """Let time pass."""
        clock = self.account.clock
        until = clock.now() + seconds
        while self._events and self._events[0][0] < until:
            at, order, act = heapq.heappop(self._events)
            clock.move_to(max(at, clock.now()))
            heapq.heappush(self._events, (clock.now() + act(), order, act))
        clock.move_to(max(until, clock.now()))

    def count_calls(self, seconds: float) -> float:
        """Return the calls in five minutes, over so many seconds."""
        before = sum(self.account.asked.values())
        self.pass_s(seconds)
        return (sum(self.account.asked.values()) - before) * PERIOD_S / seconds


@pytest.fixture
def tools(quick_path: Path) -> Toolbox:
    return Story(quick_path / "journal.sqlite").tools()


def make_account(count: int) -> Account:
    return Account(WorldClock(BEGIN), [f"w{number}" for number in range(count)])


def expect_calls(environments: int, workers: int) -> float:
    """Return the calls in five minutes without a deployment, as docs/team.md computes them."""
    parts = [len(range(number, environments, workers)) for number in range(workers)]
    alone = sum(part for part in parts if part == 1) * PERIOD_S / FOLLOW_S
    shared = [part for part in parts if part > 1]
    return alone + len(shared) * PERIOD_S / EVERY_S + sum(shared) * PERIOD_S * (1 / SWEEP_S + 1 / RESTS_S)


@pytest.mark.parametrize(("environments", "workers"), [(1, 1), (10, 1), (10, 2), (10, 4), (200, 1), (200, 2), (200, 4)])
def test_calls_of_an_hour_without_a_deployment_are_as_computed(tools: Toolbox, environments: int, workers: int) -> None:
    """The figures of docs/team.md."""
    shift = Shift(make_account(environments), tools, workers)
    shift.pass_s(SETTLED_S)
    calls = shift.count_calls(2 * 3600.0)
    assert calls == pytest.approx(expect_calls(environments, workers), rel=0.1)
    assert shift.account.refused == []


@pytest.mark.parametrize(("environments", "workers", "lag_s"), [(10, 1, 0.0), (200, 2, 0.0), (20, 1, 45.0)])
def test_each_deployment_is_noticed_soon(tools: Toolbox, environments: int, workers: int, lag_s: float) -> None:
    """Whatever only says something (a hold of another machine) is a deployment, too, and its loop reads it as well."""
    account = make_account(environments)
    account.lag_s = lag_s
    shift = Shift(account, tools, workers)
    dice = random.Random(1)  # noqa: S311 - the same hour each time

    def deploy() -> float:
        shift.deploy(dice.choice(account.names))
        return dice.uniform(20.0, 100.0)

    shift.pass_s(SETTLED_S)
    shift.add(0.0, deploy)
    shift.pass_s(3600.0)
    assert len(shift.late) > 40
    assert max(shift.late) <= lag_s + EVERY_S + LOOK_S
    assert [at for at in shift.made.values() if account.clock.now() - at > lag_s + EVERY_S + LOOK_S] == []
    assert account.refused == []
    assert shift.said == []


def test_what_is_deployed_before_the_first_list_is_noticed(tools: Toolbox) -> None:
    """The loops have looked already, and for the list it is not new."""
    shift = Shift(make_account(10), tools)
    for loop in shift.loops.values():
        loop.turn()
    shift.account.clock.sleep(1.0)
    shift.deploy("w3")
    shift.pass_s(FOLLOW_S + LOOK_S)
    assert len(shift.late) == 1


def test_a_noticed_deployment_wakes_its_loop_and_no_other(tools: Toolbox) -> None:
    shift = Shift(make_account(10), tools)
    shift.pass_s(SETTLED_S)
    shift.account.targets.clear()
    shift.deploy("w3")
    before = dict.fromkeys(shift.account.names, 0)
    shift.pass_s(EVERY_S + LOOK_S)
    asked = before | {name: shift.account.targets.count(name) for name in before}
    assert asked.pop("w3") == 2, "the watcher, and the loop"
    assert sum(asked.values()) <= 1, "the turn of one that is read every 15 minutes"


def test_a_refused_list_is_said_once_and_each_loop_asks_for_itself(tools: Toolbox) -> None:
    account = make_account(4)
    account.refuses = True
    shift = Shift(account, tools)
    shift.pass_s(60.0)
    shift.deploy("w2")
    shift.pass_s(FOLLOW_S + LOOK_S)
    assert shift.late
    assert max(shift.late) <= FOLLOW_S
    assert account.asked["GET workers"] == 1
    shift.pass_s(2 * AGAIN_S)
    assert account.asked["GET workers"] == 3
    assert len(shift.said) == 1
    assert "refused" in shift.said[0]
    account.refuses = False
    shift.pass_s(AGAIN_S)
    assert shift.count_calls(900.0) < expect_calls(4, 1) * 1.2


def test_a_list_without_an_answer_is_not_waited_for_longer_than_a_minute(tools: Toolbox) -> None:
    shift = Shift(make_account(4), tools)
    shift.pass_s(SETTLED_S)
    shift.account.tells_times = False
    shift.pass_s(1.0)
    shift.deploy("w2")
    shift.pass_s(LIST_HOLDS_S + EVERY_S + FOLLOW_S)
    assert len(shift.late) == 1


def test_what_a_blind_list_hides_is_found_by_the_turns(tools: Toolbox) -> None:
    account = make_account(4)
    account.blind = True
    shift = Shift(account, tools)
    shift.pass_s(SETTLED_S)
    shift.deploy("w2")
    shift.pass_s(SWEEP_S + LOOK_S)
    assert len(shift.late) == 1
    shift.pass_s(120.0)
    shift.deploy("w1")
    shift.pass_s(FOLLOW_S)
    assert len(shift.late) == 2
    assert len(shift.said) == 1


def test_no_call_is_made_for_an_environment_that_is_not_held_any_more(tools: Toolbox) -> None:
    shift = Shift(make_account(4), tools)
    shift.pass_s(SETTLED_S)
    for name in ("w0", "w1"):
        shift.watches[0].leave(f"env-{name}")
    held = [loop for name, loop in shift.loops.items() if name not in ("w0", "w1")]
    assert not any(shift.loops[name].hints.holds() for name in ("w0", "w1")), "whoever has it next asks at once"
    shift.account.targets.clear()
    for _ in range(2_000):
        shift.watches[0].look()
        shift.account.clock.sleep(LOOK_S)
    assert {"w2", "w3"} <= set(shift.account.targets)
    assert not {"w0", "w1"} & set(shift.account.targets)
    assert all(loop.hints.holds() is False for loop in held), "they were asked too long ago"
    shift.watches[0].leave("env-w2")
    shift.account.targets.clear()
    for _ in range(2_000):
        shift.watches[0].look()
        shift.account.clock.sleep(LOOK_S)
    assert shift.account.targets == [], "a single one asks for itself"


def test_two_hundred_loops_without_a_list_are_refused(tools: Toolbox) -> None:
    """Why the list: the limit is used up, and a rollback may be refused."""
    account = make_account(200)
    account.refuses = True
    shift = Shift(account, tools)
    shift.pass_s(600.0)
    assert account.refused


def test_what_is_found_in_turn_before_the_list_shows_it_wakes_the_loop(tools: Toolbox) -> None:
    account = make_account(2)
    account.lag_s = 2_000.0
    shift = Shift(account, tools)
    account.clock.sleep(2_100.0)
    watch, hints = shift.watches[0], shift.loops["w1"].hints
    for _ in range(5):
        watch.look()
        account.clock.sleep(LOOK_S)
    hints.take()
    account.deploy("w1")
    looks = 0
    while not hints.take():
        watch.look()
        account.clock.sleep(LOOK_S)
        looks += 1
        assert looks <= SWEEP_S
