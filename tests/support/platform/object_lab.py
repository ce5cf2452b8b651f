"""The flight recorder's Durable Object in a real workerd, beside a door through which a test plays isolate."""

from __future__ import annotations

import contextlib
import json
import subprocess
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recorder_lab import OBJECT, RECORDER, SECRET

from backout.twin.dataplane.workerd import find_workerd

from polling import PATIENCE_S
from streamed import await_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_DOOR = """
import recorder from "./recorder.js";
export default {
  async fetch(request, env, ctx) {
    const { pathname } = new URL(request.url);
    if (pathname !== "/tail") return env.OBJECT.get(env.OBJECT.idFromName(pathname.slice(1))).fetch(request);
    await recorder.tail(await request.json(), env, ctx);
    return Response.json(null);
  },
};
"""
_CONFIG = """
using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = .mainWorker), (name = "door", worker = .doorWorker),
    (name = "objects", disk = (path = "objects", writable = true))],
  sockets = [(name = "main", address = "127.0.0.1:0", service = "main", http = ()),
    (name = "door", address = "127.0.0.1:0", service = "door", http = ())],
);
const mainWorker :Workerd.Worker = (
  modules = [(name = "object.js", esModule = embed "object.js"),
    (name = "recorder.js", esModule = embed "recorder.js")],
  compatibilityDate = "2026-10-01",
  bindings = [BINDINGS],
  durableObjectNamespaces = [(className = "Counts", uniqueKey = "counts", enableSql = true)],
  durableObjectStorage = (localDisk = "objects"),
);
const doorWorker :Workerd.Worker = (
  modules = [(name = "door.js", esModule = embed "door.js"), (name = "recorder.js", esModule = embed "recorder.js")],
  compatibilityDate = "2026-10-01",
  bindings = [BINDINGS],
);
"""


@dataclass(frozen=True)
class ObjectLab:
    """A running recorder: its own address, and the door's."""

    url: str
    door: str

    def flush(self, script: str, instance: str, seq: int, rows: list[dict[str, Any]], **more: object) -> dict[str, Any]:
        """Hand a batch to the object of a script as an isolate does, and return its answer."""
        batch = {"instance": instance, "seq": seq, "v": 4, "lost": 0, "templates": True, "rows": rows}
        return self._post(script, batch | {"next": {"version": "v1", "s": 64}} | more)

    def tail(self, *events: dict[str, Any]) -> None:
        """Give events to the recorder's own code, as the edge does."""
        self._post("tail", list(events))

    def _post(self, path: str, body: object) -> Any:
        data = json.dumps(body).encode()
        with urllib.request.urlopen(f"{self.door}/{path}", data, timeout=PATIENCE_S) as response:
            return json.load(response)


@contextlib.contextmanager
def running_object(folder: Path, **variables: object) -> Iterator[ObjectLab]:
    """Run the recorder with these variables until the block ends."""
    (folder / "objects").mkdir(parents=True)
    texts = {"SECRET": SECRET, **{name: str(value) for name, value in variables.items()}}
    bindings = [f"(name = {json.dumps(name)}, text = {json.dumps(text)})" for name, text in texts.items()]
    bindings.append('(name = "OBJECT", durableObjectNamespace = (className = "Counts", serviceName = "main"))')
    files = {"object.js": OBJECT, "recorder.js": RECORDER, "door.js": _DOOR}
    files["config.capnp"] = _CONFIG.replace("BINDINGS", ", ".join(bindings))
    for name, text in files.items():
        (folder / name).write_text(text)
    argv = [str(find_workerd()), "serve", "--control-fd=1", "config.capnp"]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(argv, cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            ports: dict[str, int] = {}
            while len(ports) < 2:
                line = await_line(process, "{")
                assert line, (folder / "log").read_text()
                said = json.loads(line)
                ports[said.get("socket", "")] = said.get("port", 0)
            yield ObjectLab(f"http://127.0.0.1:{ports['main']}", f"http://127.0.0.1:{ports['door']}")
        finally:
            process.kill()
