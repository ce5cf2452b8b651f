"""Hundreds of environments under one token: a deployment is noticed soon, and no switch is ever refused."""

from __future__ import annotations

import functools
import heapq
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from scripted_account import BEGIN, Account

from backout.config import Environment, load
from backout.errors import ProviderUnavailable
from backout.providers.cloudflare.budget import Budget, Budgets
from backout.providers.cloudflare.client import ApiClient
from backout.providers.cloudflare.deployment_times import CloudflareDeploymentTimes
from backout.providers.cloudflare.deployments import CloudflareDeployments
from backout.providers.memory import WorldClock
from backout.providers.retry import Retry
from backout.runbook.guard.deployment_watcher import EVERY_S, DeploymentWatcher, Noticed, Watched
from backout.twin.api.limiter import CALLS, PERIOD_S
from backout.wiring.platform import make_api

from platform_sides import TwinSide
from twin_harness import ACCOUNT, TOKEN, running_api

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WITHIN_S = 90.0
QUIET, WATCHED = 190, 10


@dataclass
class Process:
    """One process that watches every environment, and acts, with one token."""

    account: Account
    budget: Budget = field(default_factory=Budget)
    said: list[str] = field(default_factory=list)

    def client(self) -> ApiClient:
        """Return a client of its own, as each environment has one."""
        clock, account = self.account.clock, self.account
        made = ApiClient(
            "http://127.0.0.1:9/client/v4", lambda: TOKEN, clock=clock, connection=account, retry=Retry(attempts=1)
        )
        made.budget = self.budget
        return made

    def watcher(self) -> DeploymentWatcher:
        clock = self.account.clock
        watched = [
            Watched(f"env-{name}", name, CloudflareDeployments(self.client(), ACCOUNT, name))
            for name in self.account.names
        ]
        times = CloudflareDeploymentTimes(self.client().make_yielding(), ACCOUNT)
        return DeploymentWatcher(
            watched, times, clock, pace=lambda every_s: self.budget.pace(every_s, clock.now()), say=self.said.append
        )


class Night:
    """What the process and everybody else did; each act returns after how many seconds it is done again.

    Attributes:
        late: how late each deployment was noticed; `gaps`: how old the counts of a watched environment got.
        switches: whether each was made and read back.
    """

    def __init__(self, account: Account, process: Process, *, dashboard_s: float) -> None:
        self._account, self._clock, self._dashboard_s = account, account.clock, dashboard_s
        self._dice = random.Random(1)  # noqa: S311 - the same night each time
        self._watcher, self._acts = process.watcher(), process.client()
        self._telemetry = [process.client().make_yielding() for _ in range(WATCHED)]
        self._counted = [self._clock.now()] * WATCHED
        self._pending: dict[str, float] = {}
        self.late: list[float] = []
        self.gaps: list[float] = []
        self.switches: list[bool] = []

    def pass_s(self, seconds: float) -> None:
        counts = (functools.partial(self.count, number) for number in range(WATCHED))
        acts = (self.look, self.deploy, self.switch, self.browse, *counts)
        begin = self._clock.now()
        events: list[tuple[float, int, Callable[[], float]]] = [
            (begin + 1.0 + order / 100, order, act) for order, act in enumerate(acts)
        ]
        while events[0][0] < begin + seconds:
            at, order, act = events[0]
            self._clock.move_to(at)
            heapq.heapreplace(events, (self._clock.now() + act(), order, act))
        self.late += [late for at in self._pending.values() if (late := self._clock.now() - at) > WITHIN_S]

    def look(self) -> float:
        for seen in self._watcher.look():
            made_at = self._pending.pop(seen.live.id, None)
            if made_at is not None:
                self.late.append(self._clock.now() - made_at)
        return 1.0

    def count(self, number: int) -> float:
        """Read the counts of a watched environment as telemetry does: whole, or not at all."""
        client = self._telemetry[number]
        try:
            with client.hold(6):
                for _ in range(6):
                    client.ask("accounts/a/workers/observability/telemetry/query", {}, object, permission="")
        except ProviderUnavailable:
            return 1.0
        self.gaps.append(self._clock.now() - self._counted[number])
        self._counted[number] = self._clock.now()
        return 7.0

    def deploy(self) -> float:
        """Somebody deploys."""
        self._pending[self._account.deploy(self._dice.choice(self._account.names))] = self._clock.now()
        return self._dice.uniform(5.0, 60.0)

    def switch(self) -> float:
        """What a rollback asks, does and reads back, a dozen calls in one go."""
        port = CloudflareDeployments(self._acts, ACCOUNT, self._dice.choice(self._account.names))
        try:
            for _ in range(5):
                port.history()
            made = port.activate("v-of-before", message="back")
            self.switches.append(all(port.history()[0].id == made.id for _ in range(6)))
        except ProviderUnavailable:
            self.switches.append(False)
        return 97.0

    def browse(self) -> float:
        self._account.call("dashboard")
        return self._dashboard_s


