"""A real HAProxy on loopback with the commands of examples/platforms/haproxy.py; its servers are named as versions.

`.ci/run` installs Debian's package; without it these tests are skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from backout.providers.child import find_free_ports, tie_to_parent
from backout.providers.child_environment import make_sealed_environment
from backout.providers.command.calls import PlatformCommands

from polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.providers.command.protocol import Name

SCRIPT: Final = Path(__file__).parents[3] / "examples" / "platforms" / "haproxy.py"
NAMES: Final[tuple[Name, ...]] = ("history", "current", "activate", "shares", "probe")
BACKEND: Final = "shop"
_CONFIG: Final = """global
  stats socket {folder}/admin.sock mode 600 level admin
  server-state-file {folder}/state
defaults
  mode http
  timeout connect 5s
  timeout client 120s
  timeout server 120s
  load-server-state-from-file global
frontend web
  bind 127.0.0.1:{port}
  log stdout format raw daemon
  log-format "%{{+json}}o %(ts)Ts %(version)s %(status)ST %(latency)Ta %(bytes)B %(method)HM %(route)HU"
  http-request set-log-level silent if {{ req.hdr(x-backout-probe) -m found }}
  default_backend shop
backend shop
  balance roundrobin
  use-server %[req.hdr(x-backout-version)] if {{ req.hdr(x-backout-version) -m found }}
"""


def need_haproxy() -> None:
    """Skip the test where HAProxy is not installed, and say how to install it."""
    if shutil.which("haproxy") is None:
        pytest.skip("no haproxy: apt-get install haproxy")


@dataclass
class HaproxyHost:
    """A HAProxy, and the commands that speak for it.

    Args:
        variables: what the commands get.
        servers: name and port, as in its configuration.
    """

    folder: Path
    port: int
    variables: dict[str, str]
    servers: dict[str, int] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """The address of the site."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """The log of requests, one JSON object a line."""
        return self.folder / "access.log"

    def make_commands(self, *, timeout_s: float = 120.0) -> PlatformCommands:
        """Return the commands of this host."""
        return PlatformCommands(
            {name: (sys.executable, "-I", str(SCRIPT)) for name in NAMES},
            self.folder,
            timeout_s=timeout_s,
            make_environment=lambda: make_sealed_environment({**self.variables, "PATH": os.environ["PATH"]}),
            read_secrets=dict,
            write_line=lambda name: name,
            mask=str,
        )

    def ask(self, line: str) -> str:
        """Return what the runtime API answers."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.variables["HAPROXY_SOCKET"])
            connection.sendall(f"{line}\n".encode())
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()

    def add_server(self, version: str, port: int, **notes: str) -> None:
        """Have a server without traffic from now on, also after a restart; its deploy notes what is known of it."""
        self.servers[version] = port
        path = Path(self.variables["HAPROXY_NOTES"])
        known = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**known, version: notes}))
        assert "registered" in self.ask(f"add server {BACKEND}/{version} 127.0.0.1:{port} weight 0")
        self.ask(f"enable server {BACKEND}/{version}")

    def restart(self, sig: signal.Signals = signal.SIGTERM) -> None:
        """End it, and start it from its configuration and its state file."""
        self.stop(sig)
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        lines = [f"  server {name} 127.0.0.1:{port} weight 0\n" for name, port in self.servers.items()]
        settings = _CONFIG.format(folder=self.variables["HAPROXY_SOCKET"].rpartition("/")[0], port=self.port)
        (self.folder / "haproxy.cfg").write_text(settings + "".join(lines))
        argv = tie_to_parent(("haproxy", "-db", "-f", str(self.folder / "haproxy.cfg")), signal.SIGKILL)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(argv, stdout=log, stderr=subprocess.PIPE, text=True)
        until(self._answers, 20, "HAProxy", process=self.process)

    def stop(self, sig: signal.Signals = signal.SIGTERM) -> None:
        """End it."""
        assert self.process is not None
        self.process.send_signal(sig)
        self.process.communicate()

    def _answers(self) -> bool:
        try:
            return bool(self.ask("show info"))
        except OSError:
            return False


@contextmanager
def haproxy_host(folder: Path) -> Iterator[HaproxyHost]:
    """Run one without any server."""
    need_haproxy()
    with tempfile.TemporaryDirectory(prefix="ha-") as short:  # the path of a socket has at most 107 bytes
        (port,) = find_free_ports(1)
        variables = {
            "HAPROXY_SOCKET": f"{short}/admin.sock",
            "HAPROXY_BACKEND": BACKEND,
            "HAPROXY_STATE_FILE": f"{short}/state",
            "HAPROXY_BOOK": f"{short}/book.json",
            "HAPROXY_NOTES": f"{short}/notes.json",
        }
        host = HaproxyHost(folder, port, variables)
        host.start()
        try:
            yield host
        finally:
            host.stop()
