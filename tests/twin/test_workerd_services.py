"""Bindings that reach the twin's services, with the smallest servers that can stand behind them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from backout.errors import UsageError
from backout.twin.control.worker import Binding
from backout.twin.faults import Fault, FaultKind, Faults
from backout.twin.outbox import Outbox

from dataplane_lab import fetch_module, lab

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from backout.twin.database.d1 import D1Databases


@dataclass(frozen=True)
class Target:
    host: str
    port: int
    database: str = "app"
    user: str = "app"
    password: str = "canary"


@dataclass(frozen=True)
class FakeServices:
    """Answers what a test has put up; everything else is a UsageError, as from the real ones."""

    email_api_url: str = "http://127.0.0.1:9"
    target: Target | None = None
    gateway: str | None = None
    databases: D1Databases | None = None

    @property
    def d1(self) -> D1Databases:
        assert self.databases is not None
        return self.databases

    def r2_gateway_address(self, bucket: str) -> str:
        if self.gateway is None or bucket != "models":
            raise UsageError(f"no bucket {bucket}")
        return self.gateway

    def hyperdrive(self, hyperdrive_id: str) -> Target:
        if self.target is None or hyperdrive_id != "h1":
            raise UsageError(f"no hyperdrive {hyperdrive_id}")
        return self.target


@contextlib.asynccontextmanager
async def _gateway() -> AsyncIterator[str]:
    """Serve one stored object by workerd's R2 protocol on a unix socket."""

    async def get(request: web.Request) -> web.Response:
        wanted = json.loads(request.headers["CF-R2-Request"])
        if wanted["object"] != "bracket.stl":
            error = json.dumps({"version": 0, "v4code": 10007, "message": "not found"})
            return web.Response(status=404, headers={"CF-R2-Error": error})
        meta = json.dumps(
            {
                "name": "bracket.stl",
                "version": "v",
                "size": "5",
                "etag": "e",
                "uploaded": "1",
                "httpFields": {},
                "customFields": [],
                "checksums": {},
            }
        ).encode()
        return web.Response(body=meta + b"solid", headers={"CF-R2-Metadata-Size": str(len(meta))})

    application = web.Application()
    application.router.add_get("/{path:.*}", get)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        with tempfile.TemporaryDirectory(prefix="g-", dir="/tmp") as folder:  # a socket's path holds 107 bytes at most
            await web.UnixSite(runner, f"{folder}/s").start()
            yield f"unix:{folder}/s"
    finally:
        await runner.cleanup()


def test_email_lands_in_the_outbox(tmp_path: Path) -> None:
    """A send_email binding takes an object or an EmailMessage; both are captured; an outage is the caller's error."""
    source = 'import { EmailMessage } from "cloudflare:email";' + fetch_module(
        """
            const raw = "From: a@example.com\\r\\nSubject: hello\\r\\n there\\r\\n\\r\\nthe text";
            try {
              await env.MAIL.send({from: "a@example.com", to: "b@example.com", subject: "plain", text: "t"});
              await env.MAIL.send(new EmailMessage("a@example.com", "c@example.com", raw));
              return new Response("sent");
            } catch (error) { return new Response(error.message, {status: 502}); }
            """
    )

    async def run() -> None:
        faults = Faults(tmp_path / "outbox-faults.json")
        outbox = Outbox(tmp_path / "outbox", faults)
        await outbox.start()
        try:
            async with lab(tmp_path, services=FakeServices(outbox.http_url)) as it:
                version = it.version(source, bindings=(Binding("MAIL", "send_email"),))
                await it.plane.activate("shop", ((version, 100.0),))
                assert await it.get() == (200, "sent")
                first, second = outbox.messages()
                assert (first["to"], first["subject"]) == ("b@example.com", "plain")
                assert (second["to"], second["subject"]) == ("c@example.com", "hello there")
                assert second["text"] == "the text"
                faults.set(Fault(FaultKind.SERVICE_DOWN, target="email"))
                status, text = await it.get()
                assert (status, "503" in text) == (502, True)
        finally:
            await outbox.stop()

    asyncio.run(run())


def test_hyperdrive_connects_to_its_target(tmp_path: Path) -> None:
    """The binding has the target's names and reaches it by a plain socket; the answer comes back."""
    body = """
      const { host, port, database, user, password } = env.DB;
      const socket = env.DB.connect(); const writer = socket.writable.getWriter();
      await writer.write(new TextEncoder().encode("ping\\n"));
      const { value } = await socket.readable.getReader().read();
      return Response.json({ said: new TextDecoder().decode(value), database, user, password });
    """

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"echo " + await reader.readline())
        await writer.drain()
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        target = Target("127.0.0.1", server.sockets[0].getsockname()[1])
        async with server, lab(tmp_path, services=FakeServices(target=target)) as it:
            version = it.version(fetch_module(body), bindings=(Binding("DB", "hyperdrive", "h1"),))
            await it.plane.activate("shop", ((version, 100.0),))
            answer = json.loads((await it.get())[1])
            assert answer == {"said": "echo ping\n", "database": "app", "user": "app", "password": "canary"}

    asyncio.run(run())


def test_r2_binding_speaks_to_its_gateway(tmp_path: Path) -> None:
    """A bucket binding reads through the gateway's unix socket; a miss is null."""
    body = """
      const found = await env.MODELS.get("bracket.stl"); const missing = await env.MODELS.get("other");
      return new Response(`${await found.text()} ${found.size} ${missing}`);
    """

    async def run() -> None:
        async with _gateway() as address, lab(tmp_path, services=FakeServices(gateway=address)) as it:
            version = it.version(fetch_module(body), bindings=(Binding("MODELS", "r2_bucket", "models"),))
            await it.plane.activate("shop", ((version, 100.0),))
            assert await it.get() == (200, "solid 5 null")

    asyncio.run(run())


def test_a_binding_that_the_services_refuse_fails_at_its_use(tmp_path: Path) -> None:
    """A version whose bucket the services do not know starts, and the error names the bucket."""
    body = "try { await env.B.get('k'); } catch (e) { return new Response(String(e)); }"

    async def run() -> None:
        async with lab(tmp_path, services=FakeServices()) as it:
            version = it.version(fetch_module(body), bindings=(Binding("B", "r2_bucket", "gone"),))
            await it.plane.activate("shop", ((version, 100.0),))
            assert "bucket gone" in (await it.get())[1]

    asyncio.run(run())