def live_through(account: Account, process: Process, *, for_s: float, dashboard_s: float) -> Night:
    """Let the process watch while others deploy, roll back, and look at the dashboard, on the account's clock."""
    night = Night(account, process, dashboard_s=dashboard_s)
    night.pass_s(for_s)
    return night


def test_of_two_hundred_environments_none_deploys_unnoticed_and_no_switch_is_refused() -> None:
    """190 quiet and 10 watched in one process, a colleague's browser that takes half of the calls, for an hour."""
    account = Account(WorldClock(BEGIN), [f"w{number}" for number in range(QUIET + WATCHED)])
    night = live_through(account, Process(account), for_s=3600.0, dashboard_s=2 * PERIOD_S / CALLS)
    assert len(night.late) > 80
    assert max(night.late) <= WITHIN_S
    assert len(night.switches) > 30
    assert all(night.switches)
    assert account.refused == []
    # The figures of docs/providers.md:
    assert sorted(night.late)[len(night.late) // 2] < 6
    assert max(night.late) < 15
    assert sum(night.gaps) / len(night.gaps) < 55
    assert max(night.gaps) < 70, "each watch gets its turn"
    assert 1200 < sum(number for what, number in account.asked.items() if what != "dashboard") / 4 < 1600


@pytest.mark.parametrize("lag_s", [0.0, 20.0, 45.0])
def test_a_list_that_is_late_is_waited_for(lag_s: float) -> None:
    """It may follow a history as late as a minute."""
    account = Account(WorldClock(BEGIN), [f"w{number}" for number in range(20)], lag_s=lag_s)
    process = Process(account)
    night = live_through(account, process, for_s=900.0, dashboard_s=10.0)
    assert max(night.late) <= lag_s + 2 * EVERY_S
    assert process.said == []


def test_a_list_that_shows_nothing_new_is_not_used_any_more() -> None:
    """Each history is read now and then all the same; what it holds, the list has to show."""
    account = Account(WorldClock(BEGIN), [f"w{number}" for number in range(20)], blind=True)
    process = Process(account)
    watcher = process.watcher()
    look_for(account, watcher, 5.0)
    account.deploy("w7")
    noticed = look_for(account, watcher, 900.0)
    assert [each.environment for each in noticed] == ["env-w7"]
    left = "the list of applications does not show the newest deployment of w7"
    assert process.said == [f"{left}, so each one is asked by itself, and deployments are noticed later"]
    asked = account.asked["GET workers"]
    account.deploy("w8")
    assert [each.environment for each in look_for(account, watcher, 25.0)] == ["env-w8"]
    assert account.asked["GET workers"] == asked


def look_for(account: Account, watcher: DeploymentWatcher, seconds: float) -> list[Noticed]:
    """Look once a second."""
    found: list[Noticed] = []
    for _ in range(int(seconds)):
        found += watcher.look()
        account.clock.sleep(1.0)
    return found


def test_a_deployment_is_told_once_and_what_only_says_something_is_none() -> None:
    account = Account(WorldClock(BEGIN), ["one", "two"])
    watcher = Process(account).watcher()
    assert look_for(account, watcher, 2_000.0) == [], "what was live before is not new"
    account.deploy("two")
    found = look_for(account, watcher, 2_000.0)
    assert [(each.environment, each.live.id, each.at <= BEGIN + 2_000.0 + EVERY_S) for each in found] == [
        ("env-two", "two-1", True)
    ]


def test_while_the_list_has_no_answer_nothing_is_lost() -> None:
    """A block of five minutes: what came meanwhile is noticed behind it."""
    account = Account(WorldClock(BEGIN), ["one", "two"])
    watcher = Process(account).watcher()
    look_for(account, watcher, 5.0)
    for _ in range(CALLS + 1):
        account.call("a script that has gone wild")
    account.deploy("one")
    look_for(account, watcher, PERIOD_S - 10)
    assert [each.live.id for each in look_for(account, watcher, 30.0)] == ["one-1"]


def test_of_many_pages_only_those_with_news_are_read_again() -> None:
    account = Account(WorldClock(BEGIN), [f"w{number}" for number in range(250)])
    times = CloudflareDeploymentTimes(Process(account).client(), ACCOUNT)
    assert len(times.read()) == 250
    first = account.asked["GET workers"]
    account.clock.sleep(60.0)
    account.deploy("w249")
    assert times.read()["w249"] == pytest.approx(BEGIN + 60.0)
    assert account.asked["GET workers"] == first + 1
    for name in account.names[:20]:
        account.clock.sleep(1.0)
        account.deploy(name)
    assert times.read()[account.names[0]] > BEGIN + 60.0
    assert account.asked["GET workers"] == first + 3  # a page of twenty, then one of a hundred
    for name in account.names:
        account.clock.sleep(1.0)
        account.deploy(name)
    assert min(times.read().values()) > BEGIN + 80.0
    assert account.asked["GET workers"] == first + 8


def test_the_list_says_when_each_worker_was_deployed_last(tmp_path: Path) -> None:
    """On the twin: as its history says, whoever deployed, and not when something was only uploaded."""
    with running_api(tmp_path) as api:
        side = TwinSide(api)
        client = ApiClient(f"{api.url}/client/v4", lambda: TOKEN)
        times = CloudflareDeploymentTimes(client, ACCOUNT)
        assert times.read() == {}
        first = side.upload("one")
        api.upload("other")
        assert times.read().keys() == {"fm5", "other"}
        assert times.read()["fm5"] == pytest.approx(side.deployments.history()[0].created_at)
        side.upload("two", deploy=False)
        before = times.read()["fm5"]
        side.deployments.activate(first, message="again")
        assert times.read()["fm5"] == pytest.approx(side.deployments.history()[0].created_at)
        assert times.read()["fm5"] > before
        client.close()


def test_a_list_without_times_is_no_list() -> None:
    """A beta may change."""
    account = Account(WorldClock(BEGIN), ["one"], tells_times=False)
    with pytest.raises(ProviderUnavailable, match="does not say when they were deployed"):
        CloudflareDeploymentTimes(Process(account).client(), ACCOUNT).read()


def test_clients_with_one_token_share_its_budget() -> None:
    budgets = Budgets()
    assert budgets.find("https://a", TOKEN) is budgets.find("https://a", TOKEN)
    assert (
        len({id(budgets.find(*each)) for each in (("https://a", TOKEN), ("https://b", TOKEN), ("https://a", "x"))}) == 3
    )


def test_the_environments_of_one_process_share_the_budget_of_their_token(tmp_path: Path) -> None:
    text = '[app]\nname = "fm5"\n'
    for name in ("one", "two"):
        place = f'provider = "cloudflare", account_id = "{"0" * 32}", script = "{name}"'
        text += f"[environments.{name}]\nplatform = {{ {place} }}\n"
    (tmp_path / "backout.toml").write_text(text, encoding="utf-8")
    variables = [Environment({"CLOUDFLARE_API_TOKEN": f"{TOKEN}-{number}"}) for number in (1, 1, 2)]
    one, two, other = (
        make_api(load(each, start=tmp_path, environment=name), None).reads.budget
        for each, name in zip(variables, ("one", "two", "one"), strict=True)
    )
    assert one is two
    assert one is not other
