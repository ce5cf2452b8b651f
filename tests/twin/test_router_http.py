"""Requests through the router: streamed both ways, framed right, websockets, headers, a client that goes away."""

from __future__ import annotations

import asyncio
import io
import json
from typing import TYPE_CHECKING

import aiohttp
import pytest
from values import replace

from backout.twin.control.worker import Binding

from dataplane_lab import fetch_module, lab, until
from polling import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from backout.twin.dataplane.counts import Row

    from dataplane_lab import Lab

WEBSOCKET_ECHO = fetch_module(
    """
    const [client, server] = Object.values(new WebSocketPair());
    server.binaryType = 'arraybuffer';
    server.accept();
    server.addEventListener("message", (m) => m.data === "bye" ? server.close(4001, "so long") : server.send(m.data));
    const wanted = request.headers.get("sec-websocket-protocol");
    const headers = wanted === null ? {} : {"sec-websocket-protocol": wanted.split(",")[0]};
    return new Response(null, {status: 101, webSocket: client, headers});
    """
)


def test_first_chunk_arrives_before_the_last_is_sent(tmp_path: Path) -> None:
    """A response is passed on as it comes: the second chunk is only made when a second request asks for it."""
    source = """
      export default { async fetch(request) {
        if (new URL(request.url).pathname === "/go") { globalThis.go = true; return new Response("ok"); }
        const { readable, writable } = new TransformStream(); const writer = writable.getWriter();
        (async () => { await writer.write(new TextEncoder().encode("first;"));
          while (!globalThis.go) await scheduler.wait(10);
          await writer.write(new TextEncoder().encode("last")); await writer.close(); })();
        return new Response(readable); } };
    """

    async def run() -> None:
        async with lab(tmp_path) as it:
            await it.deploy(source)
            async with it.client.get(it.url("/stream"), headers=it.headers()) as answer:
                assert await answer.content.readany() == b"first;"
                assert (await it.get("/go"))[1] == "ok"
                assert await answer.content.read() == b"last"

    asyncio.run(run())


def test_request_body_is_streamed_to_the_worker(tmp_path: Path) -> None:
    """The worker answers after the first chunk of a body whose end the client has not sent."""
    body = "const r = request.body.getReader(); const c = await r.read(); return new Response(c.value);"
    ended = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        yield b"begin"
        await ended.wait()

    async def run() -> None:
        async with lab(tmp_path) as it:
            await it.deploy(fetch_module(body))
            async with asyncio.timeout(10), it.client.post(it.url(), headers=it.headers(), data=chunks()) as answer:
                assert await answer.content.readexactly(5) == b"begin"
                ended.set()

    asyncio.run(run())


def test_an_upload_that_nobody_reads_is_answered_as_the_worker_says(tmp_path: Path) -> None:
    """The process closes the connection while the body is still sent; its answer counts, and no request fails."""

    async def chunks(size: int) -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * size

    async def run() -> None:
        async with lab(tmp_path) as it:
            (version,) = await it.deploy(fetch_module("return new Response('not read', {status: 403});"))

            async def upload(number: int) -> tuple[int, str]:
                body = chunks(1 << (4 + number % 16))
                async with it.client.post(it.url(), headers=it.headers(), data=body) as answer:
                    return answer.status, await answer.text()

            for _ in range(4):
                assert set(await asyncio.gather(*map(upload, range(16)))) == {(403, "not read")}
            rows = it.plane.counts("shop", 0)
            assert {(row.version, row.errors, row.canceled) for row in rows} == {(version.id, 0, 0)}
            assert sum(row.requests for row in rows) == 64

    asyncio.run(run())


def test_large_bodies_pass_unchanged(tmp_path: Path) -> None:
    """Five megabytes there and back are the same bytes."""
    data = bytes(range(256)) * 20_000

    async def run() -> None:
        async with lab(tmp_path) as it:
            await it.deploy(fetch_module("return new Response(request.body);"))
            for headers in (it.headers(), it.headers(Expect="100-continue")):
                async with it.client.put(it.url(), headers=headers, data=io.BytesIO(data)) as answer:
                    assert await answer.read() == data

    asyncio.run(run())


