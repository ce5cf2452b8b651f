"""A real Caddy for tests: an admin socket, one site with an access log, and the route that backout switches."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import sysconfig
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from backout.errors import BackoutError
from backout.model.release import Release, ReleaseNote
from backout.model.secrets import SecretValues
from backout.providers.caddy.agent import accepts
from backout.providers.caddy.deployments import CaddyDeployments
from backout.providers.caddy.host import HostReleases
from backout.providers.caddy.hosts import Host
from backout.providers.caddy.ledger import Ledger
from backout.providers.caddy.machine import LocalMachine
from backout.providers.caddy.maintenance import CaddyMaintenance
from backout.providers.caddy.processes import OwnProcesses
from backout.providers.caddy.releases import ALONE, ReleaseFolder
from backout.providers.caddy.route import LIVE, SOCKET, make_maintenance_server, make_route, make_show_server
from backout.providers.caddy.slots import LiveSlots
from backout.providers.clock import SystemClock

from polling import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from backout.providers.caddy.processes import Processes

    Fails = Callable[[str, Mapping[str, object]], Exception | None]

ROUTE: Final = "backout-shop"
SERVER: Final = """import http.server, os, pathlib
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        answer = pathlib.Path("code.txt").read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


def find_caddy() -> Path:
    """Return the program that the wheel brought."""
    packages = [Path(each, ".data/scripts/caddy") for each in sys.path]  # also those behind a copy's environment
    places = (Path(sysconfig.get_path("scripts"), "caddy"), *packages)
    return next(each for each in places if each.is_file())


def find_free_ports(count: int) -> tuple[int, int]:
    """Return the first and the last of some ports in a row on which nobody listens, apart from those of clients."""
    while True:
        first = random.randrange(12000, 32000 - count)  # noqa: S311 - any will do
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first, first + count - 1


@dataclass
class CaddyHost:
    """A host: Caddy, a folder of releases, and the ports of the platform on them."""

    folder: Path
    url: str
    releases: ReleaseFolder
    ledger: Ledger
    processes: OwnProcesses
    ports: tuple[int, int]
    caddy: subprocess.Popen[str]
    made: list[Release] = field(default_factory=list)

    @property
    def deployments(self) -> CaddyDeployments:
        """Return the port, as another process would open it."""
        return self.make_deployments(self.processes)

    def make_deployments(self, processes: Processes, *, starts_within_s: float = 60.0) -> CaddyDeployments:
        """Return the port with other processes."""
        releases = self.make_releases(processes, starts_within_s=starts_within_s)
        return CaddyDeployments(self._list_hosts(processes), releases, SystemClock(), author="lab")

    def make_releases(self, processes: Processes, *, starts_within_s: float = 60.0) -> HostReleases:
        """Return the port Releases."""
        hosts = self._list_hosts(processes)
        return HostReleases(hosts, SystemClock(), author="lab", starts_within_s=starts_within_s)

    def make_maintenance(self) -> CaddyMaintenance:
        """Return the port Maintenance."""
        hosts = self._list_hosts(self.processes)
        return CaddyMaintenance(hosts, self.make_releases(self.processes), self.deployments)

    def _list_hosts(self, processes: Processes) -> tuple[Host, ...]:
        return (Host(self.releases, self.ledger, LiveSlots(self.releases.folder), processes),)

    def stop_caddy(self) -> None:
        """End Caddy, as the host does when it goes down."""
        self.caddy.terminate()
        self.caddy.communicate()

    def make_live_by_hand(self, release: str) -> None:
        """Replace the link to the live slots as the line on the card does."""
        line = f"ln -sfn {release}/{ALONE} .by-hand && mv -T .by-hand {LIVE}"
        subprocess.run(["/bin/sh", "-c", line], cwd=self.releases.folder, check=True)

    def remove_tag(self) -> None:
        """Have the application not exist: the folder is none of releases any more."""
        (self.releases.folder / ".tag").unlink()

    def push(
        self, code: str, *, message: str = "", tag: str = "", environment: dict[str, str] | None = None
    ) -> Release:
        """Push a release whose pages are `code`; the environment is the newest one's unless given."""
        source = self.folder / "source"
        source.mkdir(exist_ok=True)
        (source / "server.py").write_text(SERVER)
        (source / "code.txt").write_text(code)
        newest = self.releases.list()[:1]
        values = self.releases.read_environment(newest[0].id) if newest and environment is None else None
        note = ReleaseNote(tag=tag, message=message)
        with self.ledger.lock():
            made = self.releases.push(
                source, note, values or SecretValues(environment or {}), SystemClock().now(), author="lab"
            )
        self.made.append(made)
        return made


