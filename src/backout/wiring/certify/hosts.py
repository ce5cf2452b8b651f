"""The stage of `backout certify` on hosts: Caddy, Postgres, S3 and email, and a release of the old and the new code.

Where the kernel lets this user make a network namespace, releases run without a network and reach those parts alone;
where it does not, the result says so.
"""

from __future__ import annotations

import contextlib
import secrets
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from backout.model.release import ReleaseNote
from backout.model.secrets import SecretValues
from backout.providers.caddy.deployments import CaddyDeployments
from backout.providers.caddy.host import HostReleases
from backout.providers.caddy.hosts import Host
from backout.providers.caddy.ledger import Ledger
from backout.providers.caddy.processes import OwnProcesses
from backout.providers.caddy.releases import ReleaseFolder
from backout.providers.caddy.slots import LiveSlots
from backout.providers.clock import SystemClock
from backout.twin import lifecycle
from backout.twin.home import HOSTS, mark_own_process
from backout.twin.hosts import sealed
from backout.wiring.certify.own_twin import OwnTwin
from backout.wiring.certify.twin import Code, TwinApplication

if TYPE_CHECKING:
    from collections.abc import Collection

    from backout.twin.lifecycle import TwinStatus

_MOST_OF_FILE, _MOST_BYTES = 4 * 1024 * 1024, 64 * 1024 * 1024
_OF_OTHERS: Final = frozenset({"node_modules", "site-packages", ".venv", ".git"})
_SEALED: Final = "calls to the outside: there was no network for them, and which were made was not seen"
_NOT_SEALED: Final = "calls to the outside: the network could not be denied ({why}), and which were made was not seen"


class HostsCertifyStage(OwnTwin):
    """A twin of a host; its secrets are made up, and the same for both releases.

    Args:
        run: the command line that runs a release, as `platform.caddy.run`.
        variables: of the trial alone; in a value `{NAME}` is one of the twin's own.
    """

    def __init__(self, run: str, variables: SecretValues) -> None:
        super().__init__()
        self._run = run
        self._given = variables
        self._secrets: dict[str, str] = {}

    def _start(self, directory: Path) -> TwinStatus:
        return lifecycle.start_twin(directory, kind=HOSTS, owner=mark_own_process())

    def _open(self, twin: TwinStatus) -> None:
        self._url = str(twin.ingress_url)
        lines = Path(twin.env_file).read_text(encoding="utf-8").splitlines()
        self._parts = dict(line.split("=", 1) for line in lines)
        self.obstacle = sealed.find_obstacle()
        place, (first, last) = Path(twin.releases), twin.ports
        folder = ReleaseFolder(place, (first, last))
        self._host = Host(folder, Ledger(place), LiveSlots(place), OwnProcesses(folder, self._make_run()))
        self._releases = HostReleases([self._host], SystemClock(), author="certify")
        self._deployments = CaddyDeployments([self._host], self._releases, SystemClock(), author="certify")

    def deploy_folder(self, folder: Path, names: Collection[str]) -> Code:
        """Make a release of a folder, and have it run.

        Args:
            folder: as `backout release push` takes it.
            names: of the secrets that the code needs.

        Raises:
            UsageError: it is no folder, or holds what cannot be copied.
            BackoutError: it cannot be copied, or does not start.
        """
        for name in sorted(names):
            self._secrets.setdefault(name, secrets.token_hex(16))
        environment = {**{name: self._secrets[name] for name in names}, **self._parts, **self._fill_in()}
        made = self._releases.add(folder, ReleaseNote("", "", "certify"), SecretValues(environment))
        self._releases.start(made.id)
        return Code(made.id, made.code_hash, _read_text(self._host.releases.get_code(made.id)))

    def open_application(self, old: Code, new: Code) -> TwinApplication:
        """Return the application in both versions."""
        said = _NOT_SEALED.format(why=self.obstacle) if self.obstacle else _SEALED
        return TwinApplication(
            self._url,
            lambda version: self._activate(old if version == "old" else new),
            lambda: (said,),
            host=urlsplit(self._url).netloc,
        )

    def _activate(self, code: Code) -> None:
        self._deployments.activate(code.version, message="certify", force=True)

    def _make_run(self) -> str:
        """Return the command line that runs a release, without a network where that can be done."""
        if self.obstacle:
            return self._run
        urls = (urlsplit(value) for value in self._parts.values() if "://" in value)
        ports = sorted({url.port for url in urls if url.port is not None})
        return shlex.join(sealed.make_sealed_command(ports, shlex.split(self._run)))

    def _fill_in(self) -> dict[str, str]:
        filled = {}
        for name in self._given.names:
            text = self._given.reveal(name)
            for part, own in self._parts.items():
                text = text.replace(f"{{{part}}}", own)
            filled[name] = text
        return filled


def _read_text(folder: Path) -> str:
    """Return the text of the code, without that of its packages; of very much of it only a part."""
    texts, left = [], _MOST_BYTES
    for path in sorted(folder.rglob("*")):
        if _OF_OTHERS.isdisjoint(path.relative_to(folder).parts) and path.is_file() and not path.is_symlink():
            size = path.stat().st_size
            if size <= min(_MOST_OF_FILE, left):
                left -= size
                with contextlib.suppress(UnicodeDecodeError):
                    texts.append(path.read_text(encoding="utf-8"))
    return "\n".join(texts)
