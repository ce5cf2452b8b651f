"""Tail events: joined with the router's record, filtered, bounded, and kept for those who ask later."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import aiohttp
import pytest

from backout.twin.dataplane.exchange import Event, Exchange
from backout.twin.dataplane.tail import Filters, Tail, parse_filters

from dataplane_lab import Lab, fetch_module, lab, until

if TYPE_CHECKING:
    from pathlib import Path

SHOP = fetch_module(
    """
    const path = new URL(request.url).pathname;
    if (path === "/throw") { console.log("before it", 42); throw new TypeError("no such thing"); }
    if (path === "/500") return new Response("sorry", {status: 500});
    return new Response("ok");
    """
)


async def _events(it: Lab, query: str = "script=shop") -> list[Event]:
    async with it.client.get(it.url(f"/twin/v1/events?{query}")) as answer:
        return list((await answer.json())["events"])


def test_a_throw_is_an_event_with_version_and_stack(tmp_path: Path) -> None:
    """Without any tail open, an exception is kept with all that wrangler shows; an ok answer is not kept."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            (version,) = await it.deploy(SHOP)
            await it.get("/")
            await it.get("/throw?q=1", Authorization="Bearer x")
            await it.get("/500")

            async def two() -> bool:
                return len(await _events(it)) == 2

            await until(two, what="two events")
            thrown, returned = await _events(it)
            assert (thrown["outcome"], returned["outcome"]) == ("exception", "ok")
            assert thrown["scriptName"] == "shop"
            assert thrown["scriptVersion"] == {"id": version.id}
            (exception,) = thrown["exceptions"]  # type: ignore[misc] - checked by its use
            assert (exception["name"], exception["message"]) == ("TypeError", "no such thing")
            assert "index.js:" in exception["stack"]
            (log,) = thrown["logs"]  # type: ignore[misc] - same
            assert (log["message"], log["level"]) == (["before it", 42], "log")
            inner = thrown["event"]
            assert isinstance(inner, dict)
            assert inner["response"] == {"status": 500}
            assert inner["request"]["url"] == f"http://shop.localhost:{it.port}/throw?q=1"
            assert inner["request"]["headers"]["authorization"] == "REDACTED"
            assert "x-backout-req" not in inner["request"]["headers"]
            assert isinstance(thrown["wallTime"], int)
            newest = await _events(it, f"script=shop&since={thrown['at']}&limit=5")
            assert newest == [returned]
            assert await _events(it, "script=other") == []

    asyncio.run(run())


def test_an_open_tail_sees_every_event_live(tmp_path: Path) -> None:
    """While a tail is open ok answers flow too, by websocket with wrangler's subprotocol; pings are answered."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            await it.deploy(SHOP)
            session = await it.plane.open_tail("shop", [])
            async with it.client.ws_connect(it.url(f"/tail/{session.id}"), protocols=("trace-v1",)) as socket:
                assert socket.protocol == "trace-v1"
                await socket.send_str('{"debug":false}')
                await socket.ping(b"wrangler tail ping")
                seen: list[Event] = []
                async with asyncio.timeout(10):
                    while not seen:  # the switch to all events reaches the worker some milliseconds after the opening
                        await it.get("/hello")
                        await _drain(socket, seen, 0.1)
                assert seen[0]["outcome"] == "ok"
                assert await it.plane.close_tail(session.id)
                async with asyncio.timeout(10):
                    while (await socket.receive()).type is aiohttp.WSMsgType.TEXT:
                        pass
                assert socket.close_code == 1000
            assert it.plane.tail_sessions() == ()
            assert not await it.plane.close_tail(session.id)

    asyncio.run(run())


async def _drain(socket: aiohttp.ClientWebSocketResponse, into: list[Event], wait_s: float) -> None:
    try:
        into.append(json.loads((await socket.receive(timeout=wait_s)).data))
    except TimeoutError:
        return


def test_an_unknown_tail_is_a_404(tmp_path: Path) -> None:
    """A websocket to a tail that is not there is refused."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await it.client.ws_connect(it.url("/tail/none"))
            assert refused.value.status == 404

    asyncio.run(run())


