"""The twin's real services and a real workerd for tests, each ended with the test."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from kept import template

from backout.providers.child import find_free_ports
from backout.twin.faults import Fault, FaultKind, Faults
from backout.twin.services import Services

from polling import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

T = TypeVar("T")
WORKERD = Path(__file__).parents[3] / "node_modules/@cloudflare/workerd-linux-64/bin/workerd"


class Loop:
    """An event loop in a thread of its own, for tests that block."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[object, object, T], timeout_s: float = PATIENCE_S) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)

    def close(self) -> None:
        self.run(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()


class RunningServices:
    """The services, started; `faults` works as in the twin."""

    def __init__(self, directory: Path) -> None:
        self.loop = Loop()
        self.faults = Faults(directory / "faults.json")
        self.services = Services(directory / "services", self.faults, cache_directory=template())
        self.loop.run(self.services.start())

    def break_(self, kind: FaultKind, target: str | None = None) -> None:
        self.faults.set(Fault(kind, target=target))
        self.loop.run(self.services.apply_faults())

    def mend(self) -> None:
        self.faults.clear()
        self.loop.run(self.services.apply_faults())

    def hyperdrive_of(self, identity: str) -> object:
        async def ask() -> object:
            return self.services.hyperdrive(identity)

        return self.loop.run(ask())

    def r2_address(self, bucket: str) -> str:
        async def ask() -> str:
            return self.services.r2_gateway_address(bucket)

        return self.loop.run(ask())

    def stop(self) -> None:
        self.loop.run(self.services.stop())
        self.loop.close()


@contextlib.contextmanager
def running_services(directory: Path) -> Iterator[RunningServices]:
    """Run the services in `directory`."""
    running = RunningServices(directory)
    try:
        yield running
    finally:
        running.stop()


class Worker:
    """A Worker in a real workerd that does what a test asks: `call(body)` is its one route."""

    def __init__(self, port: int) -> None:
        self._port = port

    def call(self, body: object) -> object:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_S)
        try:
            connection.request("POST", "/", json.dumps(body))
            response = connection.getresponse()
            content = response.read().decode()
        finally:
            connection.close()
        assert response.status == 200, content
        return json.loads(content)


@contextlib.contextmanager
def running_worker(module: str, bindings: str, services: str) -> Iterator[Worker]:
    """Run `module` in workerd with capnp text for its bindings and the external services they name."""
    port = find_free_ports(1)[0]
    config = f"""
using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = .main), {services}],
  sockets = [(name = "http", address = "127.0.0.1:{port}", http = (), service = "main")]);
const main :Workerd.Worker = (
  modules = [(name = "index.js", esModule = embed "index.js")],
  compatibilityDate = "2026-10-01", compatibilityFlags = ["nodejs_compat"],
  bindings = [{bindings}]);
"""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "index.js").write_text(module, encoding="utf-8")
        (Path(folder) / "config.capnp").write_text(config, encoding="utf-8")
        with subprocess.Popen((WORKERD, "serve", Path(folder) / "config.capnp")) as process:
            try:
                until(lambda: _answers(port) or process.poll() is not None, what="workerd answers")
                yield Worker(port)
            finally:
                process.kill()


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1.0)
    try:
        connection.request("GET", "/")
        connection.getresponse().read()
    except OSError:
        return False
    finally:
        connection.close()
    return True
