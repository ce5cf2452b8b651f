"""Versions in real workerd processes: modules, bindings, start-up errors, and what never touches the disk."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from backout.errors import UsageError
from backout.twin.control.worker import Binding, StartupError
from backout.twin.dataplane.workerd import find_workerd

from dataplane_lab import ESM, fetch_module, lab
from polling import until
from streamed import await_line

CANARY = "canary-7f3a"
# (module (func (export "three") (result i32) i32.const 3))
WASM = bytes.fromhex("0061736d010000000105016000017f030201000709010574687265650000" + "0a06010400" + "41030b")


def test_start_up_error_carries_workerds_own_text(tmp_path: Path) -> None:
    """A throw at module level fails validation with the message and the place, and leaves nothing running."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            with pytest.raises(StartupError, match=r"^Uncaught Error: boom 42\n  at index\.js:1:7$"):
                await it.plane.validate(it.version("throw new Error('boom 42');", flags=("nodejs_compat",)))
            with pytest.raises(StartupError, match="SyntaxError"):
                await it.plane.validate(it.version("export default {"))
            assert it.plane.pids == {}
            assert _folders(tmp_path) == []

    asyncio.run(run())


def _folders(folder: Path) -> list[Path]:
    return list((folder / "versions").glob("*"))


def test_failed_activation_changes_nothing(tmp_path: Path) -> None:
    """When one version of a deployment does not start, the old deployment keeps answering and no process is left."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            await it.deploy(fetch_module("return new Response('old');"))
            good, bad = it.version(fetch_module("return new Response('new');")), it.version("throw new Error('x');")
            with pytest.raises(StartupError):
                await it.plane.activate("shop", ((good, 50.0), (bad, 50.0)))
            assert {(await it.get())[1] for _ in range(10)} == {"old"}
            assert len(it.plane.pids) == 1

    asyncio.run(run())


def test_validated_version_is_the_one_that_goes_live(tmp_path: Path) -> None:
    """Activation takes over the process that validation started."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            version = it.version(fetch_module("return new Response('ok');"))
            assert await it.plane.validate(version) >= 1
            before = it.plane.pids
            await it.plane.activate("shop", ((version, 100.0),))
            assert it.plane.pids == before

    asyncio.run(run())


def test_simple_bindings_and_every_kind_of_module(tmp_path: Path) -> None:
    """Text, JSON, secrets and metadata arrive as the API describes; modules in folders import as what they are."""
    source = """
      import helper from "./lib/helper.js"; import text from "./lib/note.txt"; import data from "./d.bin";
      import wasm from "./m.wasm"; import config from "./c.json"; import { EmailMessage } from "cloudflare:email";
      export default { async fetch(request, env) { return Response.json({
        helper: helper(), text, data: new Uint8Array(data)[0], config: config.a,
        wasm: new WebAssembly.Instance(wasm).exports.three(), mail: new EmailMessage("a@x", "b@x", "r").to,
        plain: env.PLAIN, json: env.JSON.deep, secret: env.SECRET, meta: env.META }); } };
    """

    async def run() -> None:
        async with lab(tmp_path) as it:
            version = it.version(
                source,
                bindings=(
                    Binding("PLAIN", "plain_text", 'quo"te \\ \n é'),
                    Binding("JSON", "json", '{"deep": [1, "zwei"]}'),
                    Binding("SECRET", "secret_text", CANARY),
                    Binding("META", "version_metadata"),
                ),
                modules=(
                    ("lib/helper.js", ESM, b"export default () => 'helped';"),
                    ("lib/note.txt", "text/plain", b"a note"),
                    ("d.bin", "application/octet-stream", b"\x07"),
                    ("m.wasm", "application/wasm", WASM),
                    ("c.json", "application/json", b'{"a": 5}'),
                    ("index.js.map", "application/source-map", b"{}"),
                ),
            )
            await it.plane.activate("shop", ((version, 100.0),))
            answer = json.loads((await it.get())[1])
            meta = answer.pop("meta")
            assert (meta["id"], meta["tag"], meta["timestamp"][-1]) == (version.id, "v1", "Z")
            assert answer == {
                "helper": "helped",
                "text": "a note",
                "data": 7,
                "config": 5,
                "wasm": 3,
                "mail": "b@x",
                "plain": 'quo"te \\ \n é',
                "json": [1, "zwei"],
                "secret": CANARY,
            }

    asyncio.run(run())


