"""A switch of releases behind Caddy under 200 requests a second, beside an nginx that is reloaded and a stop and start.

Each side serves the same two releases, and each switch makes the other one live: every second switch is a rollback.
backout's is `providers.caddy`, with its ledger, its fsyncs and its reading back; nginx gets a new upstream and a
reload; the last side stops one process and starts the other at the same port. A switch has ended for visitors with the
first of five answers in a row, each on a connection of its own, that the new release gave. Goal: no failed request of
20,000.

    .venv/bin/python benchmarks/hosts.py [--switches 100] [--json]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
from abc import ABC, abstractmethod
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from shared import measure

from backout.model.release import ReleaseNote
from backout.model.secrets import SecretValues
from backout.providers.caddy.agent import accepts
from backout.providers.caddy.deployments import CaddyDeployments
from backout.providers.caddy.host import HostReleases
from backout.providers.caddy.hosts import Host
from backout.providers.caddy.ledger import Ledger
from backout.providers.caddy.processes import OwnProcesses
from backout.providers.caddy.releases import ReleaseFolder
from backout.providers.caddy.route import SOCKET, make_route, make_show_server
from backout.providers.caddy.slots import LiveSlots
from backout.providers.clock import SystemClock
from backout.twin.traffic import VERSION_HEADER, Limits, Route, Traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

RATE_PER_S = 200.0
IN_A_ROUND = 10
BETWEEN_S = 1.0
IN_A_ROW = 5
PATIENCE_S = 30.0
RELEASES = ("red", "blue")
_SERVER = f"""import http.server, os, pathlib
name = pathlib.Path("code.txt").read_text()
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.wfile.write(
            f"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n{VERSION_HEADER}: {{name}}\\r\\n\\r\\nok".encode())
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 512
Server(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


class Side(ABC):
    """One way to switch; `url` is where visitors connect."""

    url: str

    @abstractmethod
    def switch(self, name: str) -> None:
        """Make a release live, and return when it is, as far as this way knows."""


class Caddy(Side):
    """backout's: releases in a folder, a link that Caddy asks for the address of each request."""

    def __init__(self, folder: Path, ends: contextlib.ExitStack) -> None:
        folder.mkdir()
        first = find_free_ports(8)
        site, own = first, (first + 1, first + 7)
        self.url = f"http://127.0.0.1:{site}"
        store, clock = ReleaseFolder(folder / "releases", own), SystemClock()
        store.prepare()
        (folder / "caddy.json").write_text(json.dumps(_configure_caddy(folder, f"127.0.0.1:{site}", own)))
        processes = OwnProcesses(store, f"{sys.executable} -S -E server.py")
        start(ends, [str(find_program("caddy")), "run", "--config", str(folder / "caddy.json")], folder)
        await_true(lambda: accepts(f"unix/{folder / 'releases' / SOCKET}"), "Caddy")
        ledger = Ledger(folder / "releases")
        hosts = (Host(store, ledger, LiveSlots(store.folder), processes),)
        releases = HostReleases(hosts, clock, author="benchmark", starts_within_s=PATIENCE_S)
        self._deployments = CaddyDeployments(hosts, releases, clock, author="benchmark")
        self._ids: dict[str, str] = {}
        for name in RELEASES:
            with ledger.lock():
                made = store.push(
                    write_release(folder / name, name), ReleaseNote(), SecretValues({}), clock.now(), author="benchmark"
                )
            ends.callback(processes.stop, made)
            self._ids[name] = made.id

    def switch(self, name: str) -> None:
        """Switch as a rollback does: read what is live, switch if it still is, read back."""
        self._deployments.history()
        self._deployments.activate(self._ids[name], message="benchmark", force=True)


class Nginx(Side):
    """An upstream in a file of its own, and `nginx -s reload`."""

    def __init__(self, folder: Path, ends: contextlib.ExitStack) -> None:
        folder.mkdir()
        site = find_free_ports(3)
        self.url = f"http://127.0.0.1:{site}"
        self._upstream = folder / "upstream.conf"
        self._ports = {name: site + 1 + number for number, name in enumerate(RELEASES)}
        for name, port in self._ports.items():
            start(ends, [sys.executable, "-S", "-E", "server.py"], write_release(folder / name, name), PORT=str(port))
            await_true(partial(accepts, f"127.0.0.1:{port}"), "a release")
        (folder / "nginx.conf").write_text(
            f"daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 2;"
            "events { worker_connections 1024; }"
            f"http {{ access_log {folder}/access.log; client_body_temp_path {folder}/body;"
            f" proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u;"
            f" scgi_temp_path {folder}/s; include {self._upstream};"
            f" server {{ listen 127.0.0.1:{site}; location / {{ proxy_pass http://app; proxy_http_version 1.1;"
            ' proxy_set_header Connection ""; } } }'
        )
        self._program = [str(find_program("nginx")), "-c", str(folder / "nginx.conf"), "-p", str(folder)]
        self._write(RELEASES[0])
        start(ends, self._program, folder)
        await_true(lambda: accepts(f"127.0.0.1:{site}"), "nginx")

    def _write(self, name: str) -> None:
        written = self._upstream.with_suffix(".new")
        written.write_text(f"upstream app {{ server 127.0.0.1:{self._ports[name]}; keepalive 16; }}")
        written.replace(self._upstream)

    def switch(self, name: str) -> None:
        """Write the upstream and reload."""
        self._write(name)
        subprocess.run([*self._program, "-s", "reload"], check=True, capture_output=True)


class Restart(Side):
    """The one process at the port is stopped, and the other one started."""

    def __init__(self, folder: Path, ends: contextlib.ExitStack) -> None:
        folder.mkdir()
        self._port = find_free_ports(1)
        self.url = f"http://127.0.0.1:{self._port}"
        self._folders = {name: write_release(folder / name, name) for name in RELEASES}
        self._ends = ends.enter_context(contextlib.ExitStack())
        self.switch(RELEASES[0])

    def switch(self, name: str) -> None:
        """Stop what runs, start the other, and wait until it accepts."""
        self._ends.close()
        start(self._ends, [sys.executable, "-S", "-E", "server.py"], self._folders[name], PORT=str(self._port))
        await_true(lambda: accepts(f"127.0.0.1:{self._port}"), "the release")


SIDES: Mapping[str, Callable[[Path, contextlib.ExitStack], Side]] = {
    "backout": Caddy,
    "nginx": Nginx,
    "restart": Restart,
}


def find_program(name: str) -> Path:
    """Return a program that a wheel brought."""
    packages = Path(sysconfig.get_path("purelib"))
    places = [Path(sysconfig.get_path("scripts"), name), packages / ".data" / "scripts" / name]
    places = [*packages.glob(f"{name}_wheel/bin/*/{name}"), *places]
    for place in places:
        if place.is_file():
            place.chmod(place.stat().st_mode | 0o111)
            return place
    sys.exit(f"hosts: there is no {name}; install requirements/bench.txt")


def find_free_ports(count: int) -> int:
    """Return the first of some ports in a row on which nobody listens, apart from those of clients."""
    while True:
        first = random.randrange(12000, 32000 - count)  # noqa: S311 - any will do
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first


def write_release(folder: Path, name: str) -> Path:
    """Write a release into a folder and return the folder."""
    folder.mkdir()
    (folder / "server.py").write_text(_SERVER)
    (folder / "code.txt").write_text(name)
    return folder


def _configure_caddy(folder: Path, address: str, ports: tuple[int, int]) -> object:
    releases = folder / "releases"
    log = {"writer": {"output": "file", "filename": str(folder / "access.log")}, "encoder": {"format": "json"}}
    site = {
        "listen": [address],
        "logs": {"default_logger_name": "backout"},
        "routes": [make_route("benchmark", releases, ports)],
    }
    return {
        "admin": {"disabled": True},
        "logging": {"logs": {"default": log}},
        "apps": {"http": {"servers": {"site": site, "backout": make_show_server(releases)}}},
    }


def start(ends: contextlib.ExitStack, argv: list[str], folder: Path, **variables: str) -> None:
    """Start a program in a folder; it is ended with the stack."""
    environment = {"PATH": os.defpath, "HOME": str(folder), **variables}
    program = subprocess.Popen(
        argv,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    ends.callback(program.wait)
    ends.callback(program.terminate)


def await_true(is_so: Callable[[], bool], what: str) -> None:
    """Wait for something to become true; the benchmark ends where it does not."""
    until = time.monotonic() + PATIENCE_S
    while not is_so():
        if time.monotonic() > until:
            sys.exit(f"hosts: {what} did not come up within {PATIENCE_S:.0f} s")
        time.sleep(0.005)


def ask(url: str) -> str:
    """Return which release answers, on a connection of its own; "" where none does."""
    try:
        with urllib.request.urlopen(f"{url}/probe", timeout=2) as answer:
            return str(answer.headers[VERSION_HEADER])
    except OSError:
        return ""


def measure_switch(side: Side, name: str) -> float:
    """Switch, and return after how many seconds visitors had the new release."""
    began = time.monotonic()
    side.switch(name)
    in_a_row, first = 0, 0.0
    while in_a_row < IN_A_ROW:
        if time.monotonic() - began > PATIENCE_S:
            sys.exit(f"hosts: {type(side).__name__} did not show {name} within {PATIENCE_S:.0f} s")
        at = time.monotonic()
        if ask(side.url) == name:
            in_a_row, first = in_a_row + 1, first or at
        else:
            in_a_row, first = 0, 0.0
    return first - began


class Found:
    """What became of one side: seconds of each switch, requests, and how many failed."""

    def __init__(self) -> None:
        self.switches: list[float] = []
        self.requests = self.failed = 0

    def take_round(self, side: Side, number: int) -> None:
        """Have visitors while it is switched back and forth."""
        traffic = Traffic(
            side.url, "localhost", RATE_PER_S, (Route("GET", "/page", 1.0),), number, limits=Limits(for_s=600.0)
        )
        traffic.start()
        for turn in range(IN_A_ROUND):
            due = time.monotonic() + BETWEEN_S
            self.switches.append(measure_switch(side, RELEASES[(turn + 1) % 2]))
            time.sleep(max(0.0, due - time.monotonic()))
        seen = traffic.stop()
        self.requests += seen.requests + seen.unsent
        self.failed += seen.errors + seen.unsent


@contextlib.contextmanager
def running() -> Iterator[Mapping[str, Side]]:
    """Run all sides, each with its first release live."""
    with tempfile.TemporaryDirectory(prefix="backout-bench-") as folder, contextlib.ExitStack() as ends:
        sides: dict[str, Side] = {name: kind(Path(folder) / name, ends) for name, kind in SIDES.items()}
        for side in sides.values():
            measure_switch(side, RELEASES[0])
        yield sides


def main() -> None:
    """Measure, and print a table or one `backout.benchmark/1`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument("--switches", type=int, default=100, help="of each side, a multiple of ten")
    options = parser.parse_args()
    found = {name: Found() for name in SIDES}
    order = random.Random(1)  # noqa: S311 - an order, no secret
    with running() as sides:
        for number in range(max(1, options.switches // IN_A_ROUND)):
            for name in order.sample(list(sides), len(sides)):
                found[name].take_round(sides[name], number)
    ours, peer = found["backout"], found["nginx"]
    record = {
        "schema": "backout.benchmark/1",
        "name": "hosts",
        "machine": measure.describe_machine(),
        "samples": {
            **{f"{name}_switch_s": each.switches for name, each in found.items()},
            **{f"{name}_requests": [each.requests] for name, each in found.items()},
            **{f"{name}_failed": [each.failed] for name, each in found.items()},
        },
        "ratios": {
            "switch_s": measure.ratio(ours.switches, peer.switches),
            "failed": ours.failed / ours.requests,
            "nginx_failed": peer.failed / peer.requests,
            "restart_failed": found["restart"].failed / found["restart"].requests,
        },
        "n": {"switch_s": len(ours.switches), "failed": ours.requests, "nginx_failed": peer.requests},
        "bound95": {"switch_s": measure.ratio_bound(ours.switches, peer.switches)},
    }
    if options.json:
        print(measure.as_json(record))
        return
    print(f"hosts: {len(ours.switches)} switches each at {RATE_PER_S:.0f} requests/s ({record['machine']})")
    print("            switch, median (longest)    requests   failed")
    for name, each in found.items():
        median, longest = statistics.median(each.switches), max(each.switches)
        print(f"  {name:<8}  {median * 1000:7.0f} ms ({longest * 1000:.0f} ms){each.requests:14,}{each.failed:9,}")


if __name__ == "__main__":
    main()
