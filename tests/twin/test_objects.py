"""Durable Objects in processes of their own: one for all versions, and the code that it has after a deployment."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import pytest

from backout.twin.control.worker import Binding, StartupError

from dataplane_lab import lab, until

if TYPE_CHECKING:
    from pathlib import Path

    from backout.twin.control.worker import WorkerVersion

    from dataplane_lab import Lab

RESET = "Durable Object reset because its code was updated."
ROOM = Binding("ROOM", "durable_object_namespace", "Room")


def source(label: str) -> str:
    """Return a Worker whose object `name` tells its label, and how often it was asked: `label of the object, count`."""
    return f"""
      import {{ DurableObject }} from "cloudflare:workers";
      const LABEL = "{label}";
      export class Room extends DurableObject {{
        async next() {{
          const count = ((await this.ctx.storage.get("count")) ?? 0) + 1;
          await this.ctx.storage.put("count", count);
          return `${{LABEL}} ${{count}}`;
        }}
        async wait() {{ this.waits = true; await scheduler.wait(60_000); return "waited"; }}
        isWaiting() {{ return String(this.waits === true); }}
        tools() {{ return {{ add: (one, other) => one + other }}; }}
        fetch(request) {{
          if (request.headers.get("upgrade") === null) return new Response(`${{LABEL}} got ${{request.method}}`);
          const [client, server] = Object.values(new WebSocketPair());
          server.accept();
          server.addEventListener("message", ({{ data }}) => server.send(`${{LABEL}} heard ${{data}}`));
          return new Response(null, {{ status: 101, webSocket: client }});
        }}
      }}
      async function ask(pathname, room, request) {{
        if (pathname.endsWith("/wait")) return new Response(await room.wait());
        if (pathname.endsWith("/waiting")) return new Response(await room.isWaiting());
        if (pathname.endsWith("/add")) {{
          using tools = await room.tools();
          return new Response(await tools.add(2, 3));
        }}
        if (pathname.endsWith("/fetch")) return room.fetch(request);
        if (pathname.endsWith("/held")) {{
          await room.next();
          await scheduler.wait(1500);
          return new Response(await room.next());
        }}
        return new Response(await room.next());
      }}
      export default {{ async fetch(request, env) {{
        const {{ pathname }} = new URL(request.url);
        const room = env.ROOM.get(env.ROOM.idFromName(pathname.split("/")[1]));
        try {{
          const answer = await ask(pathname, room, request);
          if (answer.webSocket) return answer;
          return new Response(`${{await answer.text()}} by ${{LABEL}}`);
        }} catch (error) {{
          return new Response(`${{error.message}} ${{error.durableObjectReset}}`, {{ status: 500 }});
        }}
      }} }};
    """


def version(it: Lab, label: str) -> WorkerVersion:
    return it.version(source(label), bindings=(ROOM,))


def test_every_version_reaches_the_same_object(tmp_path: Path) -> None:
    """What one version made an object remember, another finds; fetch, RPC functions and WebSockets are carried."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            one, two = version(it, "one"), version(it, "two")
            await it.plane.activate("shop", ((one, 50.0), (two, 50.0)))
            said = [(await it.get("/a"))[1].split() for _ in range(20)]
            assert [int(count) for _, count, _, _ in said] == list(range(1, 21))
            assert len({label for label, *_ in said}) == 1  # of an object; a deployment gives it one version
            assert {by for *_, by in said} == {"one", "two"}
            hosts = {(await it.get(f"/o{n}"))[1].split()[0] for n in range(20)}
            assert hosts == {"one", "two"}
            assert (await it.get("/a/add"))[1].startswith("5 by")
            assert (await it.get("/a/fetch"))[1].startswith(f"{said[0][0]} got GET")
            async with it.client.ws_connect(it.url("/a/fetch"), headers=it.headers()) as socket:
                await socket.send_str("hello")
                assert await socket.receive_str() == f"{said[0][0]} heard hello"

    asyncio.run(run())