@pytest.mark.parametrize(
    ("method", "code", "status", "length"),
    [
        ("HEAD", "new Response('12345')", 200, "5"),
        ("GET", "new Response(null, {status: 204})", 204, None),
        ("GET", "new Response(null, {status: 304, headers: {etag: 'x'}})", 304, None),
        ("GET", "new Response('')", 200, "0"),
        ("GET", "Response.redirect('http://elsewhere.example/', 302)", 302, "0"),
        ("OPTIONS", "new Response('abc')", 200, "3"),
    ],
)
def test_framing_of_answers_without_a_body(
    tmp_path: Path, method: str, code: str, status: int, length: str | None
) -> None:
    """HEAD keeps its length and has no body, 204 and 304 have neither, and the connection stays usable."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            await it.deploy(fetch_module(f"return {code};"))
            for _ in range(2):
                async with it.client.request(method, it.url(), headers=it.headers(), allow_redirects=False) as answer:
                    body = await answer.read()
                    assert (answer.status, answer.headers.get("content-length")) == (status, length)
                    assert body == (b"abc" if method == "OPTIONS" else b"")

    asyncio.run(run())


def test_headers_that_the_router_adds_and_hides(tmp_path: Path) -> None:
    """The worker sees the edge's headers and our id, whatever the client claims; the client never sees the id."""
    body = """
      return new Response(JSON.stringify({h: [...request.headers], url: request.url, cf: request.cf.colo}),
        {headers: [["x-backout-req", request.headers.get("x-backout-req")], ["set-cookie", "a=1"],
                   ["set-cookie", "b=2"]]});
    """

    async def run() -> None:
        async with lab(tmp_path) as it:
            await it.deploy(fetch_module(body))
            headers = it.headers(x_backout_req="forged", CF_Connecting_IP="6.6.6.6", X_Mine="yes")
            async with it.client.get(it.url("/a%2Fb?q=%20"), headers=headers) as answer:
                seen = json.loads(await answer.text())
                sent = dict(seen["h"])
                assert len(sent["x-backout-req"]) == 16
                assert (sent["cf-connecting-ip"], sent["x-mine"]) == ("127.0.0.1", "yes")
                assert sent["cf-ray"] == answer.headers["cf-ray"]
                assert seen["url"] == f"http://shop.localhost:{it.port}/a%2Fb?q=%20"
                assert seen["cf"] == "TWN"
                assert "x-backout-req" not in answer.headers
                assert answer.headers.getall("set-cookie") == ["a=1", "b=2"]

    asyncio.run(run())


def test_websocket_echo(tmp_path: Path) -> None:
    """Frames pass both ways with the negotiated protocol and the worker's close code; it counts as one 101."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            await it.deploy(WEBSOCKET_ECHO)
            async with it.client.ws_connect(it.url("/ws"), headers=it.headers(), protocols=("chat", "x")) as socket:
                assert socket.protocol == "chat"
                await socket.send_str("hällo")
                assert (await socket.receive(timeout=PATIENCE_S)).data == "hällo"
                await socket.send_bytes(b"\x00\x01" * 50_000)
                assert (await socket.receive(timeout=PATIENCE_S)).data == b"\x00\x01" * 50_000
                await socket.send_str("bye")
                message = await socket.receive(timeout=PATIENCE_S)
                assert (message.type, socket.close_code) == (aiohttp.WSMsgType.CLOSE, 4001)
            await until(lambda: [row.statuses for row in it.plane.counts("shop", 0)] == [{101: 1}], what="the count")
            assert [row.started for row in it.plane.counts("shop", 0)] == [0]  # it may stay, and hangs for nobody

    asyncio.run(run())


def test_refused_websocket_is_the_workers_answer(tmp_path: Path) -> None:
    """A worker that does not upgrade answers the handshake with its own status."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            await it.deploy(fetch_module("return new Response('no', {status: 403});"))
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await it.client.ws_connect(it.url(), headers=it.headers())
            assert refused.value.status == 403

    asyncio.run(run())


STREAM = """\
const { readable, writable } = new TransformStream();
const writer = writable.getWriter();
ctx.waitUntil(writer.write(new TextEncoder().encode("data: 1\\n\\n")).then(() => scheduler.wait(20000)));
return new Response(readable, { headers: { "content-type": "text/event-stream" } });
"""


async def counted(it: Lab) -> list[Row]:
    """Return the rows with an answer in them, once there is one: a request is counted as begun, too."""

    def found() -> list[Row]:
        return [row for row in it.plane.counts("shop", 0) if row.requests]

    await until(lambda: bool(found()), what="the count")
    return found()


def test_a_client_that_leaves_is_counted_as_canceled(tmp_path: Path) -> None:
    """A request whose client closes before the answer is one canceled request, no error, no latency."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            await it.deploy(fetch_module("await scheduler.wait(20000); return new Response('late');"))
            with pytest.raises(asyncio.TimeoutError):
                await it.client.get(it.url(), headers=it.headers(), timeout=aiohttp.ClientTimeout(total=0.3))
            (row,) = await counted(it)
            assert (row.requests, row.canceled, row.errors) == (1, 1, 0)
            assert (row.statuses, row.by_outcome, row.latency) == ({499: 1}, {"canceled": 1}, {})

    asyncio.run(run())


def test_a_client_that_leaves_a_stream_ends_it_early(tmp_path: Path) -> None:
    """Server-sent events end so all day: it is no error, and no answer whose time is known."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            await it.deploy(fetch_module(STREAM))
            async with it.client.get(it.url(), headers=it.headers()) as answer:
                assert await answer.content.readany() == b"data: 1\n\n"
            (row,) = await counted(it)
            assert (row.requests, row.canceled, row.errors) == (1, 1, 0)
            assert (row.statuses, row.by_outcome, row.latency) == ({200: 1}, {"responseStreamDisconnected": 1}, {})

    asyncio.run(run())


