"""Port Logs on Cloudflare: what a tail heard, and what the telemetry query keeps, against servers that answer so."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tail_server import event, tail_server

from backout.analysis.diagnosis.templates import make_template
from backout.errors import AuthError, ProviderUnavailable
from backout.model.incident.events import Origin
from backout.providers.cloudflare.client import ApiClient
from backout.providers.cloudflare.logs import MOST_EVENTS, TailLogs, TelemetryLogs
from backout.providers.cloudflare.tail import TailTraffic
from backout.providers.memory import WorldClock
from backout.providers.retry import Retry

from polling import until
from scripted_server import answer, refused_url, scripted_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.model.incident.events import LogPage

    from scripted_server import ScriptedServer

NOW = 1_800_000_000
ACCOUNT, TOKEN = "acc0000000000000000000000000000a", "canary-telemetry-token"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as running:
        yield running


def logs(url: str) -> TelemetryLogs:
    return TelemetryLogs(ApiClient(url, lambda: TOKEN, retry=Retry(attempts=1)), ACCOUNT, "fm5", make_template)


def told(number: int, source: object, *, level: str = "error", version: str = "v1", outcome: str = "exception") -> Any:
    """Return one event of the telemetry."""
    return {
        "dataset": "cloudflare-workers",
        "timestamp": NOW * 1000 + number,
        "source": source,
        "$metadata": {"id": f"id-{number}", "requestId": f"r-{number}", "level": level, "type": "cf-worker"},
        "$workers": {
            "scriptName": "fm5",
            "outcome": outcome,
            "requestId": f"r-{number}",
            "scriptVersion": {"id": version},
        },
    }


def found(*events: object, **statistics: object) -> Any:
    result = {"events": {"count": len(events), "events": list(events)}, "statistics": statistics}
    return answer({"success": True, "errors": [], "messages": [], "result": result})


def texts(page: LogPage) -> dict[str, int]:
    return {template.sample.splitlines()[0]: template.invocations for template in page.counts.templates}


def test_the_telemetry_is_asked_for_failures_and_for_errors_that_were_logged(server: ScriptedServer) -> None:
    """Two questions, because filters are joined by `and` alone; an event that both find counts once."""
    thrown = told(1, {"exception": {"name": "TypeError", "message": "x is not a function", "stack": ""}})
    logged = told(2, {"level": "error", "message": "price rules are broken"}, outcome="ok")
    server.will(found(thrown), found(thrown, logged))
    page = logs(server.url).read(NOW - 60, NOW + 60)
    assert texts(page) == {"TypeError: x is not a function": 1, "price rules are broken": 1}
    assert (page.complete, page.since, page.counts.sampled) == (False, None, False)
    asked = [json.loads(each.body) for each in server.asked]
    assert [each["view"] for each in asked] == ["events", "events"]
    assert asked[0]["timeframe"] == {"from": (NOW - 60) * 1000, "to": (NOW + 60) * 1000}
    wanted = [[(f["key"], f["operation"], f["value"]) for f in each["parameters"]["filters"]] for each in asked]
    assert wanted == [
        [("$workers.scriptName", "eq", "fm5"), ("$workers.outcome", "neq", "ok")],
        [("$workers.scriptName", "eq", "fm5"), ("$metadata.level", "eq", "error")],
    ]
    assert {each.target for each in server.asked} == {f"/accounts/{ACCOUNT}/workers/observability/telemetry/query"}


def test_a_full_answer_says_from_when_on_it_is_whole_and_a_sample_is_said(server: ScriptedServer) -> None:
    full = [told(number, {"level": "error", "message": "no"}) for number in range(MOST_EVENTS)]
    server.will(found(*full), found(abr_level=3))
    page = logs(server.url).read(NOW - 60, NOW + 60)
    assert page.since == NOW
    assert page.counts.sampled


def test_an_answer_of_another_shape_is_no_error_and_no_event(server: ScriptedServer) -> None:
    for result in ({}, {"events": None}, {"events": {"events": [1, None, {"a": 2}]}}, {"events": []}):
        server.will(answer({"success": True, "result": result}))
        assert logs(server.url).read(NOW, NOW + 1).counts.templates == ()


def test_a_refused_token_and_no_answer(server: ScriptedServer) -> None:
    server.will(answer({"success": False, "errors": [{"code": 10000, "message": "Authentication error"}]}, 403))
    with pytest.raises(AuthError) as refused:
        logs(server.url).read(NOW, NOW + 1)
    assert "Workers Observability Write" in f"{refused.value.what} {refused.value.hint}"
    with pytest.raises(ProviderUnavailable):
        logs(refused_url()).read(NOW, NOW + 1)


def test_the_tail_keeps_what_failed_or_said_something(server: ScriptedServer) -> None:
    """Fine ones are counted and forgotten; what the tail heard before is still there at the next reading."""
    del server
    boom = {"name": "TypeError", "message": "x is undefined", "timestamp": NOW * 1000}
    with tail_server() as tail:
        clock = WorldClock(NOW)
        traffic = TailTraffic(ApiClient(tail.url, lambda: TOKEN, retry=Retry(attempts=1)), ACCOUNT, "fm5", clock=clock)
        port = TailLogs(traffic, make_template)
        traffic.read(NOW, NOW + 1)
        until(lambda: tail.sockets, 10, "the tail")
        tail.send(
            event("v1", NOW + 1),
            {**event("v1", NOW + 2, 500, "exception"), "exceptions": [boom]},
            {**event("v2", NOW + 3), "logs": [{"level": "error", "message": ["no", {"a": 1}], "timestamp": 1}]},
            event("v2", NOW + 900, 503),
        )
        page = until(lambda: (p := port.read(NOW, NOW + 100)).counts.invocations == 2 and p, 10, "the events")
        assert {str(t.key): (t.origin, dict(t.by_version)) for t in page.counts.templates}.keys() == {
            "TypeError: x is undefined", 'no {"a":<n>}'
        }  # fmt: skip
        assert {template.origin for template in page.counts.templates} == {Origin.EXCEPTION, Origin.ERROR}
        assert page.since == NOW
        until(lambda: port.read(NOW, NOW + 1000).counts.invocations == 3, what="the last event")
        traffic.close()