def test_a_used_object_keeps_its_code_until_the_delay_is_over(tmp_path: Path) -> None:
    """The default is five minutes; an object that was not used begins with the new code, and all keep their storage."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            one, two = version(it, "one"), version(it, "two")
            await it.plane.activate("shop", ((one, 100.0),))
            assert (await it.get("/a"))[1] == "one 1 by one"
            await it.plane.activate("shop", ((two, 100.0),))
            assert (await it.get("/a"))[1] == "one 2 by two"
            assert (await it.get("/b"))[1] == "two 1 by two"
            three = version(it, "three")
            await it.plane.activate("shop", ((three, 100.0),), objects_delay_s=0.2)  # the first to end wins

            async def has_changed() -> bool:
                return (await it.get("/a"))[1].startswith("three")

            await until(has_changed)
            assert (await it.get("/b"))[1].startswith("three")

            async def only_the_newest_hosts() -> bool:
                return [what.split()[1] for what in it.plane.pids if what.endswith("objects")] == [three.id]

            await until(only_the_newest_hosts)

    asyncio.run(run())


def test_an_immediate_update_resets_what_is_under_way(tmp_path: Path) -> None:
    """Calls that wait fail at once, and so does the next call by a stub from before; what is stored stays."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            one, two = version(it, "one"), version(it, "two")
            await it.plane.activate("shop", ((one, 100.0),))
            assert (await it.get("/a"))[1] == "one 1 by one"
            waits = asyncio.create_task(it.get("/a/wait"))
            holds = asyncio.create_task(it.get("/a/held"))

            async def has_begun() -> bool:
                return int((await it.get("/a"))[1].split()[1]) >= 3

            await until(has_begun)
            await until(lambda: _is_waiting(it))
            await it.plane.activate("shop", ((two, 100.0),), objects_delay_s=0.0)
            assert await waits == (500, f"{RESET} true")
            assert await holds == (500, f"{RESET} true")
            assert (await it.get("/a"))[1].startswith("two ")
            assert int((await it.get("/a"))[1].split()[1]) >= 5

    asyncio.run(run())


def test_what_objects_do_is_apart_from_requests(tmp_path: Path) -> None:
    """A tail shows an object's event beside that of the request, whose headers it may have; counts have it apart."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            await it.plane.activate("shop", ((version(it, "one"), 100.0),))
            await it.plane.open_tail("shop", None)

            async def read() -> list[tuple[str, str, bool]]:
                """Return the (model, outcome, whether it has an id of the router) of each event."""
                async with it.client.get(it.url("/twin/v1/events?script=shop&limit=1000")) as answer:
                    events = (await answer.json())["events"]
                return [(each["executionModel"], each["outcome"], "x-backout-req" in str(each)) for each in events]

            async def shows_all() -> bool:
                await it.get("/a/fetch")  # at first the Worker does not know of the tail
                return bool(await read())

            await until(shows_all)
            assert (await it.get("/a/fetch"))[0] == 200
            await asyncio.gather(it.get("/a/wait"), _update_when_it_waits(it))

            async def has_come() -> bool:
                return ("durableObject", "exception", False) in await read()

            await until(has_come)
            found = await read()
            assert set(found) == {
                *((model, "ok", False) for model in ("stateless", "durableObject")),
                ("durableObject", "exception", False),
            }
            assert found.count(("durableObject", "exception", False)) == 1  # what resets an object is no event
            calls = [set(row.objects) for row in it.plane.counts("shop", 0)]
            assert set.union(*calls) == {"fetch ok 200", "rpc ok", "rpc exception"}

    asyncio.run(run())


async def _is_waiting(it: Lab) -> bool:
    return (await it.get("/a/waiting"))[1].startswith("true")


async def _update_when_it_waits(it: Lab) -> None:
    await until(lambda: _is_waiting(it))
    await it.plane.activate("shop", ((version(it, "two"), 100.0),), objects_delay_s=0.0)


def test_objects_outlive_their_process(tmp_path: Path) -> None:
    """A process that dies comes back with what its objects stored, and so does the twin."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            one = version(it, "one")
            await it.plane.activate("shop", ((one, 100.0),))
            assert (await it.get("/a"))[1] == "one 1 by one"
            os.kill(it.plane.pids[f"shop {one.id} objects"], signal.SIGKILL)

            async def answers() -> bool:
                return (await it.get("/a"))[0] == 200

            await until(answers)
            assert (await it.get("/a"))[1] == "one 3 by one"
        async with lab(tmp_path) as it:
            await it.plane.activate("shop", ((version(it, "one"), 100.0),))
            assert (await it.get("/a"))[1] == "one 4 by one"
            await it.plane.remove("shop")
            await it.plane.activate("shop", ((version(it, "one"), 100.0),))
            assert (await it.get("/a"))[1] == "one 1 by one"

    asyncio.run(run())


def test_an_object_of_another_worker(tmp_path: Path) -> None:
    """A binding may name the Worker that has the class; without it, and without the class, that is said."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            room = Binding("ROOM", "durable_object_namespace", "Room@chat")
            await it.plane.activate("shop", ((it.version(source("shop"), bindings=(room,)), 100.0),))
            assert "the Worker 'chat' with Durable Objects" in (await it.get("/a"))[1]
            await it.plane.activate("chat", ((it.version(source("chat"), script="chat", bindings=(ROOM,)), 100.0),))
            assert (await it.get("/a"))[1] == "chat 1 by shop"
            assert (await it.get("/a", script="chat"))[1] == "chat 2 by chat"
            nobody = it.version(source("x"), bindings=(Binding("N", "durable_object_namespace", "Nobody"),))
            with pytest.raises(StartupError, match="The Durable Object class Nobody is not exported"):
                await it.plane.validate(nobody)

    asyncio.run(run())
