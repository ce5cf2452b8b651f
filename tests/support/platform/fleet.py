"""A fleet: many environments on several platforms, with visitors, in one backout.toml; and workers for them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fleet_hosts import hosts_part
from fleet_part import visitors
from fleet_scripted import ScriptedPart
from fleet_twin import twin_part

from backout.config import Environment, load
from backout.model.version import Mark, VersionId, VersionMark
from backout.providers.child import tie_to_parent
from backout.wiring.other_platform import find_other_platform
from backout.wiring.records import open_journal
from backout.wiring.toolbox import make_toolbox
from backout.wiring.worker import read_workers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet_part import Part

_ENVIRONMENT: Final = """
[environments.{name}]
protected = false
criteria = {{ watch = "{watch}", latency = {{ p99_at_most = 1000.0 }} }}
{lines}[environments.{name}.guard]
mode = "act"
"""


@dataclass
class Fleet:
    """The applications of a folder.

    Args:
        parts: a platform each, with its applications.
        variables: what its workers find in their environment.
    """

    folder: Path
    parts: tuple[Part, ...]
    variables: dict[str, str]
    workers: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def names(self) -> tuple[str, ...]:
        """Of all applications, which are those of their environments."""
        return tuple(name for part in self.parts for name in part.names)

    def find_part(self, name: str) -> Part:
        """Return the part that an application belongs to."""
        return next(part for part in self.parts if name in part.names)

    def deploy(self, name: str, version: str) -> str:
        """Deploy a version of an application as a deploy script does it, and return its id on its platform."""
        return self.find_part(name).deploy(name, version)

    def read_live(self, name: str) -> str:
        """Return the version that is live, as its platform says."""
        return self.find_part(name).read_live(name)

    def read_switches(self, name: str) -> list[dict[str, Any]]:
        """Return what was made live, oldest first, as its platform recorded it."""
        return self.find_part(name).read_switches(name)

    def read_served(self, name: str) -> list[str]:
        """Return the versions that were live, in order, each once in a row, as its platform recorded it."""
        return self.find_part(name).read_served(name)

    def read_looks(self) -> dict[str, list[float]]:
        """Return when each application's health was looked at, by the clock of the server that was asked."""
        return {name: looks for part in self.parts for name, looks in part.read_looks().items()}

    def start_worker(self, *words: str) -> subprocess.Popen[str]:
        """Start a worker; what it says is in `worker-N.log`."""
        number = len(self.workers)
        with (self.folder / f"worker-{number}.log").open("w") as log:
            process = subprocess.Popen(
                tie_to_parent((str(Path(sys.executable).parent / "backout"), "worker", *words), signal.SIGKILL),
                cwd=self.folder, env={**os.environ, **self.variables}, stdout=log, stderr=log, text=True,
            )  # fmt: skip
        self.workers.append(process)
        return process

    def read_log(self, number: int) -> str:
        """Return what a worker said."""
        return (self.folder / f"worker-{number}.log").read_text()

    def read_guards(self) -> dict[str, str]:
        """Return which worker guards each environment, as the journal says."""
        return read_workers(load_config(self.folder, None, self.variables))

    def stop(self) -> None:
        """End the workers that still run."""
        for each in self.workers:
            if each.poll() is None:
                each.send_signal(signal.SIGCONT)
                each.kill()
            each.wait()


def load_config(folder: Path, name: str | None, variables: dict[str, str]) -> Any:
    """Return the configuration of a fleet."""
    return load(Environment(variables), start=folder, environment=name)


@contextlib.contextmanager
def fleet(
    folder: Path,
    count: int,
    *,
    on_twin: int = 0,
    on_hosts: int = 0,
    journal_url: str = "",
    rate: float = 8.0,
    watch: str = "30s",
) -> Iterator[Fleet]:
    """Run the applications of a new fleet, each with `good-1` live.

    Args:
        count: how many are on the scripted platform.
        on_twin: on a twin of Cloudflare.
        on_hosts: behind one Caddy.
        journal_url: of a journal on a server; "": a file.
        rate: visitors a second, of each.
    """
    variables = {"BACKOUT_JOURNAL_URL": journal_url} if journal_url else {}
    scripted = ScriptedPart(folder, count)
    with contextlib.ExitStack() as running:
        parts: list[Part] = [scripted]
        served: dict[str, str] = {}
        if on_twin:
            twin = running.enter_context(twin_part(folder, on_twin))
            parts.append(twin)
            served |= twin.hosts
        if on_hosts:
            hosts = running.enter_context(hosts_part(folder, on_hosts, variables))
            parts.append(hosts)
            served |= hosts.hosts
        made = Fleet(folder, tuple(parts), variables)
        running.callback(made.stop)
        _write_config(made, watch)
        _pin(made, scripted)
        first = {name: made.deploy(name, "good-1") for name in made.names}
        _write_config(made, watch)
        _mark_stable(made, first, {name for name in made.names if name not in scripted.names})
        running.enter_context(scripted.serve(rate))
        if served:
            running.enter_context(visitors(rate, served))
        try:
            yield made
        finally:
            made.stop()


def _pin(fleet: Fleet, scripted: ScriptedPart) -> None:
    """Have the configuration say who each scripted application is."""
    at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    for name in scripted.names:
        platform = find_other_platform(load_config(fleet.folder, name, fleet.variables))
        assert platform is not None
        scripted.pins[name] = f'pin = {{ conformance = "{at}/{platform.fingerprint()}" }}\n'


def _mark_stable(fleet: Fleet, first: dict[str, str], hashed: set[str]) -> None:
    """Have the journal know that each first version was watched and found healthy.

    Args:
        hashed: where the platform tells the code of versions apart.
    """
    journal = open_journal(load_config(fleet.folder, None, fleet.variables))
    for name, version in first.items():
        code_hash = None
        if name in hashed:
            tools = make_toolbox(load_config(fleet.folder, name, fleet.variables))
            code_hash = tools.versions.detail(VersionId(version)).code_hash
        mark = VersionMark(Mark.STABLE, VersionId(version), code_hash, time.time(), "guard-1", "a long watch")
        journal.mark(name, mark, actor="the fleet")
    journal.close()


def _write_config(fleet: Fleet, watch: str) -> None:
    parts = ['[app]\nname = "fleet"\n']
    if fleet.variables:
        parts.append('[journal]\nurl_env = "BACKOUT_JOURNAL_URL"\n')
    parts += [
        _ENVIRONMENT.format(name=name, watch=watch, lines=part.describe(name))
        for part in fleet.parts
        for name in part.names
    ]
    (fleet.folder / "backout.toml").write_text("".join(parts))
