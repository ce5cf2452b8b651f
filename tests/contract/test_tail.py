"""Port Traffic on a tail: a server that sends what a test says, and the tail of a real twin with real visitors."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from contract_worker import deploy
from tail_server import event, notice, tail_server

from backout.analysis.diagnosis.templates import Templates
from backout.errors import AuthError, ProviderRejected, ProviderUnavailable
from backout.model.guard.answers import EVERY_CLASS, AnswerClass
from backout.model.guard.signals import TriggerCounts, sum_counts
from backout.providers.cloudflare.client import ApiClient
from backout.providers.cloudflare.logs import TailLogs
from backout.providers.cloudflare.tail import TailTraffic
from backout.providers.memory import WorldClock
from backout.providers.retry import Retry

from polling import PATIENCE_S, until
from scripted_server import refused_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tail_server import TailServer

    from backout.model.guard.signals import CountsPage
    from backout.twin.lifecycle import TwinStatus

NOW = 1_800_000_000
ACCOUNT, TOKEN = "acc0000000000000000000000000000a", "canary-tail-token"

Opened = tuple[TailTraffic, WorldClock]


@pytest.fixture
def server() -> Iterator[TailServer]:
    with tail_server() as running:
        yield running


@pytest.fixture
def opened(server: TailServer) -> Iterator[Callable[..., Opened]]:
    """Open tails that are closed in the end."""
    made: list[TailTraffic] = []

    def opener(url: str = "", most: int = 1000) -> Opened:
        clock = WorldClock(NOW)
        client = ApiClient(url or server.url, lambda: TOKEN, retry=Retry(attempts=1))
        source = TailTraffic(client, ACCOUNT, "fm5", clock=clock, most=most)
        made.append(source)
        return source, clock

    yield opener
    for source in made:
        source.close()


@pytest.mark.parametrize(
    "address",
    [
        "ws://127.0.0.2:9/tail-canary",
        "wss://127.0.0.2:9/tail-canary",
        "ws://localhost.example/tail-canary",
        "http://127.0.0.1:9/tail-canary",
        "ws://user@127.0.0.1:9/tail-canary",
        "ws://127.0.0.1:tail-canary/",
        "ws://[tail-canary/",
        "tail-canary",
        "",
    ],
)
def test_a_tail_elsewhere_is_not_listened_to(server: TailServer, opened: Callable[..., Opened], address: str) -> None:
    """Whatever the API answers: nothing is asked of a place that is not the platform's."""
    server.address = address or "?"
    source, _ = opened()
    with pytest.raises(ProviderUnavailable, match="tail that is not the platform's, or not encrypted") as refused:
        source.read(NOW, NOW + 1)
    assert "canary" not in str(refused.value)
    assert server.hellos == []


def test_where_a_tail_may_be() -> None:
    """Cloudflare's tails, and those of an API's own host, encrypted; in the clear on this machine alone."""
    from backout.providers.cloudflare.tailing import check_address  # noqa: PLC0415 what the commit before did not have
    from backout.providers.exchange import Origin  # noqa: PLC0415 same

    platform, own, here = map(Origin.of, ("https://api.cloudflare.com", "https://api.example", "http://127.0.0.1:8787"))
    told = "wss://tail.developers.workers.dev/id"
    assert [check_address(told, api) for api in (platform, own, here)] == [told] * 3
    assert check_address("wss://api.example:444/id", own)
    assert check_address("wss://tails.api.example/id", own)
    assert check_address("ws://127.0.0.1:8787/id", here)
    wrong = (
        "wss://x.workers.dev/id",
        "ws://tail.developers.workers.dev/id",
        "ws://127.0.0.1/id",
        "wss://xapi.cloudflare.com/",
    )
    for address in wrong:
        with pytest.raises(ProviderUnavailable):
            check_address(address, platform)


def listening(server: TailServer, source: TailTraffic) -> None:
    source.read(NOW, NOW + 1)
    until(lambda: server.sockets, 10, "the tail")


def page_with(source: TailTraffic, want: int, *, upto: int = NOW + 100) -> CountsPage:
    """Return one page over all that was read until that many requests had come, with what any of them said."""
    sampled = False

    def found() -> CountsPage | None:
        nonlocal sampled
        page = source.read(NOW, upto)
        sampled = sampled or page.sampled
        return page if sum_counts(page.counts)[0] >= want else None

    page = until(found, 10, f"{want} requests")
    return type(page)(page.counts, page.complete_until, sampled, page.unreadable)


