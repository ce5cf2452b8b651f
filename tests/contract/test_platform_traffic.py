"""Port Traffic on what the platform tells late: the telemetry query and the GraphQL analytics, both on the twin."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from scripted_telemetry import EVENT, MODEL, OUTCOME, PROBE, TRIGGER, TelemetryApi, invoked

from backout.analysis.detector.unseen import list_unseen
from backout.errors import ProviderRejected, ProviderUnavailable
from backout.model.guard.answers import AnswerClass
from backout.model.guard.signals import sum_counts
from backout.providers.cloudflare.analytics import AnalyticsTraffic
from backout.providers.cloudflare.client import ApiClient
from backout.providers.cloudflare.telemetry import TelemetryTraffic
from backout.providers.memory import WorldClock
from backout.providers.retry import Retry
from backout.twin.dataplane.counts import RouteRow, Row

from scripted_server import answer, scripted_server
from twin_harness import ACCOUNT, TOKEN, running_api

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from backout.ports import Traffic

    from scripted_server import ScriptedServer
    from twin_harness import Api

    Source = Callable[..., Traffic]

SOURCES: list[Any] = [TelemetryTraffic, AnalyticsTraffic]
OLD = 3600
"""How long ago the requests of these tests were: the newest minutes are not told yet."""


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with running_api(tmp_path) as running:
        yield running


def client(url: str) -> ApiClient:
    return ApiClient(url, lambda: TOKEN, retry=Retry(attempts=1))


def twin(api: Api, kind: Source, account: str = ACCOUNT) -> Traffic:
    return kind(client(f"{api.url}/client/v4"), account, "fm5")


def second(version: str, at: int, **outcomes: int) -> Row:
    """Return a second of the router: `ok` answers, of which `bad` with a status of 500, and others by outcome."""
    bad, ok = outcomes.pop("bad", 0), outcomes.pop("ok", 0)
    canceled = outcomes.get("canceled", 0)
    thrown = sum(outcomes.values()) - canceled
    return Row(
        version,
        at,
        requests=ok + canceled + thrown,
        errors=bad + thrown,
        canceled=canceled,
        statuses={200: ok - bad, 500: bad + thrown, 499: canceled},
        by_outcome={"ok": ok, **outcomes},
    )


@pytest.mark.parametrize("kind", SOURCES)
def test_counts_are_by_version_and_second(api: Api, kind: Source) -> None:
    """Seconds are half open, gaps are no rows, canceled requests are none; all of it is marked as estimates."""
    begun = int(time.time()) - OLD
    api.data_plane.rows["fm5"] = [
        second("v1", begun - 1, ok=1),
        second("v1", begun, ok=10, exception=2, canceled=3),
        second("v2", begun, ok=4, exceededCpu=1),
        second("v1", begun + 5, ok=7),
        second("v1", begun + 9, ok=1),
    ]
    page = twin(api, kind).read(begun, begun + 9)
    rows = [(row.version, row.second, row.requests, row.errors, row.canceled) for row in page.counts]
    assert rows == [("v1", begun, 12, 2, 3), ("v2", begun, 5, 1, 0), ("v1", begun + 5, 7, 0, 0)]
    assert page.sampled
    assert all(row.latency == {} for row in page.counts)


@pytest.mark.parametrize("kind", SOURCES)
def test_it_is_advice(api: Api, kind: Source) -> None:
    """By what each says of itself, before anything was asked."""
    assert not twin(api, kind).traits.may_act


def test_an_answer_of_500_is_a_success_in_graphql_alone(api: Api) -> None:
    """What the Worker returned properly; the telemetry knows the status."""
    begun = int(time.time()) - OLD
    api.data_plane.rows["fm5"] = [second("v1", begun, ok=10, bad=4)]
    assert sum_counts(twin(api, AnalyticsTraffic).read(begun, begun + 1).counts) == (10, 0)
    assert sum_counts(twin(api, TelemetryTraffic).read(begun, begun + 1).counts) == (10, 4)


def test_classes_come_from_statuses_which_graphql_does_not_have(api: Api) -> None:
    """And it says so; neither tells methods, or what began."""
    begun = int(time.time()) - OLD
    row = second("v1", begun, ok=10, exception=2)
    row.statuses = {200: 5, 404: 3, 302: 2, 500: 2}
    api.data_plane.rows["fm5"] = [row]
    (found,) = twin(api, TelemetryTraffic).read(begun, begun + 1).counts
    assert (found.requests, found.errors) == (12, 2)
    assert found.classes == {AnswerClass.NOT_FOUND: 3, AnswerClass.REDIRECT: 2}
    (found,) = twin(api, AnalyticsTraffic).read(begun, begun + 1).counts
    assert found.classes == {}
    blind = [sight.name for sight in list_unseen(twin(api, TelemetryTraffic).traits)]
    assert blind == ["started", "sizes", "choice"]
    assert [sight.name for sight in list_unseen(twin(api, AnalyticsTraffic).traits)] == [
        "statuses",
        "classes",
        "kinds",
        "methods",
        *blind[:2],
        "triggers",
        "choice",
    ]


@pytest.mark.parametrize("kind", SOURCES)
def test_what_may_still_come_is_not_told(api: Api, kind: Source) -> None:
    """Neither a count of the newest seconds nor that they were quiet."""
    source, now = twin(api, kind), int(time.time())
    lag_s = source.traits.lag_s
    api.data_plane.rows["fm5"] = [second("v1", at, ok=1) for at in range(now - 400, now)]
    page = source.read(now - 400, now + 1)
    assert now - lag_s - 2 < page.complete_until <= time.time() - lag_s
    assert max(row.second for row in page.counts) == page.complete_until - 1
    assert len(page.counts) == page.complete_until - (now - 400)
    assert source.read(now - 10, now).counts == ()


@pytest.mark.parametrize("kind", SOURCES)
def test_busy_seconds_are_sampled(api: Api, kind: Source) -> None:
    """Few errors among many requests may be missing, or be ten."""
    begun = int(time.time()) - OLD
    busy = [second("v1", begun, ok=1004, exception=4), second("v1", begun + 1, ok=206, exception=6)]
    api.data_plane.rows["fm5"] = busy
    page = twin(api, kind).read(begun, begun + 2)
    assert [(row.requests, row.errors) for row in page.counts] == [(1000, 0), (220, 10)]


def test_over_an_hour_telemetry_tells_buckets(api: Api) -> None:
    """None is lost, and none is told twice."""
    begun = int(time.time()) - 2 * OLD
    api.data_plane.rows["fm5"] = [second("v1", at, ok=1) for at in range(begun, begun + OLD)]
    counts = twin(api, TelemetryTraffic).read(begun, begun + OLD).counts
    assert sum_counts(counts) == (OLD, 0)
    assert len(counts) == 600


def test_graphql_pages_by_seconds() -> None:
    """A full answer is followed by a question from its last second on, which is taken from there alone."""
    full = [group(1000 + number // 20, "v1", 1) for number in range(10_000)]
    with scripted_server() as server:
        server.will(answer(graphql(full)), answer(graphql([group(1499, "v1", 9), group(1600, "v1", 2)])))
        source = AnalyticsTraffic(client(server.url), ACCOUNT, "fm5", clock=WorldClock(10_000))
        counts = source.read(1000, 2000).counts
    assert sum_counts(counts) == (499 * 20 + 9 + 2, 0)
    assert len(server.asked) == 2
    assert b'"since":"1970-01-01T00:24:59Z"' in server.asked[1].body


def group(at: int, version: str, requests: int) -> object:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
    dimensions = {"datetime": stamp, "scriptVersion": version, "status": "success"}
    return {"sum": {"requests": requests, "errors": 0}, "dimensions": dimensions}


def graphql(groups: list[object]) -> object:
    return {"data": {"viewer": {"accounts": [{"workersInvocationsAdaptive": groups}]}}, "errors": None}


def test_what_graphql_refuses_is_said_in_its_words(api: Api) -> None:
    """It answers 200 and names its errors."""
    with pytest.raises(ProviderRejected, match="not authorized for that account"):
        twin(api, AnalyticsTraffic, "somebody-elses").read(0, 1)


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("step", [answer({}, 500), answer(b"<html>")])
def test_trouble_is_asked_again(kind: Source, step: object) -> None:
    """A question changes nothing, though it is a POST: it may be repeated, and nobody wonders what it did."""
    with scripted_server() as server:
        server.will(step)  # type: ignore[arg-type]
        asking = ApiClient(server.url, lambda: TOKEN, retry=Retry(attempts=2, first_wait_s=0.001))
        with pytest.raises(ProviderUnavailable) as caught:
            kind(asking, ACCOUNT, "fm5", clock=WorldClock(10_000)).read(1000, 1001)
        assert "unknown whether" not in str(caught.value)
        assert len(server.asked) == 2


@pytest.mark.parametrize("kind", SOURCES)
def test_another_shape_is_unavailable(kind: Source) -> None:
    """Said as that."""
    with scripted_server() as server:
        server.will(answer({"success": True, "result": 7, "data": 7}))
        with pytest.raises(ProviderUnavailable, match="expected shape"):
            kind(client(server.url), ACCOUNT, "fm5", clock=WorldClock(10_000)).read(1000, 1001)


@pytest.fixture
def source(server: ScriptedServer) -> TelemetryTraffic:
    return TelemetryTraffic(client(server.url), ACCOUNT, "fm5", clock=WorldClock(10_000.0))


def refused(what: str) -> dict[str, object]:
    return {"success": False, "errors": [{"code": 7400, "message": what}], "messages": [], "result": None}


def test_telemetry_tells_methods_routes_and_schedules(cloud: TelemetryApi, source: TelemetryTraffic) -> None:
    """One question says how many there were, another whose they are; alarms are no requests."""
    cloud.invocations = invoked(
        9000,
        ("v1", "ok", 200, "fetch", "GET /api/orders/4711", 5),
        ("v1", "ok", 200, "fetch", "GET /api/orders/4712", 3),
        ("v1", "ok", 500, "fetch", "POST /api/orders", 2),
        ("v1", "ok", 404, "fetch", "GET /wp-login.php", 3),
        ("v1", "exception", None, "scheduled", "*/10 * * * *", 1),
        ("v1", "ok", None, "scheduled", "*/10 * * * *", 2),
        ("v1", "exception", None, "alarm", 7),
    )
    (row,) = source.read(9000, 9001).counts
    assert (row.requests, row.errors, row.classes) == (13, 2, {AnswerClass.NOT_FOUND: 3})
    orders = {name: (each.requests, each.errors) for name, each in row.routes.items()}
    assert orders == {"GET /api/orders/{id}": (8, 0), "POST /api/orders": (2, 2), "other": (3, 0)}
    assert {name: (each.runs, each.failed) for name, each in row.triggers.items()} == {"cron */10 * * * *": (3, 1)}


def test_exceptions_have_no_status_and_are_counted(cloud: TelemetryApi, source: TelemetryTraffic) -> None:
    """A version that throws on every request is in no group by status: it would look like one without visitors."""
    cloud.invocations = invoked(
        9000,
        ("v1", "ok", 200, "fetch", "GET /", 5),
        ("v2", "exception", None, "fetch", "GET /", 9),
        ("v2", "exceededCpu", None, "fetch", "POST /api/orders", 4),
    )
    old, new = source.read(9000, 9001).counts
    assert (old.version, old.requests, old.errors) == ("v1", 5, 0)
    assert (new.version, new.requests, new.errors) == ("v2", 13, 13)
    routes = {name: (each.requests, each.errors) for name, each in new.routes.items()}
    assert routes == {"GET /": (9, 9), "POST /api/orders": (4, 4)}


def test_streams_that_end_early_count_neither_way(cloud: TelemetryApi, source: TelemetryTraffic) -> None:
    """Server-sent events end so all day, whichever side hung up."""
    cloud.invocations = invoked(
        9000, ("v1", "ok", 200, "fetch", 5), ("v1", "responseStreamDisconnected", 200, "fetch", 40)
    )
    (row,) = source.read(9000, 9001).counts
    assert (row.requests, row.errors, row.canceled) == (5, 0, 40)


def test_durable_objects_and_our_own_requests_are_no_visitors(cloud: TelemetryApi, source: TelemetryTraffic) -> None:
    """Objects throw while their code is replaced, and probes are answered well: neither says what visitors get."""
    cloud.invocations = [
        *invoked(9000, ("v1", "ok", 200, "fetch", "GET /", 5), model="stateless"),
        *invoked(9000, ("v1", "ok", 200, "fetch", "GET /", 3), model="stateless", probe="1"),
        *invoked(9000, ("v1", "exception", None, "fetch", "GET /", 30), model="durableObject"),
        *invoked(9000, ("v1", "ok", 200, "fetch", "GET /", 2), model="durableObject", probe="1"),
    ]
    (row,) = source.read(9000, 9001).counts
    assert (row.requests, row.errors) == (5, 0)
    assert {name: each.requests for name, each in row.routes.items()} == {"GET /": 5}


def test_invocations_without_a_version_are_named(cloud: TelemetryApi, source: TelemetryTraffic) -> None:
    """The version is optional in a row: how many there were is known from the number of all alone."""
    cloud.invocations = invoked(9000, ("v1", "ok", 200, "fetch", 5), (None, "ok", 200, "fetch", 3))
    page = source.read(9000, 9001)
    assert sum_counts(page.counts) == (5, 0)
    assert page.unreadable == {"an invocation of which the telemetry does not tell the version": 3}
    assert source.read(9000, 9001).unreadable == {"an invocation of which the telemetry does not tell the version": 6}


def test_telemetry_without_versions_blames_nobody(cloud: TelemetryApi, source: TelemetryTraffic) -> None:
    """A key that is not there any more is not a quiet application."""
    cloud.invocations = invoked(9000, (None, "ok", 200, "fetch", 3))
    with pytest.raises(ProviderUnavailable, match="does not tell versions"):
        source.read(9000, 9001)


def test_groups_that_are_left_out_cost_no_count(cloud: TelemetryApi, source: TelemetryTraffic) -> None:
    """What has no trigger has no route, and is counted."""
    cloud.invocations = invoked(
        9000,
        ("v1", "ok", 200, "fetch", "GET /", 10),
        ("v1", "ok", 200, "fetch", 40),
        ("v1", "exception", None, "scheduled", 4),
    )
    (row,) = source.read(9000, 9001).counts
    assert (row.requests, sum(each.requests for each in row.routes.values())) == (50, 10)
    assert {name: (each.runs, each.failed) for name, each in row.triggers.items()} == {"cron other": (4, 4)}


@pytest.mark.parametrize("said", ["unknown key {key}", "parameters.{{place}}.value: invalid"])
def test_an_api_that_does_not_know_a_key_is_asked_without_it(
    cloud: TelemetryApi, source: TelemetryTraffic, said: str
) -> None:
    """By its name or its place; what cannot be seen then is said, wherever a version is called healthy."""
    assert [sight.name for sight in list_unseen(source.traits)] == ["started", "sizes", "choice"]
    cloud.unknown = {key: said.format(key=key) for key in (EVENT, TRIGGER, MODEL, PROBE)}
    cloud.invocations = [
        *invoked(9000, ("v1", "ok", 200, "fetch", "GET /", 5)),
        *invoked(9010, ("v1", "ok", 200, "fetch", "GET /", 6)),
    ]
    page = source.read(9000, 9001)
    assert sum_counts(page.counts) == (5, 0)
    assert [what.partition(",")[0] for what in page.unreadable] == ["what Durable Objects do", "backout's own requests"]
    missing = ["methods", "started", "sizes", "triggers", "choice"]
    assert [sight.name for sight in list_unseen(source.traits)] == missing
    cloud.asked.clear()
    assert sum_counts(source.read(9010, 9011).counts) == (6, 0)
    assert not any({EVENT, TRIGGER} & set(keys) for keys in cloud.asked)


@pytest.mark.parametrize(
    "said",
    [
        "the query took too long",
        "invalid timeframe",
        "cannot group by $workers.eventType and $metadata.trigger at once",
        "bad filter $workers.eventType.name",
    ],
)
@pytest.mark.parametrize("key", [OUTCOME, TRIGGER])
def test_a_question_that_is_refused_for_something_else_is_asked_again_whole(
    cloud: TelemetryApi, source: TelemetryTraffic, said: str, key: str
) -> None:
    """One bad answer takes the methods and the schedules from no watch: it was not read, and the next one is whole."""
    cloud.invocations = invoked(9000, ("v1", "ok", 200, "fetch", "GET /", 5))
    cloud.unknown = {key: said}
    with pytest.raises(ProviderRejected, match=said[:10]):
        source.read(9000, 9001)
    cloud.unknown = {}
    (row,) = source.read(9000, 9001).counts
    assert row.routes["GET /"].requests == 5
    assert [sight.name for sight in list_unseen(source.traits)] == ["started", "sizes", "choice"]


@pytest.mark.parametrize(("more", "part"), [({}, 10), ({"model": "durableObject", "probe": "1"}, 4)])
def test_it_is_not_asked_every_second(
    server: ScriptedServer, cloud: TelemetryApi, more: dict[str, str], part: int
) -> None:
    """Some seconds are asked for at once: a part of the 1,200 calls that the API allows in five minutes."""
    clock = WorldClock(10_000.0)
    source = TelemetryTraffic(client(server.url), ACCOUNT, "fm5", clock=clock)
    cloud.invocations = [each for at in range(9900, 10_300) for each in invoked(at, ("v1", "ok", 200, "fetch", 1))]
    cloud.invocations += [
        each for at in range(9900, 10_300) for each in invoked(at, ("v1", "ok", 200, "fetch", 1), **more) if more
    ]
    since, told = 9900, 0
    for _ in range(300):
        clock.sleep(1)
        page = source.read(since, int(clock.now()) + 1)
        since, told = page.complete_until, told + sum_counts(page.counts)[0]
    assert since >= 10_300 - 60 - 20
    assert told == since - 9900
    assert len(server.asked) <= 1200 / part


def test_the_twin_tells_its_routes_and_schedules(api: Api) -> None:
    """As the router counted them."""
    begun = int(time.time()) - OLD
    row = second("v1", begun, ok=10, bad=2)
    row.routes = {"GET /": RouteRow(6, 0), "POST /api/orders": RouteRow(4, 2, classes={AnswerClass.BAD_REQUEST: 1})}
    row.triggers = {"cron 0 3 * * *": (2, 1)}
    api.data_plane.rows["fm5"] = [row]
    (found,) = twin(api, TelemetryTraffic).read(begun, begun + 1).counts
    assert (found.requests, found.errors) == (10, 2)
    orders = found.routes["POST /api/orders"]
    assert (orders.requests, orders.errors, orders.classes) == (4, 2, {AnswerClass.BAD_REQUEST: 1})
    assert found.triggers["cron 0 3 * * *"].failed == 1
