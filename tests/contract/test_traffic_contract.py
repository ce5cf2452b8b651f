"""Ports Traffic and Logs: the World, the adapter on scripted answers, and on a real twin with real visitors."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, cast

import pytest
from contract_worker import deploy
from prometheus_lab import need_prometheus, prometheus
from recorder_lab import SECRET, MemoryBucket, counted
from tail_server import event, notice, tail_server

from backout.analysis.diagnosis.templates import make_template
from backout.errors import AuthError, ConfigError, ProviderRejected, ProviderUnavailable
from backout.model.guard.answers import EVERY_CLASS, AnswerClass
from backout.model.guard.signals import Counts, RouteCounts, TriggerCounts, merge_latency, sum_counts
from backout.model.incident.events import Origin, Seen
from backout.providers.cloudflare.client import ApiClient
from backout.providers.cloudflare.tail import TailTraffic
from backout.providers.exchange import Limits
from backout.providers.logs.traffic import LogTraffic
from backout.providers.memory import World, WorldClock, make_steady
from backout.providers.prometheus.client import MetricsClient
from backout.providers.prometheus.traffic import Metrics, PrometheusTraffic
from backout.providers.recorder.batches import parse_keys
from backout.providers.recorder.bucket import BucketSink
from backout.providers.recorder.traffic import RecorderTraffic
from backout.providers.retry import Retry
from backout.providers.router.client import RouterClient
from backout.providers.router.logs import RouterLogs
from backout.providers.router.traffic import RouterTraffic

from polling import until
from scripted_server import answer, hang, raw_answer, refused_url, scripted_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tail_server import TailServer

    from backout.ports import Traffic
    from backout.twin.lifecycle import TwinStatus

    from scripted_server import ScriptedServer

TOKEN = "canary-router-token"
NOW = 1_800_000_100
CLASSES = {AnswerClass.NOT_FOUND: 2, AnswerClass.REDIRECT: 1}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as running:
        yield running


def router(server: ScriptedServer, clock: WorldClock | None = None) -> RouterTraffic:
    return RouterTraffic(f"{server.url}/twin/v1", "fm5", lambda: TOKEN, clock=clock or WorldClock(NOW))


def row(version: str, second: int, requests: int, errors: int = 0, canceled: int = 0) -> dict[str, object]:
    return {
        "version": version,
        "second": second,
        "requests": requests + canceled,
        "errors": errors,
        "canceled": canceled,
        "statuses": {"200": requests - errors, "500": errors},
        "latency": [[90, requests]],
        "routes": {
            "GET /app": {
                "requests": requests - 4,
                "errors": errors,
                "latency": [[90, requests - 4]],
                "classes": {"404": 2},
            },
            "POST /": {"requests": 4, "errors": 0, "latency": [[90, 4]], "classes": {"3xx": 1}},
        }
        if requests > 4
        else {},
        "classes": {"404": 2, "3xx": 1} if requests > 4 else {},
    }


# --- the contract ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def past_in_prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Prometheus whose past is 12 requests, 1 an error and 2 canceled, in each of the same seconds.

    Four of them are sent to /, one of which is a redirect, the others ask for /app, which is not found twice.
    """
    need_prometheus()
    lines = []
    routes = ('method="get",route="/app"', 'method="POST",route="/"')
    app, home = (f'job="app",instance="a",version="v1",{labels}' for labels in routes)
    counter, histogram = "http_requests_total", "http_request_duration_seconds_bucket"
    answers = {(app, 200): 3, (app, 404): 2, (app, 500): 1, (app, 499): 2, (home, 200): 3, (home, 302): 1}
    buckets = {(app, "0.1"): 6, (app, "+Inf"): 6, (home, "0.1"): 4, (home, "+Inf"): 4}
    for name, per_second in {
        **{f'{counter}{{{labels},status="{status}"}}': number for (labels, status), number in answers.items()},
        **{f'{histogram}{{{labels},le="{bound}"}}': number for (labels, bound), number in buckets.items()},
    }.items():
        base = name.partition("{")[0].removesuffix("_total").removesuffix("_bucket")
        lines.append(f"# TYPE {base} {'counter' if '_total' in name else 'histogram'}")
        lines += [f"{name} {per_second * min(max(t - NOW + 11, 0), 5)} {t}.0" for t in range(NOW - 30, NOW)]
    past = "".join(f"{line}\n" for line in dict.fromkeys(lines))
    with prometheus(tmp_path_factory.mktemp("past"), past=past) as url:
        yield url