def page_after_last(source: TailTraffic) -> CountsPage:
    """Return one page over all that was read until the version "last" had answered, with what any of them said."""
    sampled = False

    def found() -> CountsPage | None:
        nonlocal sampled
        page = source.read(NOW, NOW + 100)
        sampled = sampled or page.sampled
        return page if any(row.version == "last" for row in page.counts) else None

    page = until(found, 10, "the last event")
    return type(page)(page.counts, page.complete_until, sampled, page.unreadable)


# --- what a tail may send -------------------------------------------------------------------------------------------


def test_each_event_is_an_answer(server: TailServer, opened: Callable[..., Opened]) -> None:
    """Counted in the second in which it ended; errors by status and by outcome; our probes and alarms not."""
    source, clock = opened()
    listening(server, source)
    clock.sleep(5)
    server.send(
        event("v1", NOW + 2.05),
        event("v1", NOW + 2.5, 500),
        event("v2", NOW + 3, None, "exception"),
        event("v2", NOW + 3, None, "canceled"),
        event("v2", NOW + 3, 404, probe=True),
        {**event("v1", NOW + 3), "event": {"scheduledTime": "2027-01-15T08:00:00.000Z"}},
        event("v2", NOW + 4, 404),
    )
    page = page_with(source, 4)
    rows = {(row.version, row.second): (row.requests, row.errors, row.canceled) for row in page.counts}
    assert rows == {("v1", NOW + 2): (2, 1, 0), ("v2", NOW + 3): (1, 1, 1), ("v2", NOW + 4): (1, 0, 0)}
    assert [sum(waits.values()) for row in page.counts for waits in row.left.values()] == [1]
    assert (page.sampled, page.complete_until) == (False, NOW + 2)
    assert source.traits.may_act
    assert (server.hellos, server.protocols) == (['{"debug":false}'], ["trace-v1"])


def test_streams_and_durable_objects_are_no_errors_of_a_version(
    server: TailServer, opened: Callable[..., Opened]
) -> None:
    """A stream that ends early counts neither way; an object runs older code, and throws while that is replaced."""
    source, clock = opened()
    listening(server, source)
    clock.sleep(5)
    server.send(
        event("v2", NOW + 2),
        event("v2", NOW + 2, 200, "responseStreamDisconnected"),
        event("v2", NOW + 2, None, "exception", model="durableObject"),
        event("last", NOW + 3),
    )
    page = page_after_last(source)
    rows = {row.version: (row.requests, row.errors, row.canceled) for row in page.counts}
    assert rows == {"v2": (1, 0, 1), "last": (1, 0, 0)}


def test_schedules_and_queues_are_counted_beside_requests(server: TailServer, opened: Callable[..., Opened]) -> None:
    """By their names and outcomes; they are no requests, and one alone makes a row."""
    source, clock = opened()
    listening(server, source)
    clock.sleep(5)
    cron, queue = {"cron": "*/5 * * * *", "scheduledTime": 1}, {"queue": "orders", "batchSize": 3}
    server.send(
        {**event("v1", NOW + 2), "event": cron},
        {**event("v1", NOW + 2, outcome="exception"), "event": cron},
        {**event("v2", NOW + 3, outcome="exceededCpu"), "event": queue},
        event("v1", NOW + 4, 404, url="https://x/app/7?utm_source=x", method="POST"),
        event("v1", NOW + 4, 200, url="https://x/app/7?utm_source=x", method="POST"),
        event("v1", NOW + 4, 404, url="https://x/app/8", method="POST"),
    )
    page = page_with(source, 3)
    triggers = {(row.version, row.second): row.triggers for row in page.counts if row.triggers}
    assert triggers == {
        ("v1", NOW + 2): {"cron */5 * * * *": TriggerCounts(2, 1)},
        ("v2", NOW + 3): {"queue orders": TriggerCounts(1, 1)},
    }
    (row,) = [row for row in page.counts if row.second == NOW + 4]
    assert (row.requests, row.classes) == (3, {AnswerClass.NOT_FOUND: 2})
    assert {name: (each.requests, dict(each.classes)) for name, each in row.routes.items()} == {
        "other": (1, {AnswerClass.NOT_FOUND: 1}),
        "POST /app/{id}": (2, {AnswerClass.NOT_FOUND: 1}),
    }
    assert source.traits.has_triggers
    assert source.traits.classes == EVERY_CLASS


