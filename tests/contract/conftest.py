"""The sides that the contract suites of the platform's ports run on."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from caddy_lab import caddy_host
from haproxy_lab import haproxy_host
from kept import furnish
from scripted_telemetry import TelemetryApi

from backout.twin import lifecycle

from platform_sides import CaddySide, HaproxySide, Home, Keeper, MemorySide, Side, TwinSide
from scripted_server import scripted_server
from twin_harness import running_api

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.twin.lifecycle import TwinStatus

    from scripted_server import ScriptedServer


@pytest.fixture(params=["memory", "cloudflare"])
def side(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Side]:
    """An application without any version yet."""
    if request.param == "memory":
        yield MemorySide()
        return
    with running_api(tmp_path) as api:
        yield TwinSide(api)


@pytest.fixture(params=["memory", "cloudflare", "caddy"])
def keeper(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Keeper]:
    """An application without any version yet, on each platform that keeps its secrets."""
    if request.param == "caddy":
        with caddy_host(tmp_path) as host:
            yield CaddySide(host)
    elif request.param == "cloudflare":
        with running_api(tmp_path) as api:
            yield TwinSide(api)
    else:
        yield MemorySide()


@pytest.fixture(params=["memory", "cloudflare", "caddy", "command"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Home]:
    """An application without any version yet, on each platform."""
    if request.param == "caddy":
        with caddy_host(tmp_path) as caddy:
            yield CaddySide(caddy)
    elif request.param == "command":
        with haproxy_host(tmp_path) as haproxy:
            yield HaproxySide(haproxy)
    elif request.param == "cloudflare":
        with running_api(tmp_path) as api:
            yield TwinSide(api)
    else:
        yield MemorySide()


@pytest.fixture(scope="session")
def twin() -> Iterator[TwinStatus]:
    """A real twin: its API, its workerd processes, its Postgres."""
    with tempfile.TemporaryDirectory(prefix="contract-") as folder:
        directory = Path(folder, "twin")
        running = lifecycle.start_twin(furnish(directory))
        try:
            yield running
        finally:
            lifecycle.stop_twin(directory)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A server that answers what a test says."""
    with scripted_server() as running:
        yield running


@pytest.fixture
def cloud(server: ScriptedServer) -> TelemetryApi:
    """The telemetry as Cloudflare's is documented and reported to be, without any invocation."""
    made = TelemetryApi()
    server.will(made.answers(server))
    return made