def write_log(path: Path, seconds: range) -> None:
    """Write what an application logs that sees the same; its health checks come later."""
    line = {"version": "v1", "latency_ms": 90.0, "status": 200, "method": "GET", "route": "/app?utm_source=x"}
    home = {**line, "method": "POST", "route": "/"}
    lines: list[dict[str, object]] = []
    for second in seconds:
        lines += [{**line, "ts": second, "status": status} for status in (500, 200, 200, 200, 404, 404)]
        lines += [{**home, "ts": second, "status": status} for status in (200, 200, 200, 302)]
        lines += [{**line, "ts": second + 0.5, "outcome": "canceled"}] * 2
    lines.append({**line, "ts": NOW, "status": 200, "route": "/health"})
    path.write_text("".join(f"{json.dumps(each)}\n" for each in lines), encoding="utf-8")


def tailed(server: TailServer, seconds: range) -> TailTraffic:
    """Return a tail that was open all the time, after each event came in its second."""
    clock = WorldClock(NOW - 20)
    source = TailTraffic(ApiClient(server.url, lambda: TOKEN), "acc", "fm5", clock=clock)
    source.read(NOW - 20, NOW)
    until(lambda: server.sockets, 10, "the tail")
    for number, second in enumerate(seconds, start=1):
        clock.move_to(second + 1)
        app, at = "https://shop.example/app?utm_source=x", second + 0.5
        server.send(*[event("v1", at, status, url=app) for status in (500, 200, 200, 200, 404, 404)])
        server.send(*[event("v1", at, status, method="POST") for status in (200, 200, 200, 302)])
        server.send(*[event("v1", second + 0.5, None, "canceled", url=app)] * 2, notice("overload-stop"))
        until(lambda wanted=number: source.read(NOW - 20, NOW).sampled and wanted, 10, "the events")  # type: ignore[misc]
    clock.move_to(NOW + 0.5)
    return source


@pytest.fixture
def tail() -> Iterator[TailTraffic]:
    """A tail that saw the same."""
    with tail_server() as server:
        source = tailed(server, range(NOW - 10, NOW - 5))
        yield source
        source.close()


@pytest.fixture(params=["memory", "router", "recorder", "prometheus", "logs", "tail"])
def traffic(request: pytest.FixtureRequest, server: ScriptedServer, tmp_path: Path) -> Traffic:
    """A source that saw 10 requests, 1 of them an error, in each of the seconds NOW-10 to NOW-6, and is at NOW.

    Six of them, the error too, were for /app, of which two were not found; four were sent to /, one of them elsewhere.
    """
    seconds = range(NOW - 10, NOW - 5)
    if request.param == "tail":
        return cast("Traffic", request.getfixturevalue("tail"))
    if request.param == "logs":
        write_log(tmp_path / "log", seconds)
        return LogTraffic(tmp_path / "log", ignore_routes=["/health"], clock=WorldClock(NOW + 0.5))
    if request.param == "prometheus":
        client = MetricsClient(RouterClient(request.getfixturevalue("past_in_prometheus")))
        return PrometheusTraffic(client, Metrics(scrape_interval_s=1.0), clock=WorldClock(NOW + 0.5))
    if request.param == "memory":
        world = World(NOW - 20)
        version = world.upload()
        world.deploy(version)
        routes = {
            "GET /app": RouteCounts(6, 1, {90: 6}, {AnswerClass.NOT_FOUND: 2}),
            "POST /": RouteCounts(4, 0, {90: 4}, {AnswerClass.REDIRECT: 1}),
        }
        world.traffic_rule = lambda s, v: Counts(v, s, 10, 1, 2, {90: 10}, routes, CLASSES) if s in seconds else None
        world.clock.move_to(NOW + 0.5)
        return world.traffic
    if request.param == "recorder":
        bucket = MemoryBucket()
        app, home = {"200": 3, "404": 2, "500": 1}, {"200": 3, "302": 1}
        rows = [counted(second, 6, 1, canceled=2, probes=1, route="GET /app", statuses=app) for second in seconds]
        rows += [counted(second, 4, route="POST /", statuses=home) for second in seconds]
        bucket.store(
            [
                {"v": 2, "templates": True, "seq": 1, "stored": (NOW - 6) * 1000, "rows": rows},
                {"v": 2, "templates": True, "seq": 2, "rows": [counted(NOW, 0, probes=1)]},
            ],
            at=NOW + 5,
            seq=2,
        )
        return RecorderTraffic(BucketSink(bucket, "counts", "shop", parse_keys(SECRET)), WorldClock(NOW + 5.5))
    rows = [row("v1", second, 10, 1, 2) for second in seconds]
    server.will(answer({"now": NOW + 0.5, "complete_until": NOW - 1, "counts": rows}))
    return router(server)


