"""A host of releases without a Caddy: a folder, processes, and a machine that may be away."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from caddy_lab import SERVER, Failing, find_free_ports

from backout.errors import ProviderUnavailable
from backout.model.release import Release, ReleaseNote
from backout.model.secrets import SecretValues
from backout.providers.caddy.hosts import Host
from backout.providers.caddy.ledger import Ledger
from backout.providers.caddy.processes import OwnProcesses
from backout.providers.caddy.releases import ReleaseFolder
from backout.providers.caddy.slots import LiveSlots

if TYPE_CHECKING:
    from pathlib import Path


class BareHost:
    """The host web1."""

    def __init__(self, folder: Path) -> None:
        self.machine = Failing("web1")
        self._source = folder / "source"
        place = folder / "releases"
        releases = ReleaseFolder(place, find_free_ports(5), self.machine)
        releases.prepare()
        processes = OwnProcesses(releases, f"{sys.executable} -S -E server.py")
        self.host = Host(releases, Ledger(place, self.machine), LiveSlots(place, self.machine), processes)

    def push(self, code: str, source: str = "push") -> Release:
        """Push a release whose pages are `code`; it does not run."""
        self._source.mkdir(exist_ok=True)
        (self._source / "server.py").write_text(SERVER)
        (self._source / "code.txt").write_text(code)
        return self.host.releases.push(self._source, ReleaseNote(), SecretValues({}), 1.0, source=source)

    def go_away(self) -> None:
        """Have the host not be reached any more."""
        self.machine.fails = lambda _deed, _arguments: ProviderUnavailable("the host was not reached", where="web1")
