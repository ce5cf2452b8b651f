"""The applications of a fleet on a plain host: one Caddy with a site for each, releases of a few lines of Python."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from caddy_home import APPLICATION
from caddy_lab import find_free_ports, make_config, running_caddy
from fleet_part import list_served

from backout.errors import BackoutError
from backout.providers.caddy.agent import ask
from backout.providers.caddy.processes import OwnProcesses
from backout.providers.caddy.releases import ReleaseFolder
from backout.providers.caddy.route import SOCKET

from drillbook import ENV, PROGRAM
from polling import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_PORTS: Final = 6
"""An application has so many releases at most, and one port for its site."""
_LINES: Final = """health = {{ url = "{url}/health" }}
traffic = {{ provider = "caddy" }}
[environments.{name}.platform]
provider = "caddy"
[environments.{name}.platform.caddy]
releases = "{name}/releases"
access_log = "{name}/access.log"
ports = [{first}, {last}]
run = "{python} -S -E server.py"
"""


@dataclass(frozen=True)
class Site:
    """One application.

    Args:
        folder: where its releases and its access log are.
        port: where Caddy answers for it; the ports of its releases follow.
    """

    folder: Path
    port: int

    @property
    def url(self) -> str:
        """Where visitors come."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def ports(self) -> tuple[int, int]:
        """The first and the last port of its releases."""
        return self.port + 1, self.port + _PORTS


@dataclass
class HostsPart:
    """Part of a fleet, see `Part`: what was served and looked at is read from Caddy's access log.

    Args:
        variables: what `backout release push` finds in its environment.
    """

    folder: Path
    sites: dict[str, Site]
    variables: Mapping[str, str]
    place: str = "behind Caddy"
    blur_s: float = 0.0
    _versions: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the applications."""
        return tuple(self.sites)

    @property
    def hosts(self) -> dict[str, str]:
        """The address of each site by the Host header that is sent there."""
        return {f"{name}.example": f"127.0.0.1:{site.port}" for name, site in self.sites.items()}

    def describe(self, name: str) -> str:
        """Return an application's lines of backout.toml."""
        site = self.sites[name]
        first, last = site.ports
        return _LINES.format(name=name, url=site.url, first=first, last=last, python=sys.executable)

    def deploy(self, name: str, version: str) -> str:
        """Push a release with the real program, as a pipeline does it."""
        build = self.sites[name].folder / "build"
        build.mkdir(exist_ok=True)
        (build / "server.py").write_text(APPLICATION)
        (build / "code.txt").write_text(version)
        words = ("release", "push", str(build), "-e", name, "-m", version, "--json", "--no-input")
        done = subprocess.run(
            [str(PROGRAM), *words], cwd=self.folder, env={**ENV, **self.variables}, capture_output=True, text=True,
            check=False, timeout=4 * PATIENCE_S,
        )  # fmt: skip
        assert done.returncode == 0, f"{words} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        made = str(json.loads(done.stdout.splitlines()[-1])["release"]["id"])
        self._versions[made] = version
        return made

    def read_live(self, name: str) -> str:
        """Return the version that answers behind Caddy."""
        request = urllib.request.Request(f"{self.sites[name].url}/page")
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return self._versions[answer.headers["X-Release"]]
        except urllib.error.HTTPError as error:
            with error:
                return self._versions[error.headers["X-Release"]]

    def read_switches(self, name: str) -> list[dict[str, Any]]:
        """Return what the ledger beside the releases has of what Caddy showed, oldest first."""
        releases = self.sites[name].folder / "releases"
        lines = [json.loads(line) for line in (releases / "ledger.jsonl").read_text().splitlines()]
        shown = {each["id"] for each in lines if each["kind"] == "live"} | {ask(str(releases / SOCKET))[1].strip()}
        return [
            {"at": each["at"], "version": self._versions[each["shares"][0][0]], "message": each.get("message", "")}
            for each in lines
            if each["kind"] == "intended" and each["id"] in shown
        ]

    def read_served(self, name: str) -> list[str]:
        """Return the versions that Caddy passed visitors on to, in the order of their requests."""
        visits = [each for each in self._read_log(name) if "backout_probe" not in each and "/page" in _get_path(each)]
        visits.sort(key=lambda each: each["ts"] - each["duration"])
        answered = [each["resp_headers"]["X-Release"][0] for each in visits if "X-Release" in each["resp_headers"]]
        return list_served([self._versions[each] for each in answered])

    def read_looks(self) -> dict[str, list[float]]:
        """Return when backout asked for the health of what is live, by Caddy's clock."""
        return {name: sorted(each["ts"] for each in self._read_log(name) if _is_look(each)) for name in self.sites}

    def _read_log(self, name: str) -> list[dict[str, Any]]:
        path = self.sites[name].folder / "access.log"
        whole = path.read_text().rpartition("\n")[0] if path.exists() else ""  # Caddy may be writing the next line
        return [json.loads(line) for line in whole.splitlines()]


def _get_path(line: dict[str, Any]) -> str:
    return str(line["request"]["uri"])


def _is_look(line: dict[str, Any]) -> bool:
    """Whether it is one of backout's looks at what is live; a look at another release names its address."""
    return "X-Backout-Probe" in line["request"]["headers"] and "backout_probe" not in line


@contextlib.contextmanager
def hosts_part(folder: Path, count: int, variables: Mapping[str, str]) -> Iterator[HostsPart]:
    """Run Caddy with a site for each application until the block ends; none has a release yet."""
    first, _ = find_free_ports(count * (_PORTS + 1))
    names = [f"host-{number}" for number in range(count)]
    sites = {name: Site(folder / name, first + number * (_PORTS + 1)) for number, name in enumerate(names)}
    stores = [ReleaseFolder(site.folder / "releases", site.ports) for site in sites.values()]
    for store in stores:
        store.folder.parent.mkdir()
        store.prepare()
    (folder / "caddy.json").write_text(json.dumps(_make_caddy(sites)))
    try:
        with running_caddy(folder, stores[0].folder):
            yield HostsPart(folder, sites, variables)
    finally:
        for store in stores:
            with contextlib.suppress(BackoutError):  # a release that was pushed half is none yet
                for release in store.list():
                    OwnProcesses(store, "").stop(release)


def _make_caddy(sites: Mapping[str, Site]) -> dict[str, Any]:
    """Return Caddy's configuration: that of each site beside the others."""
    whole: dict[str, Any] = {"admin": {"disabled": True}, "logging": {"logs": {}}, "apps": {"http": {"servers": {}}}}
    for name, site in sites.items():
        made: Any = make_config(site.folder, f"127.0.0.1:{site.port}", site.ports)
        servers, logs = made["apps"]["http"]["servers"], made["logging"]["logs"]
        servers["site"]["logs"] = {"default_logger_name": name}
        servers["site"]["routes"][0]["@id"] = f"backout-{name}"
        whole["apps"]["http"]["servers"] |= {f"{name}-{part}": server for part, server in servers.items()}
        whole["logging"]["logs"][name] = {**logs["backout"], "include": [f"http.log.access.{name}"]}
    whole["logging"]["logs"]["default"] = {"exclude": [f"http.log.access.{name}" for name in sites]}
    return whole
