"""Hosts behind a real sshd each, on loopback: a key of the test's own, and a configuration of ssh that knows them.

`.ci/run` installs Debian's package; without it these tests are skipped.
"""

from __future__ import annotations

import functools
import getpass
import os
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from caddy_lab import caddy_host, find_free_ports

from backout.providers.caddy.agent import accepts
from backout.providers.caddy.deployments import CaddyDeployments
from backout.providers.caddy.host import HostReleases
from backout.providers.caddy.hosts import Host
from backout.providers.caddy.ledger import Ledger
from backout.providers.caddy.processes import RemoteProcesses
from backout.providers.caddy.releases import ReleaseFolder
from backout.providers.caddy.slots import LiveSlots
from backout.providers.caddy.ssh import SshMachine
from backout.providers.child import tie_to_parent
from backout.providers.child_environment import make_sealed_environment
from backout.providers.clock import SystemClock

from polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from caddy_lab import CaddyHost

NAMES: Final = ("web1", "web2")
PROGRAMS: Final = ("bash", "sh", "env", "dirname", "cat", "kill", "rm", "setsid", "curl", "ls", "ln", "mv", "tail")
"""What a host has, besides python3: nobody's own settings of a shell get in the way."""
_SSHD: Final = """ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {key}.pub
PidFile none
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
LogLevel ERROR
SetEnv HOME={folder} PATH={programs}
"""
_CLIENT: Final = """Host {name}
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile {key}
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  StrictHostKeyChecking yes
"""
_SERVICE: Final = """place=$(dirname "$4")
case "$1" in
start)
  if [ -e "$place/pid" ] && kill -0 "$(cat "$place/pid")" 2>/dev/null; then exit 0; fi
  cd "$4" || exit 1
  PORT="$3" RELEASE="$2" setsid {python} -S -E server.py </dev/null >/dev/null 2>&1 &
  echo $! > "$place/pid" ;;
stop)
  if [ -e "$place/pid" ]; then kill "$(cat "$place/pid")"; rm "$place/pid"; fi
  exit 0 ;;
esac
"""


def need_sshd() -> str:
    """Return sshd's path; skip the test where it is not installed, and say how to install it."""
    found = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None or shutil.which("ssh") is None:
        pytest.skip("needs sshd: apt-get install openssh-server")
    return found


@dataclass
class SshHost:
    """A host: its sshd, its Caddy, its folder of releases."""

    name: str
    caddy: CaddyHost
    port: int
    folder: Path
    sshd: subprocess.Popen[bytes] | None = None

    @property
    def releases(self) -> Path:
        """The folder of releases."""
        return self.caddy.releases.folder

    def stop_ssh(self) -> None:
        """Have nobody reach it any more, and end the connections that there are."""
        assert self.sshd is not None
        subprocess.run(["pkill", "-P", str(self.sshd.pid)], check=False)  # noqa: S607
        self.sshd.terminate()
        self.sshd.wait()
        self.sshd = None

    def start_ssh(self) -> None:
        """Have it be reached."""
        words = tie_to_parent((need_sshd(), "-D", "-e", "-f", str(self.folder / "sshd_config")), signal.SIGTERM)
        with (self.folder / "sshd.log").open("ab") as log:
            environment = make_sealed_environment({"PATH": os.defpath})
            self.sshd = subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(lambda: accepts(f"127.0.0.1:{self.port}"), 30, "sshd", process=self.sshd)


@dataclass
class SshHosts:
    """Some hosts, and how ssh knows them."""

    folder: Path
    hosts: dict[str, SshHost] = field(default_factory=dict)
    opened: list[SshMachine] = field(default_factory=list)

    @property
    def config(self) -> Path:
        """The configuration of ssh."""
        return self.folder / "ssh_config"

    @property
    def service(self) -> str:
        """A command that starts or stops a release, but for the word that says which of both."""
        return f"/bin/sh {shlex.quote(str(self.folder / 'service'))}"

    def open_hosts(self) -> tuple[Host, ...]:
        """Return the hosts, with connections of their own."""
        made = []
        for each in self.hosts.values():
            machine = SshMachine(each.name, each.name, config=self.config, answer_s=120)
            self.opened.append(machine)
            folder = ReleaseFolder(each.releases, each.caddy.ports, machine)
            rest = "{release} {port} {folder}"
            processes = RemoteProcesses(folder, f"{self.service} start {rest}", f"{self.service} stop {rest}")
            made.append(Host(folder, Ledger(each.releases, machine), LiveSlots(each.releases, machine), processes))
        return tuple(made)

    def open_ports(self) -> tuple[CaddyDeployments, HostReleases]:
        """Return the ports, as another process would open them."""
        hosts = self.open_hosts()
        releases = HostReleases(hosts, SystemClock(), author="lab", starts_within_s=60)
        return CaddyDeployments(hosts, releases, SystemClock(), author="lab"), releases

    @functools.cached_property
    def ports(self) -> tuple[CaddyDeployments, HostReleases]:
        """The ports of one process."""
        return self.open_ports()

    def stop_releases(self) -> None:
        """Stop whatever runs."""
        for pid in self.folder.glob("*/releases/*/pid"):
            subprocess.run(["/bin/sh", "-c", f"kill $(cat {shlex.quote(str(pid))})"], check=False)


@contextmanager
def ssh_hosts(folder: Path, names: Sequence[str] = NAMES) -> Iterator[SshHosts]:
    """Run hosts, each with an application that has no release yet."""
    need_sshd()
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where sshd separates its privileges
    key = folder / "key"
    make_key(key)
    made = SshHosts(folder)
    programs = folder / "programs"
    programs.mkdir()
    for name in PROGRAMS:
        (programs / name).symlink_to(shutil.which(name) or name)
    (programs / "python3").symlink_to(Path(sys.executable).resolve())
    (folder / "service").write_text(_SERVICE.format(python=sys.executable))
    with ExitStack() as ends:
        ends.callback(lambda: [each.close() for each in made.opened])
        for name in names:
            own = folder / name
            own.mkdir()
            port = find_free_ports(1)[0]
            make_key(own / "host_key")
            public = (own / "host_key.pub").read_text()
            (own / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}")
            (own / "sshd_config").write_text(_SSHD.format(port=port, folder=own, key=key, programs=programs))
            with made.config.open("a") as config:
                config.write(_CLIENT.format(name=name, port=port, folder=own, key=key, user=getpass.getuser()))
            host = SshHost(name, ends.enter_context(caddy_host(own, prepared=False)), port, own)
            host.start_ssh()
            ends.callback(lambda host=host: host.sshd and host.stop_ssh())
            made.hosts[name] = host
        try:
            yield made
        finally:
            made.stop_releases()


def make_key(path: Path) -> None:
    """Make a pair of keys."""
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL, capture_output=True)