def test_seconds_are_half_open(traffic: Traffic) -> None:
    """`since` is in, `until` is not."""
    page = traffic.read(NOW - 9, NOW - 7)
    assert [counts.second for counts in page.counts] == [NOW - 9, NOW - 8]


def test_a_second_without_requests_is_a_gap(traffic: Traffic) -> None:
    """And the page says how far it is final."""
    page = traffic.read(NOW - 20, NOW + 1)
    assert [counts.second for counts in page.counts] == list(range(NOW - 10, NOW - 5))
    assert NOW - 5 <= page.complete_until <= NOW
    assert sum_counts(page.counts) == (50, 5)


def test_canceled_answers_are_not_requests(traffic: Traffic) -> None:
    """They are counted beside, and have no latency."""
    counts = traffic.read(NOW - 10, NOW - 9).counts[0]
    assert (counts.requests, counts.errors, counts.canceled) == (10, 1, 2)
    assert sum(counts.latency.values()) == 10


def test_routes_are_parts_of_the_same_requests(traffic: Traffic) -> None:
    """By method and template, with their own errors, classes and latencies; canceled answers are in none."""
    for counts in traffic.read(NOW - 10, NOW - 5).counts:
        found = {name: (route.requests, route.errors, dict(route.classes)) for name, route in counts.routes.items()}
        assert found == {
            "GET /app": (6, 1, {AnswerClass.NOT_FOUND: 2}),
            "POST /": (4, 0, {AnswerClass.REDIRECT: 1}),
        }
        assert merge_latency(counts.routes.values()) == counts.latency


def test_classes_are_of_what_was_answered_neither_well_nor_with_an_error(traffic: Traffic) -> None:
    """What the source tells apart stands in its traits, with the methods."""
    for counts in traffic.read(NOW - 10, NOW - 5).counts:
        assert counts.classes == CLASSES
    assert traffic.traits.classes == EVERY_CLASS
    assert traffic.traits.has_method


def test_an_automatic_action_may_rest_on_it(traffic: Traffic) -> None:
    """Unsampled, per version, with statuses, and quick."""
    assert traffic.traits.may_act


# --- the World's own promises ---------------------------------------------------------------------------------------


def test_the_world_never_changes_a_second_that_was_read() -> None:
    """A new rule holds for the seconds that nobody has read yet; only versions that served then have counts."""
    world = World()
    world.deploy(first := world.upload())
    world.traffic_rule = make_steady(10)
    world.clock.sleep(10)
    start = int(world.clock.now()) - 10
    before = world.traffic.read(start, start + 5)
    world.traffic_rule = make_steady(99)
    world.deploy(second := world.upload())
    world.clock.sleep(10)
    page = world.traffic.read(start, start + 30)
    assert page.counts[: len(before.counts)] == before.counts
    assert [(c.version, c.requests) for c in page.counts if c.second in (start + 6, start + 12)] == [
        (first.id, 99),
        (second.id, 99),
    ]
    assert max(c.second for c in page.counts) < page.complete_until


# --- the adapter on what a server may answer ------------------------------------------------------------------------


def test_what_is_asked(server: ScriptedServer) -> None:
    """Script and seconds in the query, the token in its header only, one connection for all calls."""
    server.will(answer({"complete_until": 5, "counts": []}))
    source = router(server)
    source.read(1, 9)
    source.read(9, 11)
    assert server.asked[0].target == "/twin/v1/counts?script=fm5&since=1&until=9"
    assert server.asked[0].headers["authorization"] == f"Bearer {TOKEN}"
    assert server.connections == 1


