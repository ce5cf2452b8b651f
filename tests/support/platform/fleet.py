"""A fleet: many environments on a scripted platform, spoken for by commands, with visitors; and workers for them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from backout.config import Environment, load
from backout.model.version import Mark, VersionId, VersionMark
from backout.providers.child import find_free_ports, tie_to_parent
from backout.wiring.other_platform import find_other_platform
from backout.wiring.records import open_journal
from backout.wiring.worker import read_workers

from polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator

_HERE: Final = Path(__file__).parent
_PLATFORM: Final = _HERE / "fleet_platform.py"
_ENVIRONMENT: Final = """
[environments.{name}]
protected = false
criteria = {{ watch = "{watch}", latency = {{ p99_at_most = 1000.0 }} }}
health = {{ url = "http://127.0.1.{number}:{port}/{name}/health" }}
{pin}[environments.{name}.traffic]
provider = "logs"
logs = {{ path = "logs/{name}.jsonl" }}
[environments.{name}.platform]
provider = "command"
[environments.{name}.platform.command]
history = {argv}
current = {argv}
activate = {argv}
shares = {argv}
probe = {argv}
timeout = "60s"
environment = {{ FLEET_STATE = "state/{name}.json" }}
[environments.{name}.guard]
mode = "act"
"""


@dataclass
class Fleet:
    """The applications of a folder.

    Args:
        variables: what its workers find in their environment.
    """

    folder: Path
    names: tuple[str, ...]
    url: str
    variables: dict[str, str]
    workers: list[subprocess.Popen[str]] = field(default_factory=list)

    def deploy(self, name: str, version: str) -> None:
        """Push a version of an application, and make it live as a deploy script does it."""
        commit = version.encode().hex().ljust(40, "0")[:40]
        self._ask(name, command="push", made={"id": version, "commit": commit})
        assert "deployment" in self._ask(name, command="activate", version=version, message="deploy")

    def _ask(self, name: str, **request: object) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(_PLATFORM)], input=json.dumps(request), cwd=self.folder,
            env={"FLEET_STATE": f"state/{name}.json"}, text=True, capture_output=True, check=True,
        )  # fmt: skip
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def read_live(self, name: str) -> str:
        """Return the version that is live."""
        state = json.loads((self.folder / "state" / f"{name}.json").read_text())
        return str(next(each["version"] for each in state["deployments"][0]["shares"] if each["percentage"]))

    def read_switches(self, name: str) -> list[dict[str, Any]]:
        """Return every switch, oldest first."""
        path = self.folder / "state" / f"{name}.ledger"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def read_looks(self) -> dict[str, list[float]]:
        """Return when each application's health was looked at, by the server's own clock."""
        with urllib.request.urlopen(f"{self.url}/looks") as answer:
            found: dict[str, list[float]] = json.load(answer)
        return found

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
def fleet(folder: Path, count: int, *, journal_url: str = "", rate: float = 8.0, watch: str = "30s") -> Iterator[Fleet]:
    """Run the applications of a new fleet, each with `good-1` live.

    Args:
        journal_url: of a journal on a server; "": a file.
        rate: visitors a second, of each.
    """
    (port,) = find_free_ports(1)
    names = tuple(f"app-{number}" for number in range(count))
    for each in ("state", "logs"):
        (folder / each).mkdir()
    for name in names:
        (folder / "state" / f"{name}.json").write_text('{"versions": [], "deployments": []}')
        (folder / "logs" / f"{name}.jsonl").touch()
    made = Fleet(folder, names, f"http://127.0.0.1:{port}", {"BACKOUT_JOURNAL_URL": journal_url} if journal_url else {})
    _write_config(made, watch, {})
    pins = {}
    at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    for name in names:
        platform = find_other_platform(load_config(folder, name, made.variables))
        assert platform is not None
        pins[name] = f'pin = {{ conformance = "{at}/{platform.fingerprint()}" }}\n'
        made.deploy(name, "good-1")
    _write_config(made, watch, pins)
    _mark_stable(made)
    argv = (sys.executable, "-I", "-S", str(_HERE / "fleet_server.py"), str(folder), str(port), str(rate), str(count))
    server = subprocess.Popen(tie_to_parent(argv, signal.SIGKILL))
    try:
        until(lambda: _answers(made.url), 20, "the fleet's server")
        yield made
    finally:
        made.stop()
        server.kill()
        server.wait()


def _mark_stable(fleet: Fleet) -> None:
    """Have the journal know that `good-1` was watched and found healthy."""
    journal = open_journal(load_config(fleet.folder, None, fleet.variables))
    for name in fleet.names:
        mark = VersionMark(Mark.STABLE, VersionId("good-1"), None, time.time(), "guard-1", "a long watch")
        journal.mark(name, mark, actor="the fleet")
    journal.close()


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(f"{url}/looks").close()
    except OSError:
        return False
    return True


def _write_config(fleet: Fleet, watch: str, pins: dict[str, str]) -> None:
    argv = json.dumps([sys.executable, "-I", "-S", str(_PLATFORM)])
    parts = ['[app]\nname = "fleet"\n']
    if fleet.variables:
        parts.append('[journal]\nurl_env = "BACKOUT_JOURNAL_URL"\n')
    parts += [
        _ENVIRONMENT.format(
            name=name, number=number, watch=watch, port=fleet.url.rpartition(":")[2], argv=argv, pin=pins.get(name, "")
        )
        for number, name in enumerate(fleet.names)
    ]
    (fleet.folder / "backout.toml").write_text("".join(parts))