def test_a_visitor_who_names_the_version_is_no_evidence(server: TailServer, opened: Callable[..., Opened]) -> None:
    """An override is left out at all times, a key or a cohort only where it is asked for; both are counted apart."""
    source, clock = opened()
    listening(server, source)
    clock.sleep(5)
    override = {"cloudflare-workers-version-overrides": 'fm5="v2"'}
    server.send(
        event("v2", NOW + 2, 500, headers=override),
        event("v2", NOW + 2, 500, headers={"Cloudflare-Workers-Version-Overrides": "nonsense"}),
        event("v2", NOW + 2, 500, headers={"cloudflare-workers-version-key": "REDACTED"}),
        event("v2", NOW + 2, None, "canceled", headers={"cloudflare-workers-version-key": "REDACTED"}),
        event("v2", NOW + 3, 200, headers={"cloudflare-workers-cohort": "staff"}),
        event("v2", NOW + 2, 404),
        event("v1", NOW + 2),
    )

    def told() -> dict[tuple[str, int], tuple[int, int, int, int]]:
        rows = source.read(NOW, NOW + 9).counts
        return {(row.version, row.second): (row.requests, row.errors, row.canceled, row.chosen) for row in rows}

    page_with(source, 4)
    plain = {("v1", NOW + 2): (1, 0, 0, 0), ("v2", NOW + 2): (2, 1, 1, 2), ("v2", NOW + 3): (1, 0, 0, 0)}
    assert told() == plain
    source.count_keyed(wanted=False)
    assert told() == {**plain, ("v2", NOW + 2): (1, 0, 0, 4), ("v2", NOW + 3): (0, 0, 0, 1)}
    (row,) = [row for row in source.read(NOW, NOW + 9).counts if row.version == "v2" and row.second == NOW + 2]
    assert sum(route.requests for route in row.routes.values()) == 1
    source.count_keyed(wanted=True)
    assert told() == plain
    assert source.traits.has_choice


def test_a_tail_has_no_past(server: TailServer, opened: Callable[..., Opened]) -> None:
    """What was before it is not known, rather than quiet."""
    source, _ = opened()
    listening(server, source)
    assert source.read(NOW - 3600, NOW).complete_until == NOW - 3600


@pytest.mark.parametrize("said", ["overload", "overload-stop"])
def test_a_tail_that_leaves_out_events_tells_estimates(
    server: TailServer, opened: Callable[..., Opened], said: str
) -> None:
    """From the page in which it says so, until it says that it stopped."""
    source, clock = opened()
    listening(server, source)
    clock.sleep(5)
    server.send(event("v1", NOW + 2), notice(said), event("v1", NOW + 2))
    assert page_with(source, 2).sampled
    server.send(event("v1", NOW + 3))
    assert page_with(source, 3).sampled is (said == "overload")
    server.send(notice("overload-stop"), event("v1", NOW + 3))
    assert page_with(source, 4).sampled
    server.send(event("v1", NOW + 3))
    assert not page_with(source, 5).sampled


def test_what_nobody_read_in_time_is_missed(server: TailServer, opened: Callable[..., Opened]) -> None:
    """The queue is bounded; a page after a loss says so once."""
    source, clock = opened(most=3)
    listening(server, source)
    clock.sleep(5)
    server.send(*[event("v1", NOW + 2)] * 50)
    until(lambda: source.read(NOW, NOW + 9).sampled, 10, "the loss")

    def next_one() -> bool:
        server.send(event("v2", NOW + 3))  # the others may still be on their way, and leave no room for it
        return any(row.version == "v2" for row in source.read(NOW, NOW + 9).counts)

    until(next_one, 10, "the next event")
    until(lambda: not source.read(NOW, NOW + 9).sampled, 10, "a page that misses nothing")