def test_what_the_router_says_beside_requests(server: ScriptedServer) -> None:
    """Requests that began, lengths of bodies, schedules and queues: each alone makes a row."""
    rows = [
        {"version": "v", "second": 7, "requests": 0, "errors": 0, "started": 2},
        {
            "version": "v",
            "second": 8,
            "requests": 0,
            "errors": 0,
            "triggers": {"cron * * * * *": [2, 1], "`x`": [1, 9]},
        },
        row("v", 9, 8) | {"started": 9, "classes": {"404": 99}},
    ]
    rows[2]["routes"] = {"GET /": {"requests": 8, "errors": 0, "sizes": [[5, 3]], "started": 9}}
    server.will(answer({"complete_until": 20, "counts": rows}))
    began, ran, both = router(server).read(0, 20).counts
    assert (began.requests, began.started) == (0, 2)
    assert ran.triggers == {"cron * * * * *": TriggerCounts(2, 1), "cron other": TriggerCounts(1, 1)}
    assert (both.started, both.classes) == (9, {AnswerClass.NOT_FOUND: 8})
    assert both.routes == {"GET /": RouteCounts(8, 0, sizes={5: 3}, started=9)}


def test_what_the_router_says_of_who_chose_a_version(server: ScriptedServer) -> None:
    """Those who named one are left out, those with a key where it is asked for; rows are one for each second."""
    rows = [row("v", 7, 8) | {"chosen": 2}, row("v", 7, 3, 3) | {"keyed": True}, row("w", 7, 1) | {"keyed": True}]
    server.will(*[answer({"complete_until": 20, "counts": rows})] * 2)
    source = router(server)
    found = {each.version: (each.requests, each.errors, each.chosen) for each in source.read(0, 20).counts}
    assert found == {"v": (11, 3, 2), "w": (1, 0, 0)}
    source.count_keyed(wanted=False)
    found = {each.version: (each.requests, each.errors, each.chosen) for each in source.read(0, 20).counts}
    assert found == {"v": (8, 0, 5), "w": (0, 0, 1)}
    assert source.traits.has_choice


def test_rows_outside_the_question_are_not_taken(server: ScriptedServer) -> None:
    """And rows come in order, whatever the server's."""
    rows = [row("b", 8, 1), row("b", 7, 1), row("a", 7, 1), row("a", 6, 1), row("a", 9, 1)]
    server.will(answer({"complete_until": 20, "counts": rows}))
    assert [(c.second, c.version) for c in router(server).read(7, 9).counts] == [(7, "a"), (7, "b"), (8, "b")]


@pytest.mark.parametrize(
    "step",
    [
        answer({}, 500),
        answer({}, 503, Retry_After="1"),
        answer(b"<html>"),
        answer({"counts": []}),
        answer({"complete_until": 1, "counts": [{"version": "v"}]}),
        raw_answer(b'HTTP/1.1 200 X\r\nContent-Length: 99\r\n\r\n{"now"'),
    ],
)
def test_trouble_is_unavailable_after_one_more_try(server: ScriptedServer, step: object) -> None:
    """A watch asks again in a second anyway."""
    server.will(step)  # type: ignore[arg-type]
    with pytest.raises(ProviderUnavailable) as caught:
        router(server).read(1, 2)
    assert len(server.asked) == 2
    assert TOKEN not in str(caught.value)


def test_a_source_that_hangs_or_is_gone_is_unavailable(server: ScriptedServer) -> None:
    """In bounded time."""
    server.will(hang())
    quick = RouterClient(server.url, retry=Retry(attempts=1), limits=Limits(total_s=0.3))
    begun = time.monotonic()
    with pytest.raises(ProviderUnavailable, match="timed out"):
        quick.get("counts", {}, dict)
    assert time.monotonic() - begun < 20  # the server holds it for thirty
    with pytest.raises(ProviderUnavailable, match="not reached"):
        RouterTraffic(refused_url(), "fm5", clock=WorldClock(NOW)).read(1, 2)


def test_a_refused_token_and_a_no(server: ScriptedServer) -> None:
    """Each is its own error."""
    server.will(answer({}, 401), answer({}, 404))
    with pytest.raises(AuthError) as caught:
        router(server).read(1, 2)
    assert TOKEN not in str(caught.value)
    with pytest.raises(ProviderRejected):
        router(server).read(1, 2)
    with pytest.raises(AuthError):
        RouterTraffic(server.url, "fm5", lambda: "a\r\nb").read(1, 2)
    with pytest.raises(ConfigError):
        RouterTraffic("no url", "fm5")