def test_a_client_that_leaves_during_its_upload_is_canceled_too(tmp_path: Path) -> None:
    """A connection that breaks in the middle of the request's body is no error of the worker."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            await it.deploy(fetch_module("return new Response(await request.text());"))
            _, writer = await asyncio.open_connection("127.0.0.1", it.port)
            writer.write(b"POST / HTTP/1.1\r\nHost: shop.localhost\r\nContent-Length: 1000\r\n\r\nhalf")
            await until(lambda: it.plane.inflight("shop") == 1, what="the request to be under way")
            writer.transport.abort()
            (row,) = await counted(it)
            assert (row.requests, row.canceled, row.errors) == (1, 1, 0)

    asyncio.run(run())


def test_long_headers_pass(tmp_path: Path) -> None:
    """A response header of 60 kB is passed on."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            await it.deploy(fetch_module("return new Response('', {headers: {'x-long': 'a'.repeat(60000)}});"))
            reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
            writer.write(b"GET / HTTP/1.1\r\nHost: shop.localhost\r\nConnection: close\r\n\r\n")
            assert b"a" * 60_000 in await reader.read()
            writer.close()
            await writer.wait_closed()

    asyncio.run(run())


async def _assets(it: Lab, config: str) -> None:
    version = it.version(
        fetch_module(
            "const u = new URL(request.url); if (u.pathname === '/via') return env.ASSETS.fetch('http://x/a.css');"
            "return new Response('worker ' + u.pathname);"
        ),
        bindings=(Binding("ASSETS", "assets"),),
        assets={
            "/a.css": (b"a{}", "text/css"),
            "/index.html": (b"<p>home", "text/html; charset=utf-8"),
            "/about.html": (b"<p>about", "text/html; charset=utf-8"),
            "/docs/index.html": (b"<p>docs", "text/html; charset=utf-8"),
        },
        assets_config=config,
    )
    await it.plane.activate("shop", ((version, 100.0),))


def test_assets_are_served_before_the_worker(tmp_path: Path) -> None:
    """Files answer by path, /x and /x/ find their pages, a miss and a POST are the worker's; assets are not counted."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            await _assets(it, "{}")
            async with it.client.get(it.url("/a.css"), headers=it.headers()) as answer:
                assert (await answer.text(), answer.content_type) == ("a{}", "text/css")
            for path, text in (("/", "<p>home"), ("/about", "<p>about"), ("/docs/", "<p>docs")):
                assert (await it.get(path))[1] == text
            async with it.client.get(it.url("/about.html"), headers=it.headers(), allow_redirects=False) as answer:
                assert (answer.status, answer.headers["location"]) == (307, "/about")
            assert it.plane.counts("shop", 0) == ()
            assert (await it.get("/nothing"))[1] == "worker /nothing"
            assert (await it.get("/via"))[1] == "a{}"
            async with it.client.post(it.url("/a.css"), headers=it.headers()) as answer:
                assert await answer.text() == "worker /a.css"

    asyncio.run(run())


def test_assets_alone_need_no_worker(tmp_path: Path) -> None:
    """A version of files only serves them, and its own page for what is missing."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            files = {"/index.html": (b"<p>home", "text/html"), "/404.html": (b"<p>lost", "text/html")}
            version = it.version("", assets=files, assets_config='{"not_found_handling": "404-page"}')
            version = replace(version, modules=(), main_module="")
            await it.plane.activate("shop", ((version, 100.0),))
            assert await it.get("/") == (200, "<p>home")
            assert await it.get("/nowhere") == (404, "<p>lost")
            async with it.client.post(it.url("/x"), headers=it.headers()) as answer:
                assert answer.status == 404

    asyncio.run(run())


def test_run_worker_first_is_honoured(tmp_path: Path) -> None:
    """With run_worker_first the worker answers paths that are assets; with patterns only the matching ones."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            await _assets(it, '{"run_worker_first": true}')
            assert (await it.get("/a.css"))[1] == "worker /a.css"
            await _assets(it, '{"run_worker_first": ["/about*"]}')
            assert (await it.get("/about"))[1] == "worker /about"
            assert (await it.get("/a.css"))[1] == "a{}"

    asyncio.run(run())


def test_requests_run_side_by_side(tmp_path: Path) -> None:
    """Each of twenty requests is answered when all of them have come."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            code = (
                "globalThis.come = (globalThis.come ?? 0) + 1; while (globalThis.come < 20) await scheduler.wait(10);"
            )
            await it.deploy(fetch_module(f"{code} return new Response('ok');"))
            answers = await asyncio.gather(*(it.get() for _ in range(20)))
            assert [answer[0] for answer in answers] == [200] * 20

    asyncio.run(run())