def test_a_connection_that_breaks_is_opened_again(server: TailServer, opened: Callable[..., Opened]) -> None:
    """Meanwhile it is unavailable; what happened meanwhile was not seen, so the first page is an estimate."""
    source, clock = opened()
    listening(server, source)
    clock.sleep(5)
    server.send(event("v1", NOW + 2))
    page_with(source, 1)
    server.hang_up()

    def broken() -> bool:
        try:
            source.read(NOW, NOW + 9)
        except ProviderUnavailable:
            return True
        return False

    until(broken, 10, "the break", every_s=0.005)
    until(lambda: not broken(), 10, "the next connection")
    until(lambda: len(server.hellos) == 2 and len(server.sockets) == 1, 10, "the next connection there")
    assert server.opened == 2
    server.send(event("v1", NOW + 3))
    assert sum_counts(page_with(source, 2).counts) == (2, 0)


def test_no_tail_is_left_behind(server: TailServer, opened: Callable[..., Opened]) -> None:
    """A Worker can have ten: each is deleted, the one whose connection broke and the last one."""
    source, _ = opened()
    listening(server, source)
    assert server.there == {"t-1"}
    server.hang_up()
    until(lambda: server.there == {"t-2"}, 10, "another tail, and the first one deleted")
    source.close()
    assert server.there == set()


@pytest.mark.parametrize("address", ["", "ws://127.0.0.2:9/tail-canary"])
def test_a_tail_that_cannot_be_used_is_deleted_too(
    server: TailServer, opened: Callable[..., Opened], address: str
) -> None:
    """It leads elsewhere; or it cannot be deleted, which is no reason for anything else to fail."""
    server.address, server.stays = address, not address
    source, _ = opened()
    if address:
        with pytest.raises(ProviderUnavailable):
            source.read(NOW, NOW + 1)
        assert server.there == set()
    else:
        listening(server, source)
        source.close()
        assert server.there == {"t-1"}