def test_logs_are_told_as_invocations_of_every_version(server: ScriptedServer) -> None:
    """Exceptions with their stack, errors and warnings; the outcome and the status of the answer; not what is older."""
    boom = {"name": "TypeError", "message": "x is not a function", "stack": "    at f (index.js:1:2)", "timestamp": 1}
    events = [
        {"at": 5, "outcome": "exception", "scriptVersion": {"id": "v1"}, "exceptions": [boom], "logs": []},
        {"at": 6, "outcome": "exceededCpu", "scriptVersion": {"id": "v1"}, "exceptions": []},
        {
            "at": 7,
            "outcome": "ok",
            "scriptVersion": {"id": "v1"},
            "logs": [
                {"level": "error", "message": ["no", {"a": 1}]},
                {"level": "warn", "message": "slow"},
                {"level": "log", "message": ["fine"]},
            ],
            "event": {"request": {"url": "http://x/"}, "response": {"status": 500}},
        },
        {"at": 2, "outcome": "exception", "scriptVersion": {"id": "v1"}, "exceptions": [boom]},
        {"at": 8, "outcome": "exception", "exceptions": None, "logs": None},
        {"at": 99, "outcome": "exception", "exceptions": [boom]},
    ]
    server.will(answer({"now": 9, "events": events}))
    page = RouterLogs(server.url, "fm5", clock=WorldClock(NOW), key_of=make_template).read(5.0, 10.0)
    assert not page.complete
    counts = page.counts
    assert {v: (n.invocations, n.errors) for v, n in counts.by_version.items()} == {"v1": (3, 3), "": (1, 1)}
    told = {str(each.key): (each.origin, each.invocations, each.sample) for each in counts.templates}
    stack = "TypeError: x is not a function\n    at f (index.js:1:2)"
    assert told["TypeError: x is not a function"] == (Origin.EXCEPTION, 1, stack)
    assert told["slow"] == (Origin.WARNING, 1, "slow")
    assert (Origin.ERROR, 1, 'no {"a":1}') in told.values()
    assert any(origin is Origin.OUTCOME and "exceededCpu" in sample for origin, _, sample in told.values())


@pytest.mark.parametrize(
    "said", ['"\\ud800"', "100000000000000000000", "[" * 3000 + "]" * 3000], ids=["surrogate", "number", "brackets"]
)
def test_what_one_visitor_had_logged_hides_no_other_log(server: ScriptedServer, said: str) -> None:
    """The rest of that log is read as well."""
    logged = {"outcome": "ok", "scriptVersion": {"id": "v1"}, "logs": [{"level": "error", "message": ["it failed", 7]}]}
    events = [{"at": 6, **logged}, {"at": 7, **logged, "outcome": "exception"}]
    body = json.dumps({"now": 9, "events": events}).replace("7]", f"{said}]", 1)
    server.will(answer(body.encode()))
    counts = RouterLogs(server.url, "fm5", clock=WorldClock(NOW), key_of=make_template).read(5.0, 10.0).counts
    assert counts.by_version["v1"].invocations == 2
    assert all("it failed" in each.sample for each in counts.templates)


# --- a real twin, real visitors -------------------------------------------------------------------------------------


def test_the_real_router_counts_what_visitors_got(twin: TwinStatus) -> None:
    """Every answer once, errors by status and by exception, our own probes not; the words of the exception too."""
    worker = deploy(twin, "contract-traffic")
    begun = int(time.time())
    paths = ["/"] * 12 + ["/bad"] * 3 + ["/boom"] * 2
    statuses = [worker.visit(path) for path in paths]
    assert sorted(set(statuses)) == [200, 500]
    worker.visit("/bad", **{"x-backout-probe": "1"})
    ended = int(time.time()) + 1
    source = RouterTraffic(worker.source_url, worker.script, lambda: worker.token)
    page = until(
        lambda: p if (p := source.read(begun, ended + 1)).complete_until >= ended else None, 10, "final counts"
    )
    assert sum_counts(page.counts) == (17, 5)
    assert sum(sum(counts.latency.values()) for counts in page.counts) == 17
    assert {counts.version for counts in page.counts} == {worker.version}
    logs = RouterLogs(worker.source_url, worker.script, lambda: worker.token, key_of=make_template)
    found = until(
        lambda: [t for t in logs.read(begun - 1, time.time()).counts.templates if "boom" in t.sample and t.errors == 2],
        10,
        "the exceptions",
    )
    assert found[0].by_version == {worker.version: Seen(2, 2)}
    assert found[0].sample.splitlines()[0] == "Error: boom of the contract"