def test_a_tail_survives_a_new_deployment(tmp_path: Path) -> None:
    """A tail that was opened before a version went live sees that version's ok answers."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            await it.deploy(SHOP)
            session = await it.plane.open_tail("shop", None)
            (new,) = await it.deploy(SHOP)
            await it.get("/")
            line = await asyncio.wait_for(session.queue.get(), 10)
            assert line is not None
            assert json.loads(line)["scriptVersion"] == {"id": new.id}

    asyncio.run(run())


def _tail(queue_events: int = 500) -> Tail:
    return Tail(
        on_amended=lambda _: None,
        on_demand=lambda *_: None,
        now=lambda: 100.0,
        queue_events=queue_events,
        draw=lambda: 0.4,
    )


def _line(**parts: object) -> bytes:
    event: Event = {"scriptName": "shop", "scriptVersion": {"id": "v1"}, "outcome": "ok", "event": None}
    return json.dumps(event | parts).encode()


def test_a_slow_reader_loses_events_and_they_are_counted() -> None:
    """What does not fit the queue is dropped for that reader alone, and counted."""

    async def run() -> None:
        tail = _tail(queue_events=5)
        slow = tail.open("shop", Filters())
        fast = tail.open("shop", Filters())
        for number in range(12):
            tail.receive(_line(logs=[number]))
            await fast.queue.get()
        assert (slow.dropped, slow.queue.qsize()) == (8, 5)  # the oldest made room for the notice
        assert (fast.dropped, fast.queue.qsize()) == (0, 0)
        assert len(tail.events("shop", 0.0, 100)) == 12
        tail.close(slow.id)
        assert slow.dropped == 9
        assert [await slow.queue.get() for _ in range(5)][-1] is None

    asyncio.run(run())


def test_a_reader_is_told_that_events_are_left_out() -> None:
    """Once when it begins and once when there is room again, in the shape that wrangler prints."""

    async def run() -> None:
        tail = _tail(queue_events=4)
        slow = tail.open("shop", Filters())
        for number in range(7):
            tail.receive(_line(logs=[number]))
        seen = [await slow.queue.get() for _ in range(4)]
        tail.receive(_line(logs=[8]))
        seen += [await slow.queue.get() for _ in range(2)]
        events = [json.loads(line or b"{}") for line in seen]
        assert [event["event"]["type"] if event["event"] else event["logs"] for event in events] == [
            [1], [2], [3], "overload", "overload-stop", [8],
        ]  # fmt: skip

    asyncio.run(run())


def test_the_ring_keeps_the_last_thousand() -> None:
    """Older events make room."""
    tail = _tail()
    tail.receive(b"\n".join(_line(logs=[number]) for number in range(1200)))
    kept = tail.events(None, 0.0, 5000)
    assert (len(kept), kept[0][1]["logs"], kept[-1][1]["logs"]) == (1000, [200], [1199])
    assert tail.events(None, 0.0, 0) == ()


def test_an_event_that_comes_before_the_end_waits_for_it() -> None:
    """The worker may finish before the client has read it all; the event then tells the final latency."""
    tail = _tail()
    exchange = Exchange("r1", "shop", "v1", "GET", "http://shop.localhost/", {}, started_at=99.0, status=200)
    tail.begin(exchange)
    request = {"url": exchange.url, "method": "GET", "headers": {"x-backout-req": "r1"}}
    tail.receive(_line(outcome="exception", event={"request": request}))
    assert tail.events("shop", 0.0, 10) == ()
    assert exchange.outcome == "exception"
    exchange.latency_ms, exchange.second, exchange.ended_at = 1234.4, 100, 100.0
    tail.end(exchange)
    ((_, event),) = tail.events("shop", 0.0, 10)
    assert (event["wallTime"], event["eventTimestamp"], event["outcome"]) == (1234, 99_000, "exception")


@pytest.mark.parametrize(
    ("raw", "passes"),
    [
        ([], True),
        ([{"sampling_rate": 0.5}], True),
        ([{"sampling_rate": 0.3}], False),
        ([{"outcome": ["ok", "canceled"]}], True),
        ([{"outcome": ["exception"]}], False),
        ([{"method": ["get", "POST"]}], True),
        ([{"method": ["PUT"]}], False),
        ([{"header": {"key": "X-Color", "query": "re"}}], True),
        ([{"header": {"key": "X-Color"}}], True),
        ([{"header": {"key": "X-Color", "query": "blue"}}], False),
        ([{"header": {"key": "X-None"}}], False),
        ([{"client_ip": ["127.0.0.1"]}], True),
        ([{"client_ip": ["self"]}], True),
        ([{"client_ip": ["10.0.0.1"]}], False),
        ([{"query": "needle"}], True),
        ([{"query": "absent"}], False),
        ([{"scriptVersion": "v1"}], True),
        ([{"scriptVersion": "v2"}], False),
        ([{"method": ["GET"]}, {"outcome": ["exception"]}], False),
        ("nonsense", True),
        ([7, {"later": "invention"}], True),
    ],
)
def test_filters(raw: object, passes: bool) -> None:
    """Each of wrangler's filters lets through what it says; unknown ones let everything through."""
    event: Event = json.loads(_line(logs=[{"message": ["a needle here"], "level": "log"}]))
    headers = {"x-color": "red", "cf-connecting-ip": "127.0.0.1"}
    event["event"] = {"request": {"method": "GET", "url": "http://x/", "headers": headers}}
    assert parse_filters(raw).match(event, lambda: 0.4) is passes