def test_a_process_that_ends_deletes_its_tail(server: TailServer) -> None:
    """Nobody closes it: `backout status` looks, and ends."""
    script = (
        "import sys, time\n"
        "from backout.providers.cloudflare.client import ApiClient\n"
        "from backout.providers.cloudflare.tail import TailTraffic\n"
        "source = TailTraffic(ApiClient(sys.argv[1], lambda: 't' * 40), 'a' * 32, 'fm5')\n"
        "source.read(int(time.time()), int(time.time()) + 1)\n"
        "print('listens')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, server.url], capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "listens\n", "")
    assert (server.opened, server.there) == (1, set())


SAID = {
    "a number that no counter has": '{"qty": 100000000000000000000}',
    "a hundred brackets": "[" * 101 + "]" * 101,
    "thousands of brackets": '{"a":' * 20_000 + "1" + "}" * 20_000,
    "a lone surrogate": '"\\ud800"',
    "a number of five thousand digits": "9" * 5000,
    "all of them in strings": '"[[[[\\\\ud800 100000000000000000000"',
}


@pytest.mark.parametrize("said", SAID.values(), ids=SAID.keys())
def test_what_a_visitor_has_the_worker_log_disarms_nothing(
    server: TailServer, opened: Callable[..., Opened], said: str
) -> None:
    """A request counts with its status, whatever stands in its log; and its log can be read."""
    source, clock = opened()
    listening(server, source)
    clock.sleep(5)

    def logging(status: int) -> str:
        logged = [{"message": ["it failed", 7], "level": "error"}]
        whole = {**event("v1", NOW + 2, status), "exceptions": [], "logs": logged}
        return json.dumps(whole).replace("7]", f"{said}]")

    server.send(logging(200), logging(500), event("last", NOW + 2))
    page = page_after_last(source)
    assert sum_counts(page.counts) == (3, 1)
    assert not page.sampled
    assert page.unreadable == {}
    logs = TailLogs(source, Templates(str)).read(NOW, NOW + 9).counts
    assert (sum(each.errors for each in logs.by_version.values()), dict(logs.unreadable)) == (1, {})
    assert any("it failed" in each.sample for each in logs.templates)


def test_an_event_that_cannot_be_read_is_no_sign_that_others_are_missing(
    server: TailServer, opened: Callable[..., Opened]
) -> None:
    """It is counted among what cannot be counted, and the counts beside it stay exact."""
    source, clock = opened()
    listening(server, source)
    clock.sleep(5)
    server.send('{"outcome": 7}', event("v1", NOW + 2))
    page = page_with(source, 1)
    assert not page.sampled
    assert page.unreadable == {"an event of the tail in another shape": 1}


def test_looking_at_its_logs_hides_no_loss_from_guard(server: TailServer, opened: Callable[..., Opened]) -> None:
    """Whoever takes in the notice that events are left out, the next page of counts says so, and so do the logs."""
    source, clock = opened()
    listening(server, source)
    clock.sleep(5)
    server.send(notice("overload"), notice("overload-stop"), event("last", NOW + 2, 500))
    logs = TailLogs(source, Templates(str))
    told = until(lambda: found if (found := logs.read(NOW, NOW + 9).counts).by_version else None, 10, "all events")
    assert told.sampled
    assert source.read(NOW, NOW + 9).sampled
    assert not source.read(NOW, NOW + 9).sampled
    assert not logs.read(NOW, NOW + 9).counts.sampled


def test_odd_events_are_counted_and_named(server: TailServer, opened: Callable[..., Opened]) -> None:
    """Whatever the shape, the next one counts."""
    source, clock = opened()
    listening(server, source)
    clock.sleep(5)
    nobody = {**event("v1", NOW + 2), "scriptVersion": None}
    server.send("{", '{"event": 7}', nobody, {"outcome": "ok"}, "[]", event("v1", NOW + 2))
    page = page_with(source, 1)
    assert page.unreadable == {
        "an event of the tail in another shape": 3,
        "an event of the tail without a version or a time": 1,
    }


def test_events_that_come_late_make_it_slow(server: TailServer, opened: Callable[..., Opened]) -> None:
    """Then it is advice."""
    source, clock = opened()
    listening(server, source)
    clock.sleep(60)
    server.send(event("v1", NOW + 5))
    page_with(source, 1)
    assert source.traits.lag_s == pytest.approx(54, abs=0.2)
    assert not source.traits.may_act


@pytest.mark.parametrize(("status", "kind"), [(403, AuthError), (404, ProviderRejected), (503, ProviderUnavailable)])
def test_a_tail_that_is_refused(
    server: TailServer, opened: Callable[..., Opened], status: int, kind: type[Exception]
) -> None:
    """In the words of every other call, and at once."""
    server.refuse = status
    source, _ = opened()
    for _ in range(2):
        with pytest.raises(kind) as caught:
            source.read(NOW, NOW + 1)
        assert TOKEN not in str(caught.value)


def test_nobody_there(opened: Callable[..., Opened]) -> None:
    """The API is not reached."""
    source, _ = opened(refused_url() + "/client/v4")
    with pytest.raises(ProviderUnavailable):
        source.read(NOW, NOW + 1)
    source.close()
    source.close()


# --- a real twin ----------------------------------------------------------------------------------------------------


def test_the_tail_of_a_real_twin_counts_what_visitors_got(twin: TwinStatus) -> None:
    """Every answer once, as its router counts them."""
    worker = deploy(twin, "contract-tail")
    source = TailTraffic(ApiClient(worker.api_base_url, lambda: worker.token), worker.account_id, worker.script)
    try:
        begun = int(time.time())
        source.read(begun, begun + 1)

        def seen() -> bool:
            worker.visit("/")
            return bool(source.read(begun, int(time.time()) + 1).counts)

        until(seen, 15, "the first event")  # the switch to all events takes a moment to reach the worker
        before = settled(source, begun)
        for path in ["/"] * 12 + ["/bad"] * 3 + ["/boom"] * 2:
            worker.visit(path)
        worker.visit("/bad", **{"x-backout-probe": "1"})
        until(lambda: sum_counts(source.read(begun, int(time.time()) + 1).counts)[1] >= 5, 10, "the errors")
        requests, errors = settled(source, begun)
        assert (requests - before[0], errors) == (17, 5)
        assert {row.version for row in source.read(begun, int(time.time()) + 1).counts} == {worker.version}
        assert source.traits.may_act
    finally:
        source.close()


def settled(source: TailTraffic, begun: int) -> tuple[int, int]:
    """Return (requests, errors) when no more came for half a second."""
    last, since = (-1, -1), time.monotonic()

    def still() -> bool:
        nonlocal last, since
        now = sum_counts(source.read(begun, int(time.time()) + 1).counts)
        if now != last:
            last, since = now, time.monotonic()
        return time.monotonic() - since > 0.5

    until(still, 15, "silence")
    return last
