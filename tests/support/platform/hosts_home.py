"""An environment on two hosts behind a real sshd and a real Caddy each, driven by commands."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from caddy_home import APPLICATION
from cli_shell import backout
from ssh_lab import ssh_hosts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cli_shell import Answer
    from ssh_lab import SshHosts

_CONFIG: Final = """[app]
name = "shop"
[environments.production]
protected = false
criteria = {{ watch = "3m", latency = {{ p99_at_most = 1000.0 }} }}
health = {{ url = "{url}/health" }}
traffic = {{ provider = "caddy" }}
[environments.production.platform]
provider = "caddy"
[environments.production.platform.caddy]
releases = "/srv/shop/releases"
start = "{service} start {{release}} {{port}} {{folder}}"
stop = "{service} stop {{release}} {{port}} {{folder}}"
starts_within = "60s"
ssh_config = "ssh_config"
{hosts}
[environments.production.guard]
mode = "act"
"""
_HOST: Final = """[environments.production.platform.caddy.hosts.{name}]
ssh = "{name}"
releases = "{folder}/releases"
access_log = "{folder}/access.log"
ports = [{first}, {last}]
"""


@dataclass
class HostsShop:
    """The environment `production` of a folder; its health is asked for at the first host."""

    hosts: SshHosts

    def run(self, *words: str, code: int | None = 0) -> Answer:
        """Run a command in this environment; it has to end with that code, None: with any."""
        answer = backout(self.hosts.folder, *words, "-e", "production", "--no-input")
        assert code in (None, answer.code), f"{words} ended with {answer.code}\n{answer.out}\n{answer.err}"
        return answer

    def push(self, code: str, *more: str, ends: int = 0) -> Answer:
        """Push a release with this code."""
        build = self.hosts.folder / "build"
        build.mkdir(exist_ok=True)
        (build / "server.py").write_text(APPLICATION)
        (build / "code.txt").write_text(code)
        return self.run("release", "push", str(build), "--json", *more, code=ends)


@contextlib.contextmanager
def hosts_home(folder: Path) -> Iterator[HostsShop]:
    """Run the hosts, and an environment without any release."""
    with ssh_hosts(folder) as hosts:
        tables = [
            _HOST.format(name=name, folder=host.folder, first=host.caddy.ports[0], last=host.caddy.ports[1])
            for name, host in hosts.hosts.items()
        ]
        url = hosts.hosts["web1"].caddy.url
        text = _CONFIG.format(url=url, service=hosts.service, hosts="".join(tables))
        (folder / "backout.toml").write_text(text)
        yield HostsShop(hosts)
