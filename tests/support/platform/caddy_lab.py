"""A real Caddy for tests: an admin socket, one site with an access log, and the route that backout switches."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import sysconfig
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from backout.model.secrets import SecretValues
from backout.providers.caddy.addresses import accepts
from backout.providers.caddy.admin import CaddyAdmin
from backout.providers.caddy.deployments import CaddyDeployments
from backout.providers.caddy.ledger import Ledger
from backout.providers.caddy.processes import OwnProcesses
from backout.providers.caddy.releases import Pushed, Release, ReleaseFolder
from backout.providers.clock import SystemClock

from polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.providers.caddy.processes import Processes

ROUTE: Final = "backout-shop"
_SERVER: Final = """import http.server, os, pathlib
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
    places = (Path(sysconfig.get_path("scripts"), "caddy"), Path(sysconfig.get_path("purelib"), ".data/scripts/caddy"))
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
    admin: CaddyAdmin
    releases: ReleaseFolder
    ledger: Ledger
    processes: OwnProcesses
    caddy: subprocess.Popen[str]
    made: list[Release] = field(default_factory=list)

    @property
    def deployments(self) -> CaddyDeployments:
        """Return the port, as another process would open it."""
        return self.make_deployments(self.processes)

    def make_deployments(self, processes: Processes, *, starts_within_s: float = 60.0) -> CaddyDeployments:
        """Return the port with other processes."""
        return CaddyDeployments(
            self.admin,
            ROUTE,
            self.releases,
            self.ledger,
            processes,
            SystemClock(),
            author="lab",
            starts_within_s=starts_within_s,
        )

    def stop_caddy(self) -> None:
        """End Caddy, as the host does when it goes down."""
        self.caddy.terminate()
        self.caddy.communicate()

    def remove_route(self) -> None:
        """Take the application's route out of Caddy, by hand."""
        self.write_config("/config/apps/http/servers/site/routes", [])

    def write_config(self, path: str, value: object) -> None:
        """Change Caddy's configuration as somebody else would, with curl."""
        line = ["curl", "-sS", "--fail-with-body", "--unix-socket", str(self.folder / "admin.sock"), "-X", "PATCH"]
        sent = ["-H", "Content-Type: application/json", "--data", json.dumps(value), f"http://localhost{path}"]
        subprocess.run([*line, *sent], check=True, capture_output=True)

    def push(
        self, code: str, *, message: str = "", tag: str = "", environment: dict[str, str] | None = None
    ) -> Release:
        """Push a release whose pages are `code`; the environment is the newest one's unless given."""
        source = self.folder / "source"
        source.mkdir(exist_ok=True)
        (source / "server.py").write_text(_SERVER)
        (source / "code.txt").write_text(code)
        newest = self.releases.list()[:1]
        values = self.releases.read_environment(newest[0].id) if newest and environment is None else None
        said = Pushed(tag=tag, message=message, author="lab")
        with self.ledger.lock():
            made = self.releases.push(source, said, values or SecretValues(environment or {}), SystemClock().now())
        self.made.append(made)
        return made


@contextmanager
def caddy_host(folder: Path, *, ports: int = 20) -> Iterator[CaddyHost]:
    """Run Caddy with an application that has no release yet."""
    releases = folder / "releases"
    releases.mkdir()
    site = find_free_ports(1)[0]
    (folder / "caddy.json").write_text(json.dumps(make_config(folder, f"127.0.0.1:{site}")))
    store = ReleaseFolder(releases, find_free_ports(ports))
    admin = CaddyAdmin(folder / "admin.sock")
    processes = OwnProcesses(store, f"{sys.executable} -S -E server.py")
    with running_caddy(folder) as caddy:
        host = CaddyHost(folder, f"http://127.0.0.1:{site}", admin, store, Ledger(releases), processes, caddy)
        try:
            yield host
        finally:
            for release in host.made:
                processes.stop(release)


@contextmanager
def running_caddy(folder: Path, *, resume: bool = False) -> Iterator[subprocess.Popen[str]]:
    """Run Caddy with the configuration in a folder, or with the one that it had last."""
    caddy = _start_caddy(folder, resume=resume)
    try:
        until(lambda: accepts(f"unix/{folder / 'admin.sock'}"), 10, "Caddy's admin socket", process=caddy)
        yield caddy
    finally:
        caddy.terminate()
        caddy.communicate()


def _start_caddy(folder: Path, *, resume: bool) -> subprocess.Popen[str]:
    environment = {
        "PATH": os.defpath,
        "HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
        "XDG_DATA_HOME": str(folder),
    }
    with (folder / "caddy.log").open("w") as log:
        return subprocess.Popen(
            [str(find_caddy()), "run", *(["--resume"] if resume else ["--config", str(folder / "caddy.json")])],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            text=True,
        )


def make_config(folder: Path, address: str) -> object:
    """Return a site of Caddy with the route, an access log, and the admin API on a socket."""
    log = {
        "writer": {"output": "file", "filename": str(folder / "access.log")},
        "encoder": {"format": "json"},
        "include": ["http.log.access.backout"],
    }
    empty = {"@id": ROUTE, "handle": [{"handler": "static_response", "status_code": 503}]}
    site = {"listen": [address], "logs": {"default_logger_name": "backout"}, "routes": [empty]}
    return {
        "admin": {"listen": f"unix/{folder / 'admin.sock'}|0600"},
        "logging": {"logs": {"default": {"exclude": ["http.log.access.backout"]}, "backout": log}},
        "apps": {"http": {"servers": {"site": site}}},
    }