def test_secrets_are_neither_on_disk_nor_in_the_command_line(tmp_path: Path) -> None:
    """A secret's value is in no file of the twin and in no argv; the configuration is the owner's alone."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            version = it.version(
                fetch_module("return new Response(env.S);"), bindings=(Binding("S", "secret_text", CANARY),)
            )
            await it.plane.activate("shop", ((version, 100.0),))
            assert (await it.get())[1] == CANARY
            _assert_hidden(tmp_path, next(iter(it.plane.pids.values())))

    asyncio.run(run())


def _assert_hidden(folder: Path, pid: int) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert [path for path in files if CANARY.encode() in path.read_bytes()] == []
    assert [path.stat().st_mode & 0o777 for path in files if path.name == "config.capnp"] == [0o600]
    assert CANARY.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert CANARY.encode() in Path(f"/proc/{pid}/environ").read_bytes()


@pytest.mark.parametrize(
    ("kind", "value", "use", "said"),
    [
        ("kv_namespace", "id", "await env.B.get('k')", "kv_namespace is not emulated"),
        ("d1", "id", "await env.B.prepare('select 1').run()", "this twin has no D1"),
        ("queue", "q", "await env.B.send({})", "queue is not emulated"),
        ("ai", "", "await env.B.fetch('http://x/').then((r) => { if (!r.ok) throw new Error(r.statusText) })", "ai is"),
        ("r2_bucket", "models", "await env.B.get('k')", "this twin has no bucket models"),
        ("hyperdrive", "id", "throw new Error(env.B.connectionString)", "no-database-in-this-twin"),
        ("send_email", "", "await env.B.send({from:'a@x',to:'b@x',subject:'s'})", "without an outbox"),
    ],
)
def test_what_is_not_there_fails_at_its_use_and_says_so(
    tmp_path: Path, kind: str, value: str, use: str, said: str
) -> None:
    """A version with a binding that this twin does not serve starts; using the binding names what is missing."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            body = f"try {{ {use}; return new Response('worked'); }} catch (e) {{ return new Response(String(e)); }}"
            version = it.version(fetch_module(body), bindings=(Binding("B", kind, value),))
            await it.plane.activate("shop", ((version, 100.0),))
            assert said in (await it.get())[1]

    asyncio.run(run())


def test_durable_object_keeps_its_state(tmp_path: Path) -> None:
    """A Durable Object class of the Worker is reachable and counts on."""
    source = """
      import { DurableObject } from "cloudflare:workers";
      export class Counter extends DurableObject {
        async next() { const n = ((await this.ctx.storage.get("n")) ?? 0) + 1;
                       await this.ctx.storage.put("n", n); return n; } }
      export default { async fetch(request, env) {
        return new Response(String(await env.C.get(env.C.idFromName("a")).next())); } };
    """

    async def run() -> None:
        async with lab(tmp_path) as it:
            version = it.version(source, bindings=(Binding("C", "durable_object_namespace", "Counter"),))
            await it.plane.activate("shop", ((version, 100.0),))
            assert [(await it.get())[1] for _ in range(3)] == ["1", "2", "3"]

    asyncio.run(run())


def test_service_binding_reaches_the_other_worker_and_is_counted_there(tmp_path: Path) -> None:
    """A service binding goes through the router, so that the other Worker's split and counts hold for it too."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            (mail,) = await it.deploy(
                fetch_module(
                    "const ours = [...request.headers.keys()].filter((k) => k.startsWith('x-backout'));"
                    "return new Response(`mail got ${await request.text()} with ${ours}`);"
                ),
                script="mail",
            )
            body = "return env.MAIL.fetch('https://any.example/x', {method: 'POST', body: 'hello'});"
            shop = it.version(fetch_module(body), bindings=(Binding("MAIL", "service", "mail"),))
            await it.plane.activate("shop", ((shop, 100.0),))
            assert await it.get() == (200, "mail got hello with x-backout-req")
            counted = it.plane.counts("mail", 0)  # of two seconds, where it began in the one and ended in the other
            assert ({row.version for row in counted}, sum(row.requests for row in counted)) == ({mail.id}, 1)

    asyncio.run(run())


def test_nothing_outlives_a_killed_twin(tmp_path: Path) -> None:
    """When the twin is killed with -9 the kernel ends its workerd processes; the next start removes what is left."""
    program = f"""
import asyncio, pathlib, sys
sys.path[:0] = {sys.path!r}
from dataplane_lab import fetch_module, lab
async def main():
    async with lab(pathlib.Path({str(tmp_path)!r})) as it:
        await it.deploy(fetch_module("return new Response('x');"))
        print(*it.plane.pids.values(), flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as twin:
        pid = int(await_line(twin, ""))
        os.kill(pid, 0)
        twin.send_signal(signal.SIGKILL)
        twin.wait()
    until(lambda: not _runs(pid), 5.0, "the end of workerd")
    left = Path((tmp_path / "runtime").read_text(encoding="utf-8"))
    assert left.is_dir()

    async def again() -> None:
        async with lab(tmp_path) as it:
            assert not _exists(left)
            await it.deploy(fetch_module("return new Response('up again');"))
            assert await it.get() == (200, "up again")

    asyncio.run(again())
    assert not (tmp_path / "runtime").exists()


def _exists(path: Path) -> bool:
    return path.exists()


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_named_binary_that_is_missing_is_a_usage_error(tmp_path: Path) -> None:
    """A wrong path to workerd is told with the path."""
    with pytest.raises(UsageError, match="no workerd binary there"):
        find_workerd(tmp_path / "nowhere")