class Failing(LocalMachine):
    """This host under a name; `fails` returns what a question ends with, None: it is answered."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.fails: Fails = lambda _deed, _arguments: None

    def _do(self, deed: str, /, **arguments: object) -> Any:
        error = self.fails(deed, arguments)
        if error is not None:
            raise error
        return super()._do(deed, **arguments)

    def put(self, folder: Path, to: Any) -> None:
        """Copy a folder."""
        if (error := self.fails("put", {"to": str(to)})) is not None:
            raise error
        super().put(folder, to)


@contextmanager
def caddy_host(folder: Path, *, ports: int = 20, prepared: bool = True) -> Iterator[CaddyHost]:
    """Run Caddy with an application that has no release yet.

    Args:
        prepared: whether its folder is one of releases already.
    """
    releases = folder / "releases"
    site, own = find_free_ports(1)[0], find_free_ports(ports)
    store = ReleaseFolder(releases, own)
    if prepared:
        store.prepare()
    else:
        releases.mkdir()  # Caddy's socket lies there
    (folder / "caddy.json").write_text(json.dumps(make_config(folder, f"127.0.0.1:{site}", own)))
    processes = OwnProcesses(store, f"{sys.executable} -S -E server.py")
    with running_caddy(folder) as caddy:
        host = CaddyHost(folder, f"http://127.0.0.1:{site}", store, Ledger(releases), processes, own, caddy)
        try:
            yield host
        finally:
            with suppress(BackoutError):  # also those that an adapter made; where a test removed the tag, ours alone
                host.made[:] = host.releases.list()
            for release in host.made:
                processes.stop(release)


@contextmanager
def running_caddy(folder: Path, releases: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """Run Caddy with the configuration in a folder.

    Args:
        releases: a folder of releases that it shows; None: the one in that folder.
    """
    caddy = _start_caddy(folder)
    shown = (releases or folder / "releases") / SOCKET
    try:
        until(lambda: accepts(f"unix/{shown}"), 10, "Caddy's socket", process=caddy)
        yield caddy
    finally:
        caddy.terminate()
        caddy.communicate()


def _start_caddy(folder: Path) -> subprocess.Popen[str]:
    environment = {
        "PATH": os.defpath,
        "HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
        "XDG_DATA_HOME": str(folder),
    }
    with (folder / "caddy.log").open("w") as log:
        return subprocess.Popen(
            [str(find_caddy()), "run", "--config", str(folder / "caddy.json")],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            text=True,
        )


def make_config(folder: Path, address: str, ports: tuple[int, int]) -> object:
    """Return a site of Caddy with the application's route and an access log."""
    log = {
        "writer": {"output": "file", "filename": str(folder / "access.log")},
        "encoder": {"format": "json"},
        "include": ["http.log.access.backout"],
    }
    releases = folder / "releases"
    routes = [make_route(ROUTE, releases, ports)]
    site = {"listen": [address], "logs": {"default_logger_name": "backout"}, "routes": routes}
    servers = {"backout": make_show_server(releases), "maintenance": make_maintenance_server(releases)}
    return {
        "admin": {"disabled": True},
        "logging": {"logs": {"default": {"exclude": ["http.log.access.backout"]}, "backout": log}},
        "apps": {"http": {"servers": {"site": site, **servers}}},
    }
