"""An environment behind a real HAProxy, spoken for by commands: versions with a process each, visitors, commands."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from caddy_home import APPLICATION, visits
from cli_shell import backout
from haproxy_lab import SCRIPT, haproxy_host

from backout.providers.caddy.agent import accepts
from backout.providers.child import find_free_ports

from polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cli_shell import Answer
    from haproxy_lab import HaproxyHost

_CONFIG: Final = """[app]
name = "shop"
[environments.production]
protected = false
criteria = {{ watch = "3m", latency = {{ p99_at_most = 1000.0 }} }}
health = {{ url = "{url}/health" }}
[environments.production.traffic]
provider = "logs"
logs = {{ path = "{log}", latency = "latency" }}
[environments.production.platform]
provider = "command"
[environments.production.platform.command]
history = {argv}
current = {argv}
activate = {argv}
shares = {argv}
probe = {argv}
timeout = "120s"
environment = {{ {variables} }}
[environments.production.guard]
mode = "act"
"""


@dataclass
class HaproxyShop:
    """The environment `production` of a folder."""

    host: HaproxyHost
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def run(self, *words: str, code: int | None = 0) -> Answer:
        """Run a command in this environment; it has to end with that code, None: with any."""
        answer = backout(self.host.folder, *words, "-e", "production", "--no-input")
        assert code in (None, answer.code), f"{words} ended with {answer.code}\n{answer.out}\n{answer.err}"
        return answer

    def start(self, version: str, code: str) -> None:
        """Start a version, and have HAProxy know it; it gets no traffic yet."""
        (port,) = find_free_ports(1)
        folder = self.host.folder / version
        folder.mkdir()
        (folder / "server.py").write_text(APPLICATION)
        (folder / "code.txt").write_text(code)
        given = {"PORT": str(port), "RELEASE": version}
        self.running.append(subprocess.Popen([sys.executable, "-S", "-E", "server.py"], cwd=folder, env=given))
        until(lambda: accepts(f"127.0.0.1:{port}"), 20, "the version's process")
        self.host.add_server(version, port, commit=version.encode().hex().ljust(40, "0")[:40])

    def deploy(self, version: str) -> None:
        """Make a version live as a deploy script does it, whatever is live."""
        request = {"protocol": "backout.platform/1", "command": "activate", "version": version, "message": "deploy"}
        done = subprocess.run(
            [sys.executable, "-I", str(SCRIPT)], input=json.dumps(request), env=self.host.variables, text=True,
            capture_output=True, check=True,
        )  # fmt: skip
        assert "deployment" in json.loads(done.stdout), done.stdout

    def visited(self) -> contextlib.AbstractContextManager[list[tuple[int, str]]]:
        """Have visitors; yields what each got so far: the status, and the version."""
        return visits(self.host.url)


@contextlib.contextmanager
def haproxy_home(folder: Path) -> Iterator[HaproxyShop]:
    """Run HAProxy and an environment without any version."""
    with haproxy_host(folder) as host:
        variables = ", ".join(f'{name} = "{value}"' for name, value in host.variables.items())
        argv = json.dumps([sys.executable, "-I", str(SCRIPT)])
        text = _CONFIG.format(url=host.url, log=host.log, argv=argv, variables=variables)
        (folder / "backout.toml").write_text(text)
        shop = HaproxyShop(host)
        try:
            yield shop
        finally:
            for each in shop.running:
                each.kill()
                each.wait()
