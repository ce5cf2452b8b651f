"""The API's limit of calls, as documented: whoever looks leaves enough of them for a switch."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import pytest

from backout.errors import ProviderUnavailable
from backout.providers.cloudflare.budget import RESERVE, Budget
from backout.providers.cloudflare.client import ApiClient
from backout.providers.cloudflare.telemetry import TelemetryTraffic
from backout.providers.memory import WorldClock
from backout.providers.retry import Retry
from backout.twin.api.limiter import CALLS, PERIOD_S, Limiter

from scripted_server import answer, scripted_server
from twin_harness import TOKEN, running_api

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scripted_server import ScriptedServer

NOTHING = {"success": True, "errors": [], "messages": [], "result": None}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as running:
        yield running


def make_client(url: str, clock: WorldClock) -> ApiClient:
    return ApiClient(f"{url}/client/v4", lambda: TOKEN, clock=clock, retry=Retry(attempts=1))


def test_what_looks_makes_no_call_of_those_that_are_left_for_a_switch(server: ScriptedServer) -> None:
    """Until the period is over; the switch itself is made, on the same connection."""
    clock = WorldClock(1000.0)
    acts = make_client(server.url, clock)
    looks = acts.make_yielding()
    server.will(answer(NOTHING, Ratelimit=f'"default";r={RESERVE};t=40'))
    looks.get("x", object, permission="Read")
    with pytest.raises(ProviderUnavailable, match="allows 60 more calls in the next 40 s, which are left for a rollba"):
        looks.get("x", object, permission="Read")
    acts.get("x", object, permission="Read")
    assert len(server.asked) == 2
    clock.sleep(41)
    looks.get("x", object, permission="Read")
    assert len(server.asked) == 3


@pytest.mark.parametrize("header", ["", "r=1", '"default"', '"a";r=x;t=1', "\x00", '"a";r=99999999999999999999;t=1'])
def test_a_header_that_says_nothing_limits_nothing(header: str) -> None:
    budget = Budget()
    budget.note(header, 0.0)
    assert budget.left(0.0) is None
    assert budget.pace(0.5, 0.0) == 0.5


def test_of_several_limits_the_nearest_counts() -> None:
    budget = Budget()
    budget.note('"burst";r=900;t=5, "default";r=70;t=100', 0.0)
    assert budget.left(10.0) == (70, 90.0)
    assert budget.pace(5.0, 10.0) == 90.0


def test_no_answer_stops_what_looks_for_longer_than_a_period() -> None:
    budget = Budget()
    budget.note('"default";r=0;t=999999999', 0.0)
    assert budget.pace(1.0, 0.0) == PERIOD_S
    assert budget.left(PERIOD_S) is None
    budget.note_blocked(86_400.0, 0.0)
    assert budget.pace(1.0, 0.0) == PERIOD_S


def test_the_twin_limits_as_documented_while_that_fault_is_on(tmp_path: Path) -> None:
    """And says so in each answer."""
    with running_api(tmp_path) as api:
        api.upload("fm5")
        assert all("r=1200" in api.call("GET", "fm5/settings").headers["Ratelimit"] for _ in range(2))
        api.call("PUT", "/twin/v1/faults", {"kind": "api-limit"})
        told = [api.call("GET", "fm5/settings").headers["Ratelimit"] for _ in range(2)]
        assert [each.split(";")[1] for each in told] == [f"r={CALLS - 1}", f"r={CALLS - 2}"]


def test_the_counts_are_asked_for_whole_or_not_at_all(server: ScriptedServer) -> None:
    """A reading of six queries that ends after two has cost another watch its turn, and counted nothing."""
    clock = WorldClock(1000.0)
    client = make_client(server.url, clock).make_yielding()
    counts = {"success": True, "errors": [], "messages": [], "result": {"calculations": []}}
    server.will(answer(counts, Ratelimit='"default";r=842;t=200'))  # the line is at 840
    source = TelemetryTraffic(client, "account", "fm5", clock=clock)
    with pytest.raises(
        ProviderUnavailable, match="allows 842 more calls in the next 200 s, which are left for a rollb"
    ):
        source.read(800, 900)
    assert [asked.method for asked in server.asked] == ["GET"], "the settings, and no query"
    clock.sleep(10.0)
    source.read(800, 900)
    assert len(server.asked) == 4, "three queries about nothing"


def test_several_that_look_take_turns() -> None:
    """Who asked first is first, however few calls another one needs; who asks no more is not waited for."""
    budget = Budget()
    budget.note('"default";r=120;t=300', 0.0)  # nothing for who looks before the next period
    one, two, three = 1, 2, 3
    assert not budget.take_turn(one, 6, 0.0)
    assert not budget.take_turn(two, 1, 1.0)
    budget.note('"default";r=1188;t=296', 4.0)
    assert not budget.take_turn(two, 1, 4.0), "one is first"
    assert budget.take_turn(three, 3, 5.0, first=True), "what notices deployments"
    assert not budget.take_turn(one, 6, 5.0), "three calls are held"
    budget.end_turn(3)
    assert budget.take_turn(one, 6, 6.0)
    budget.end_turn(6)
    assert not budget.take_turn(three, 200, 6.0, first=True)
    assert not budget.take_turn(two, 1, 7.0)
    assert budget.take_turn(two, 1, 40.0), "three has gone"


class _Account:
    """An account whose calls are limited, and everybody who calls."""

    def __init__(self) -> None:
        self.limiter = Limiter(CALLS)
        self.refused: list[float] = []

    def call(self, now: float, budget: Budget | None = None) -> None:
        if (wait_s := self.limiter.take(now)) > 0:
            self.refused.append(now)
            if budget is not None:
                budget.note_blocked(wait_s, now)
        elif budget is not None:
            budget.note(self.limiter.headers(now)["Ratelimit"], now)


@pytest.mark.parametrize("waiting", [1, 2, 5, 20, 40])
def test_however_many_wait_for_a_deployment_a_switch_is_never_refused(waiting: int) -> None:
    """Two looks a second each, a telemetry watch of seven calls in 15 s for every third, and a colleague's browser."""
    account, switches = _Account(), []
    events = [(float(number) / waiting, number) for number in range(waiting)]
    budgets, looked, late = [Budget() for _ in range(waiting)], [0.0] * waiting, 0.0
    heapq.heapify(events)
    at, dashboard, switch = 0.0, 0.0, 100.0
    while at < 4 * PERIOD_S:
        at, number = heapq.heappop(events)
        while dashboard <= at:  # 600 calls in five minutes
            account.call(dashboard)
            dashboard += 0.5
        if at >= switch:  # what a rollback asks and does, at the worst moment: at the end of a period too
            before = len(account.refused)
            for _ in range(12):
                account.call(at)
            switches.append(len(account.refused) == before)
            switch += 97.0
        budget, watches = budgets[number], number % 3 == 0
        for _ in range(7 if watches else 1):
            if budget.wait_s(at) == 0:
                account.call(at, budget)
                looked[number] = at
        late = max(late, at - looked[number])
        heapq.heappush(events, (at + budget.pace(15.0 if watches else 0.5, at), number))
    assert len(switches) >= 10
    assert all(switches), account.refused[:3]
    assert late <= 90, "a deployment is noticed within 90 s"
