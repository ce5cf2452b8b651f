"""A sealed twin: what a Worker calls outside of the twin's parts is refused and named; no byte leaves."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backout.errors import UsageError
from backout.twin.control.worker import Binding
from backout.twin.dataplane.outside import Outside
from backout.twin.faults import Faults
from backout.twin.outbox import Outbox

from dataplane_lab import fetch_module, lab

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from backout.twin.database.d1 import D1Databases
    from backout.twin.dataplane.capnp import HyperdriveTarget

CALLS = """
    const { fetch: url, connect: address } = Object.fromEntries(new URL(request.url).searchParams);
    try {
      if (url) {
        const answer = await fetch(url, { method: request.method, body: await request.text() || undefined });
        return new Response(await answer.text(), { status: answer.status });
      }
      const socket = connect(address);
      await socket.opened;
      return new Response("connected");
    } catch (error) { return new Response(error.message, { status: 599 }); }
"""
SOURCE = 'import { connect } from "cloudflare:sockets";\n' + fetch_module(CALLS)


@dataclass(frozen=True)
class Parts:
    """The services of a twin, of which only the outbox is there."""

    email_api_url: str

    @property
    def d1(self) -> D1Databases:
        raise UsageError("no D1")

    def r2_gateway_address(self, bucket: str) -> str:
        raise UsageError(f"no bucket {bucket}")

    def hyperdrive(self, hyperdrive_id: str) -> HyperdriveTarget:
        raise UsageError(f"no hyperdrive {hyperdrive_id}")


@contextlib.asynccontextmanager
async def listener() -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server beside the twin that keeps the first bytes of whoever reaches it."""
    heard: list[bytes] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(100))
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], heard


def test_only_the_parts_of_the_twin_are_reached(tmp_path: Path) -> None:
    """By fetch, by a raw connection, by a binding that is not there: refused, listed, and nobody hears of it."""

    async def run() -> None:
        outbox = Outbox(tmp_path / "outbox", Faults(tmp_path / "outbox-faults.json"), token="t")
        await outbox.start(())
        parts = Parts(outbox.http_url)
        outside = Outside(parts)
        try:
            async with listener() as (port, heard), lab(tmp_path, services=parts, outside=outside) as running:
                shop = running.version(SOURCE, bindings=(Binding("KV", "kv_namespace", "1"),))
                await running.plane.activate(shop.script, ((shop, 100.0),))
                status, said = await running.get(f"/?fetch=http://127.0.0.1:{port}/charge%3Fkey=1")
                assert status == 403
                assert "sealed" in said
                assert (await running.get("/?fetch=https://api.example.com/v1/charges"))[0] == 403
                assert (await running.get(f"/?connect=127.0.0.1:{port}"))[0] == 599
                assert (await running.get(f"/?fetch={outbox.http_url}/health"))[0] == 200
                assert not heard
                assert outside.refused == (
                    f"GET http://127.0.0.1:{port}/charge",
                    "GET https://api.example.com/v1/charges",
                    f"CONNECT 127.0.0.1:{port}",
                )
        finally:
            await outside.close()
            await outbox.stop()

    asyncio.run(run())


def test_an_email_is_handed_on(tmp_path: Path) -> None:
    """A call to the twin's own outbox arrives there as it was sent."""

    async def run() -> None:
        outbox = Outbox(tmp_path / "outbox", Faults(tmp_path / "outbox-faults.json"), token="t")
        await outbox.start(())
        outside = Outside(Parts(outbox.http_url))
        source = fetch_module(
            f"""
            const body = JSON.stringify({{ from: "a@example.com", to: "b@example.com", subject: "s", text: "t" }});
            const answer = await fetch("{outbox.http_url}/emails", {{
              method: "POST", body, headers: {{ authorization: "Bearer k", "content-type": "application/json" }},
            }});
            return new Response(await answer.text(), {{ status: answer.status }});
            """
        )
        try:
            async with lab(tmp_path, services=Parts(outbox.http_url), outside=outside) as running:
                await running.deploy(source)
                status, said = await running.get()
                assert status < 300, said
                (file,) = (tmp_path / "outbox").glob("*.json")
                assert json.loads(file.read_text())["subject"] == "s"
                assert outside.refused == ()
        finally:
            await outside.close()
            await outbox.stop()

    asyncio.run(run())
